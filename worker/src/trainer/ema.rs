//! The running average of the weights, evaluated beside them: e += (1 - decay) * (w - e) after every step, over what
//! training moves, the trained parameters and the moving statistics. All else is the model's.
//!
//! In this form, PyTorch's too, the average of what stands still stands still. In decay * e + (1 - decay) * w the two
//! factors do not add up to 1 in f32, and with a decay of 0.9999 an average drifts off by up to 0.02 %.

use tch::Tensor;

use super::optimizer::pieces;
use crate::model::{ModelError, ResNet};

/// The averages, laid out like the model's flat tensors and on its device.
#[derive(Debug)]
pub(super) struct Ema {
    decay: f64,
    trained: Tensor,
    /// All of them, though only those of [`ResNet::moving_statistics`] count.
    statistics: Tensor,
}

impl Ema {
    /// Starts as a copy of the model's values.
    pub(super) fn new(decay: f64, model: &ResNet) -> Self {
        Self { decay, trained: model.trainable().copy(), statistics: model.statistics().copy() }
    }

    /// Starts anew from the model's values.
    pub(super) fn restart(&mut self, model: &ResNet) {
        tch::no_grad(|| {
            self.trained.copy_(model.trainable());
            self.statistics.copy_(model.statistics());
        });
    }

    /// Takes a step's result in.
    pub(super) fn update(&mut self, model: &ResNet) {
        let device = self.trained.device();
        let moving = model.moving_statistics().into_iter();
        let moving = moving.map(|range| (&self.statistics, model.statistics(), range));
        let trained = (&self.trained, model.trainable(), 0..self.trained.numel());
        tch::no_grad(|| {
            for (average, values, range) in moving.chain([trained]) {
                for piece in pieces(range, device) {
                    let part = |flat: &Tensor| flat.narrow(0, piece.start as i64, piece.len() as i64);
                    let _ = part(average).lerp_(&part(values), 1.0 - self.decay);
                }
            }
        });
    }

    /// By `state_dict` name; copies on the CPU.
    pub(super) fn named(&self, model: &ResNet) -> Vec<(String, Tensor)> {
        model.named_moving(&self.trained, &self.statistics)
    }

    /// The way back. What is not given, because it has been freed since, starts from the model's values.
    pub(super) fn load(&mut self, model: &ResNet, named: &[(String, Tensor)]) -> Result<(), ModelError> {
        (self.trained, self.statistics) = model.moving_from_named(named)?;
        Ok(())
    }

    /// Shows the model with the averages in it, and puts its own values back.
    pub(super) fn show<R>(&self, model: &mut ResNet, look: impl FnOnce(&ResNet) -> R) -> R {
        let (trained, statistics) = (model.trainable().copy(), model.statistics().copy());
        model.set_moving(&self.trained, &self.statistics);
        let seen = look(model);
        model.set_moving(&trained, &statistics);
        seen
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::model::{Freezing, FrozenBatchNorm, ModelName, ModelSpec, Trainable};

    fn model(trained: &[&str]) -> ResNet {
        let trainable = Trainable::Named(trained.iter().map(|&name| name.to_owned()).collect());
        let spec = ModelSpec::new(ModelName::Resnet18, 3);
        let freezing = Freezing { trainable, frozen_batch_norm: FrozenBatchNorm::Eval };
        let mut model = ResNet::new(spec, &freezing, Device::Cpu).unwrap();
        model.init(7);
        model
    }

    /// One step of a training that adds 1 to every parameter and brings statistics of 2.
    fn train(model: &mut ResNet) {
        let _ = model.trainable_mut().g_add_scalar_(1.0);
        let twos = model.statistics().full_like(2.0);
        model.move_statistics(&twos, 0.5);
    }

    #[test]
    fn the_average_follows_its_formula() {
        let mut model = model(&["fc.weight", "layer4.1.bn2.bias"]);
        let start = model.trainable().copy();
        let mut ema = Ema::new(0.75, &model);
        train(&mut model);
        ema.update(&model);
        train(&mut model);
        ema.update(&model);
        // 0.25 * 1, then 0.75 * 0.25 + 0.25 * 2.
        assert!(ema.trained.allclose(&(start + 0.6875), 1e-5, 1e-6, false));
        let named = ema.named(&model);
        let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        let norm = "layer4.1.bn2";
        let [bias, mean, variance] =
            ["bias", "running_mean", "running_var"].map(|part| format!("{norm}.{part}"));
        assert_eq!(names, [&*bias, &mean, &variance, "fc.weight"]);
        // Means go 0, 1, 1.5; variances 1, 1.5, 1.75.
        for (index, expected) in [(1, 0.75 * 0.25 + 0.25 * 1.5), (2, 0.75 * 1.125 + 0.25 * 1.75)] {
            let first = named[index].1.double_value(&[0]);
            assert!((first - expected).abs() < 1e-6, "{}: {first}", named[index].0);
        }
    }

    #[test]
    fn the_average_of_what_stands_still_stands_still() {
        let model = model(&["fc.weight", "layer4.1.bn2.bias"]);
        for decay in [0.3, 0.9, 0.999, 0.9999] {
            let mut ema = Ema::new(decay, &model);
            (0..100).for_each(|_| ema.update(&model));
            assert!(ema.trained.equal(model.trainable()), "{decay}");
            assert!(ema.statistics.equal(model.statistics()), "{decay}");
        }
    }

    #[test]
    fn the_model_keeps_every_bit_while_the_average_is_shown() {
        let mut model = model(&["fc.weight", "layer4.1.bn2.bias"]);
        let mut ema = Ema::new(0.75, &model);
        train(&mut model);
        ema.update(&model);
        let before = model.weights_digest();
        let shown = ema.show(&mut model, |shown| {
            assert!(shown.trainable().equal(&ema.trained));
            shown.weights_digest()
        });
        assert_ne!(shown, before);
        assert_eq!(model.weights_digest(), before);
    }

    #[test]
    fn an_average_comes_back_and_what_is_new_starts_from_the_model() {
        let mut narrow = model(&["fc.weight"]);
        let mut ema = Ema::new(0.75, &narrow);
        train(&mut narrow);
        ema.update(&narrow);
        let wide = model(&["fc.weight", "fc.bias", "layer4.1.bn2.bias"]);
        let mut loaded = Ema::new(0.75, &wide);
        loaded.load(&wide, &ema.named(&narrow)).unwrap();
        let averages = loaded.named(&wide);
        let average = |wanted: &str| &averages.iter().find(|(name, _)| name == wanted).unwrap().1;
        assert!(average("fc.weight").equal(&ema.named(&narrow)[0].1));
        let state = wide.state();
        let own = |wanted: &str| &state.iter().find(|(name, _)| name == wanted).unwrap().1;
        for name in ["fc.bias", "layer4.1.bn2.running_var", "layer4.1.bn2.bias"] {
            assert!(average(name).equal(own(name)), "{name}");
        }
        let alien = ("fc.scale".to_owned(), Tensor::zeros([3], (Kind::Float, Device::Cpu)));
        assert!(matches!(loaded.load(&wide, &[alien]), Err(ModelError::Unexpected { .. })));
    }
}

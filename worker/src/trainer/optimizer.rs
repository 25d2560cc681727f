//! The update of the flat parameters, with state that can be saved: tch's optimizers cannot give theirs out, and
//! walk 161 small tensors where one long one does.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::model::{ModelError, ResNet};

const MOMENTUM: &str = "momentum";

/// On a CPU the update goes through the vectors in pieces of 256 KiB, which stay in the core's cache from one
/// operation to the next, so that memory is read and written once. A GPU takes all at once: fewer kernels.
const CPU_PIECE_LEN: usize = 1 << 16;

/// Settings of stochastic gradient descent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    pub lr: f64,
    pub momentum: f64,
    pub weight_decay: f64,
    pub nesterov: bool,
}

/// An optimizer and its state.
#[derive(Debug)]
pub enum Optimizer {
    Sgd(SgdState),
}

/// [`Sgd`] at work.
#[derive(Debug)]
pub struct SgdState {
    settings: Sgd,
    /// PyTorch's momentum buffer; none when momentum is 0. Zeros before the first step: PyTorch starts it with the
    /// first gradient, and momentum * 0 + g is that.
    momentum: Option<Tensor>,
}

/// Why a saved state does not fit.
#[derive(Debug, thiserror::Error)]
pub enum OptimizerError {
    #[error("optimizer state {0:?} is missing")]
    Missing(String),
    #[error("optimizer state {0:?} belongs to another optimizer")]
    Unexpected(String),
    #[error("optimizer state {name:?} has shape {found:?}; {expected:?} was expected")]
    Misshapen { name: String, expected: Vec<i64>, found: Vec<i64> },
    #[error("optimizer state does not fit the model")]
    Model(#[from] ModelError),
    #[error("libtorch refused")]
    Torch(#[from] tch::TchError),
}

impl Optimizer {
    /// SGD for flat parameters shaped like `like`.
    pub fn sgd(settings: Sgd, like: &Tensor) -> Self {
        let momentum = (settings.momentum != 0.0).then(|| like.zeros_like());
        Self::Sgd(SgdState { settings, momentum })
    }

    /// The learning rate that a schedule starts from.
    pub fn base_lr(&self) -> f64 {
        match self {
            Self::Sgd(sgd) => sgd.settings.lr,
        }
    }

    /// One update in place. `grad` has the layout of `params` and keeps its values.
    ///
    /// # Panics
    /// If sizes or devices differ.
    pub fn step(&mut self, params: &mut Tensor, grad: &Tensor, lr: f64) {
        assert_eq!(params.size(), grad.size(), "the gradient has the layout of the parameters");
        match self {
            Self::Sgd(sgd) => tch::no_grad(|| sgd.step(params, grad, lr)),
        }
    }

    /// The state by name, flat. Aliases: they change with the next step.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        match self {
            Self::Sgd(sgd) => {
                sgd.momentum.iter().map(|buffer| (MOMENTUM.to_owned(), buffer.shallow_clone())).collect()
            }
        }
    }

    /// Takes over a flat state, such as another member's. All is checked before anything changes.
    ///
    /// # Errors
    /// A state that is missing, misshapen or another optimizer's.
    pub fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<(), OptimizerError> {
        let own = self.state();
        if let Some((name, _)) = state.iter().find(|(name, _)| own.iter().all(|(known, _)| known != name)) {
            return Err(OptimizerError::Unexpected(name.clone()));
        }
        let mut pairs = Vec::with_capacity(own.len());
        for (name, buffer) in own {
            let Some((_, given)) = state.iter().find(|(known, _)| *known == name) else {
                return Err(OptimizerError::Missing(name));
            };
            if given.size() != buffer.size() {
                let (expected, found) = (buffer.size(), given.size());
                return Err(OptimizerError::Misshapen { name, expected, found });
            }
            pairs.push((buffer, given));
        }
        for (mut buffer, given) in pairs {
            tch::no_grad(|| buffer.f_copy_(given))?;
        }
        Ok(())
    }

    /// The state by parameter, `momentum.layer4.0.conv1.weight`, in torchvision's shapes, copies on the CPU. Saved in
    /// this form so that a run that freezes other layers can read it.
    pub fn named_state(&self, model: &ResNet) -> Vec<(String, Tensor)> {
        let mut named = Vec::new();
        for (slot, flat) in self.state() {
            let parameters = model.named_from_flat(&flat).into_iter();
            named.extend(parameters.map(|(name, tensor)| (format!("{slot}.{name}"), tensor)));
        }
        named
    }

    /// The way back; parameters without a saved state start from zero.
    ///
    /// # Errors
    /// A state of another optimizer, or one that does not fit the model.
    pub fn load_named_state(
        &mut self,
        model: &ResNet,
        named: &[(String, Tensor)],
    ) -> Result<(), OptimizerError> {
        let mut by_slot: Vec<(String, Vec<(String, Tensor)>)> =
            self.state().into_iter().map(|(slot, _)| (slot, Vec::new())).collect();
        for (key, tensor) in named {
            let place = by_slot.iter_mut().find_map(|(slot, parameters)| {
                let name = key.strip_prefix(slot.as_str())?.strip_prefix('.')?;
                Some((parameters, name))
            });
            let Some((parameters, name)) = place else {
                return Err(OptimizerError::Unexpected(key.clone()));
            };
            parameters.push((name.to_owned(), tensor.shallow_clone()));
        }
        let flat = by_slot
            .into_iter()
            .map(|(slot, parameters)| Ok((slot, model.flat_from_named(&parameters)?)))
            .collect::<Result<Vec<_>, OptimizerError>>()?;
        self.load_state(&flat)
    }
}

impl SgdState {
    /// PyTorch's formula: g += decay * p; buffer = momentum * buffer + g; g = buffer, or with Nesterov
    /// g + momentum * buffer; p -= lr * g.
    fn step(&self, params: &Tensor, grad: &Tensor, lr: f64) {
        let Sgd { momentum, weight_decay, nesterov, .. } = self.settings;
        // tch has no `add` with a factor: `addcmul` by a scalar tensor is the one pass without a temporary.
        let scalar = |value: f64| Tensor::full([0i64; 0].as_slice(), value, (Kind::Float, params.device()));
        let (decay, rate, inertia) = (scalar(weight_decay), scalar(-lr), scalar(momentum));
        for range in pieces(params.numel(), params.device()) {
            let part = |flat: &Tensor| flat.narrow(0, range.start as i64, range.len() as i64);
            let (mut p, mut g) = (part(params), part(grad));
            if weight_decay != 0.0 {
                g = g.addcmul(&p, &decay);
            }
            if let Some(buffer) = &self.momentum {
                let mut buffer = part(buffer);
                let _ = buffer.g_mul_(&inertia);
                let _ = buffer.g_add_(&g);
                g = if nesterov { g.addcmul(&buffer, &inertia) } else { buffer };
            }
            let _ = p.addcmul_(&g, &rate);
        }
    }
}

/// Cuts 0..len as the device likes it. The cuts depend on nothing else, so that all members compute alike.
fn pieces(len: usize, device: Device) -> impl Iterator<Item = Range<usize>> {
    let piece = if device == Device::Cpu { CPU_PIECE_LEN } else { len.max(1) };
    (0..len).step_by(piece).map(move |start| start..len.min(start + piece))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Freezing, FrozenBatchNorm, ModelName, ModelSpec};

    /// PyTorch's formula, number by number.
    fn by_hand(settings: Sgd, lr: f32, p: &mut [f32], buffer: &mut [f32], grad: &[f32]) {
        let (momentum, decay) = (settings.momentum as f32, settings.weight_decay as f32);
        for ((p, b), g) in p.iter_mut().zip(buffer).zip(grad) {
            let mut g = g + decay * *p;
            *b = momentum * *b + g;
            g = if settings.nesterov { g + momentum * *b } else { *b };
            *p -= lr * g;
        }
    }

    fn values(len: usize, step: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7 + step * 13) % 23) as f32 / 23.0 - 0.4).collect()
    }

    fn host(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor).unwrap()
    }

    fn close(left: &[f32], right: &[f32]) -> bool {
        left.iter().zip(right).all(|(a, b)| (a - b).abs() <= 1e-6 * (1.0 + b.abs()))
    }

    #[test]
    fn sgd_follows_pytorchs_formula() {
        let len = CPU_PIECE_LEN + 5;
        for momentum in [0.0, 0.9] {
            for weight_decay in [0.0, 0.01] {
                for nesterov in [false, true] {
                    if nesterov && momentum == 0.0 {
                        continue;
                    }
                    let settings = Sgd { lr: 0.1, momentum, weight_decay, nesterov };
                    let (mut p, mut buffer) = (values(len, 100), vec![0.0; len]);
                    let mut params = Tensor::from_slice(&p);
                    let mut optimizer = Optimizer::sgd(settings, &params);
                    for step in 0..3 {
                        let lr = 0.1 / (step + 1) as f64;
                        let grad = values(len, step);
                        optimizer.step(&mut params, &Tensor::from_slice(&grad), lr);
                        by_hand(settings, lr as f32, &mut p, &mut buffer, &grad);
                        assert!(close(&host(&params), &p), "{settings:?} step {step}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_step_leaves_the_gradient_alone() {
        let settings = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01, nesterov: true };
        let mut params = Tensor::from_slice(&values(9, 1));
        let grad = Tensor::from_slice(&values(9, 2));
        Optimizer::sgd(settings, &params).step(&mut params, &grad, 0.1);
        assert_eq!(host(&grad), values(9, 2));
    }

    #[test]
    fn a_saved_state_goes_on_bit_for_bit() {
        let settings = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01, nesterov: false };
        let mut params = Tensor::from_slice(&values(9, 1));
        let mut first = Optimizer::sgd(settings, &params);
        first.step(&mut params, &Tensor::from_slice(&values(9, 2)), 0.1);

        let mut copy = params.copy();
        let mut second = Optimizer::sgd(settings, &copy);
        second.load_state(&first.state()).unwrap();
        first.step(&mut params, &Tensor::from_slice(&values(9, 3)), 0.05);
        second.step(&mut copy, &Tensor::from_slice(&values(9, 3)), 0.05);
        assert_eq!(host(&params), host(&copy));
    }

    #[test]
    fn a_state_that_does_not_fit_is_refused() {
        let settings = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.0, nesterov: false };
        let mut optimizer = Optimizer::sgd(settings, &Tensor::from_slice(&values(9, 1)));
        let named = |name: &str, len| vec![(name.to_owned(), Tensor::from_slice(&values(len, 1)))];
        let refused =
            |state: &[(String, Tensor)], optimizer: &mut Optimizer| optimizer.load_state(state).unwrap_err();
        assert!(matches!(refused(&[], &mut optimizer), OptimizerError::Missing(_)));
        assert!(matches!(refused(&named("momentum", 8), &mut optimizer), OptimizerError::Misshapen { .. }));
        assert!(matches!(refused(&named("exp_avg", 9), &mut optimizer), OptimizerError::Unexpected(_)));
    }

    #[test]
    fn a_state_by_parameter_outlives_another_freezing() {
        let model = |pattern: &str| {
            let spec = ModelSpec { name: ModelName::Resnet18, classes: 10 };
            let frozen_batch_norm = FrozenBatchNorm::Eval;
            let freezing = Freezing { trainable: vec![pattern.to_owned()], frozen_batch_norm };
            ResNet::new(spec, &freezing, Device::Cpu).unwrap()
        };
        let settings = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.0, nesterov: false };
        let mut head = model("fc.*");
        let mut saved = Optimizer::sgd(settings, head.trainable());
        let grad = Tensor::from_slice(&values(head.trainable().numel(), 1));
        saved.step(head.trainable_mut(), &grad, 0.1);
        let named = saved.named_state(&head);
        let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["momentum.fc.weight", "momentum.fc.bias"]);

        let whole = model("*");
        let mut loaded = Optimizer::sgd(settings, whole.trainable());
        loaded.load_named_state(&whole, &named).unwrap();
        let momentum = host(&loaded.state()[0].1);
        let (body, tail) = momentum.split_at(momentum.len() - grad.numel());
        assert!(body.iter().all(|&value| value == 0.0));
        assert_eq!(tail, host(&grad));

        let foreign = [("exp_avg.fc.bias".to_owned(), grad)];
        let refused = loaded.load_named_state(&whole, &foreign).unwrap_err();
        assert!(matches!(refused, OptimizerError::Unexpected(_)));
    }
}

//! The update of the flat parameters, with state that can be saved: tch's optimizers cannot give theirs out, and
//! walk 161 small tensors where one long one does.
//!
//! [`sgd`] and [`adamw`] are the rules, [`rates`] what parameter groups set for them.

mod adamw;
mod rates;
mod sgd;

use std::ops::Range;

use tch::{Device, Tensor};

use crate::model::{ModelError, ResNet};
use crate::plan::OptimizerKind;

pub(super) use self::adamw::Birth;
use self::adamw::{AdamW, Betas};
pub(super) use self::rates::Rates;
use self::sgd::Sgd;

/// On a CPU the update goes through the vectors in pieces of 256 KiB, which stay in the core's cache from one
/// operation to the next, so that memory is read and written once. A GPU takes all at once: fewer kernels.
const CPU_PIECE_LEN: usize = 1 << 16;

/// An optimizer and its state.
#[derive(Debug)]
pub(super) struct Optimizer {
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Sgd(Sgd),
    AdamW(AdamW),
}

/// Why an optimizer could not be made, or a saved state does not fit.
#[derive(Debug, thiserror::Error)]
pub enum OptimizerError {
    #[error("parameter {0:?} is trained but in no group")]
    Ungrouped(String),
    #[error("optimizer state {0:?} is missing")]
    Missing(String),
    #[error("optimizer state {0:?} belongs to another optimizer")]
    Unexpected(String),
    #[error("optimizer state {name:?} has shape {found:?}; {expected:?} was expected")]
    Misshapen { name: String, expected: Vec<i64>, found: Vec<i64> },
    #[error("optimizer state does not fit the model: {0}")]
    Model(#[from] ModelError),
    #[error("libtorch refused")]
    Torch(#[from] tch::TchError),
}

impl Optimizer {
    /// For flat parameters shaped like `like`, which `rates` and `births` cover.
    pub(super) fn new(kind: OptimizerKind, rates: &Rates, births: Vec<Birth>, like: &Tensor) -> Self {
        let rule = match kind {
            OptimizerKind::Sgd { momentum, nesterov } => Rule::Sgd(Sgd::new(momentum, nesterov, rates, like)),
            OptimizerKind::AdamW { beta1, beta2, eps } => {
                let betas = Betas { first: beta1, second: beta2, eps };
                Rule::AdamW(AdamW::new(betas, rates, births, like))
            }
        };
        Self { rule }
    }

    /// The update that comes after `step` others, in place, at the groups' rates times `factor`. `grad` has the layout
    /// of `params` and keeps its values.
    ///
    /// # Panics
    /// If sizes or devices differ.
    pub(super) fn step(&mut self, params: &mut Tensor, grad: &Tensor, factor: f64, step: u64) {
        assert_eq!(params.size(), grad.size(), "the gradient has the layout of the parameters");
        tch::no_grad(|| match &self.rule {
            Rule::Sgd(sgd) => sgd.step(params, grad, factor),
            Rule::AdamW(adamw) => adamw.step(params, grad, factor, step),
        });
    }

    /// The state by name, flat. Aliases: they change with the next step.
    pub(super) fn state(&self) -> Vec<(&'static str, Tensor)> {
        match &self.rule {
            Rule::Sgd(sgd) => sgd.state(),
            Rule::AdamW(adamw) => adamw.state(),
        }
    }

    /// Takes over a flat state, such as another member's. All is checked before anything changes.
    ///
    /// # Errors
    /// A state that is missing, misshapen or another optimizer's.
    pub(super) fn load_state(&mut self, state: &[(&str, Tensor)]) -> Result<(), OptimizerError> {
        let own = self.state();
        if let Some((name, _)) = state.iter().find(|(name, _)| own.iter().all(|(known, _)| known != name)) {
            return Err(OptimizerError::Unexpected((*name).to_owned()));
        }
        let mut pairs = Vec::with_capacity(own.len());
        for (name, buffer) in own {
            let Some((_, given)) = state.iter().find(|(known, _)| *known == name) else {
                return Err(OptimizerError::Missing(name.to_owned()));
            };
            if given.size() != buffer.size() {
                let (expected, found) = (buffer.size(), given.size());
                return Err(OptimizerError::Misshapen { name: name.to_owned(), expected, found });
            }
            pairs.push((buffer, given));
        }
        for (mut buffer, given) in pairs {
            tch::no_grad(|| buffer.f_copy_(given))?;
        }
        Ok(())
    }

    /// The state by parameter, `momentum.layer4.0.conv1.weight`, in torchvision's shapes, copies on the CPU. Saved in
    /// this form so that a run, or a phase of one, that trains other parameters can read it.
    pub(super) fn named_state(&self, model: &ResNet) -> Vec<(String, Tensor)> {
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
    pub(super) fn load_named_state(
        &mut self,
        model: &ResNet,
        named: &[(String, Tensor)],
    ) -> Result<(), OptimizerError> {
        let mut by_slot: Vec<(&str, Vec<(String, Tensor)>)> =
            self.state().into_iter().map(|(slot, _)| (slot, Vec::new())).collect();
        for (key, tensor) in named {
            let place = by_slot.iter_mut().find_map(|(slot, parameters)| {
                let name = key.strip_prefix(*slot)?.strip_prefix('.')?;
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

/// Cuts a range as the device likes it. The cuts depend on nothing else, so that all members compute alike.
pub(super) fn pieces(range: Range<usize>, device: Device) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    let piece = if device == Device::Cpu { CPU_PIECE_LEN } else { range.len().max(1) };
    range.step_by(piece).map(move |start| start..end.min(start + piece))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Freezing, FrozenBatchNorm, ModelName, ModelSpec, Trainable};

    const SGD: OptimizerKind = OptimizerKind::Sgd { momentum: 0.9, nesterov: false };
    const ADAMW: OptimizerKind = OptimizerKind::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };

    pub(super) fn values(len: usize, step: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7 + step * 13) % 23) as f32 / 23.0 - 0.4).collect()
    }

    pub(super) fn host(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor).unwrap()
    }

    pub(super) fn close(left: &[f32], right: &[f32]) -> bool {
        left.iter().zip(right).all(|(a, b)| (a - b).abs() <= 1e-6 * (1.0 + b.abs()))
    }

    fn optimizer(kind: OptimizerKind, like: &Tensor) -> Optimizer {
        let births = vec![Birth { range: 0..like.numel(), step: 0 }];
        Optimizer::new(kind, &Rates::uniform(0.1, 0.01, like.numel()), births, like)
    }

    #[test]
    fn a_saved_state_goes_on_bit_for_bit() {
        for kind in [SGD, ADAMW] {
            let mut params = Tensor::from_slice(&values(9, 1));
            let mut first = optimizer(kind, &params);
            first.step(&mut params, &Tensor::from_slice(&values(9, 2)), 1.0, 0);

            let mut copy = params.copy();
            let mut second = optimizer(kind, &copy);
            second.load_state(&first.state()).unwrap();
            first.step(&mut params, &Tensor::from_slice(&values(9, 3)), 0.5, 1);
            second.step(&mut copy, &Tensor::from_slice(&values(9, 3)), 0.5, 1);
            assert_eq!(host(&params), host(&copy), "{kind:?}");
        }
    }

    #[test]
    fn groups_with_their_own_settings_are_updated_as_if_alone() {
        let spans = [(0.1, 0.01, 0..4), (0.02, 0.0, 4..9)];
        for kind in [SGD, ADAMW] {
            let mut together = Tensor::from_slice(&values(9, 1));
            let mut apart: Vec<Tensor> =
                spans.iter().map(|(_, _, range)| Tensor::from_slice(&values(9, 1)[range.clone()])).collect();
            let births = vec![Birth { range: 0..9, step: 0 }];
            let mut both = Optimizer::new(kind, &Rates::of_spans(&spans), births, &together);
            let alone = |((lr, decay, range), like): (&(f64, f64, Range<usize>), &Tensor)| {
                let births = vec![Birth { range: 0..range.len(), step: 0 }];
                Optimizer::new(kind, &Rates::uniform(*lr, *decay, range.len()), births, like)
            };
            let mut each: Vec<Optimizer> = spans.iter().zip(&apart).map(alone).collect();
            for step in 0..3 {
                let grad = values(9, step + 5);
                both.step(&mut together, &Tensor::from_slice(&grad), 0.5, step as u64);
                for ((optimizer, params), (_, _, range)) in each.iter_mut().zip(&mut apart).zip(&spans) {
                    optimizer.step(params, &Tensor::from_slice(&grad[range.clone()]), 0.5, step as u64);
                }
            }
            let apart: Vec<f32> = apart.iter().flat_map(host).collect();
            assert!(close(&host(&together), &apart), "{kind:?}: {:?} {apart:?}", host(&together));
        }
    }

    #[test]
    fn a_state_that_does_not_fit_is_refused() {
        let mut optimizer = optimizer(SGD, &Tensor::from_slice(&values(9, 1)));
        let named = |name: &'static str, len| vec![(name, Tensor::from_slice(&values(len, 1)))];
        let refused =
            |state: &[(&str, Tensor)], optimizer: &mut Optimizer| optimizer.load_state(state).unwrap_err();
        assert!(matches!(refused(&[], &mut optimizer), OptimizerError::Missing(_)));
        assert!(matches!(refused(&named("momentum", 8), &mut optimizer), OptimizerError::Misshapen { .. }));
        assert!(matches!(refused(&named("exp_avg", 9), &mut optimizer), OptimizerError::Unexpected(_)));
    }

    #[test]
    fn a_state_by_parameter_outlives_another_freezing() {
        let spec = ModelSpec::new(ModelName::Resnet18, 10);
        let model = |trainable: Trainable| {
            let freezing = Freezing { trainable, frozen_batch_norm: FrozenBatchNorm::Eval };
            ResNet::new(spec, &freezing, Device::Cpu).unwrap()
        };
        let head_names = Trainable::Named(vec!["fc.weight".to_owned(), "fc.bias".to_owned()]);
        for (kind, slots) in [(SGD, &["momentum"][..]), (ADAMW, &["exp_avg", "exp_avg_sq"])] {
            let mut head = model(head_names.clone());
            let mut saved = optimizer(kind, head.trainable());
            let grad = Tensor::from_slice(&values(head.trainable().numel(), 1));
            saved.step(head.trainable_mut(), &grad, 1.0, 0);
            let named = saved.named_state(&head);
            let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
            let expected =
                slots.iter().flat_map(|slot| ["weight", "bias"].map(|part| format!("{slot}.fc.{part}")));
            assert_eq!(names, expected.collect::<Vec<_>>());

            let whole = model(Trainable::All);
            let mut loaded = optimizer(kind, whole.trainable());
            loaded.load_named_state(&whole, &named).unwrap();
            for ((_, wide), (_, narrow)) in loaded.state().iter().zip(saved.state()) {
                let wide = host(wide);
                let (body, tail) = wide.split_at(wide.len() - grad.numel());
                assert!(body.iter().all(|&value| value == 0.0));
                assert_eq!(tail, host(&narrow));
            }
            let foreign = [("exp_avg_cube.fc.bias".to_owned(), grad)];
            let refused = loaded.load_named_state(&whole, &foreign).unwrap_err();
            assert!(matches!(refused, OptimizerError::Unexpected(_)));
        }
    }
}

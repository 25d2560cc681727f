//! What parameter groups set, as the flat update wants it: one number where all groups agree, else one per element.
//!
//! A flat tensor of rates costs one more pass over memory, where a loop over groups would cost a launch per parameter:
//! groups that keep weight decay from BatchNorm and biases cut the flat parameters into a hundred ranges.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::OptimizerError;
use crate::model::ResNet;
use crate::plan::GroupPlan;

/// The groups' settings over a model's flat parameters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rates {
    /// In order, covering the flat parameters.
    spans: Vec<Span>,
}

#[derive(Debug, Clone, PartialEq)]
struct Span {
    range: Range<usize>,
    lr: f64,
    weight_decay: f64,
}

/// A number per element of the flat parameters.
#[derive(Debug)]
pub(super) enum Setting {
    Uniform(f64),
    /// f32, flat, on the parameters' device.
    Each(Tensor),
}

/// A [`Setting`] times a number, ready to be multiplied with a part of the flat parameters.
#[derive(Debug)]
pub(super) enum Multiplier {
    /// 0-dim.
    Scalar(Tensor),
    Each {
        flat: Tensor,
        factor: f64,
    },
}

impl Rates {
    /// The same for `len` elements.
    #[cfg(test)]
    pub(super) fn uniform(lr: f64, weight_decay: f64, len: usize) -> Self {
        Self { spans: vec![Span { range: 0..len, lr, weight_decay }] }
    }

    /// What `groups` set for the parameters that `model` trains.
    ///
    /// # Errors
    /// The name of a parameter that is trained but in no group.
    pub(crate) fn new(groups: &[GroupPlan], model: &ResNet) -> Result<Self, OptimizerError> {
        let span = |(name, range): (&str, Range<usize>)| {
            let has = |group: &&GroupPlan| group.parameters.iter().any(|known| known == name);
            let group = groups.iter().find(has).ok_or_else(|| OptimizerError::Ungrouped(name.to_owned()))?;
            Ok(Span { range, lr: group.lr, weight_decay: group.weight_decay })
        };
        let spans: Result<_, OptimizerError> = model.trainable_ranges().map(span).collect();
        Ok(Self { spans: spans? })
    }

    /// By rate, decay and range.
    #[cfg(test)]
    pub(super) fn of_spans(spans: &[(f64, f64, Range<usize>)]) -> Self {
        let span = |(lr, weight_decay, range): &(f64, f64, Range<usize>)| Span {
            range: range.clone(),
            lr: *lr,
            weight_decay: *weight_decay,
        };
        Self { spans: spans.iter().map(span).collect() }
    }

    pub(super) fn lr(&self, device: Device) -> Setting {
        self.setting(device, |span| span.lr)
    }

    pub(super) fn decay(&self, device: Device) -> Setting {
        self.setting(device, |span| span.weight_decay)
    }

    /// Rate times decay: what AdamW's decoupled decay takes off.
    pub(super) fn lr_times_decay(&self, device: Device) -> Setting {
        self.setting(device, |span| span.lr * span.weight_decay)
    }

    fn setting(&self, device: Device, value: impl Fn(&Span) -> f64) -> Setting {
        let first = self.spans.first().map_or(0.0, &value);
        if self.spans.iter().all(|span| value(span).to_bits() == first.to_bits()) {
            return Setting::Uniform(first);
        }
        let each = |span: &Span| std::iter::repeat_n(value(span) as f32, span.range.len());
        let flat: Vec<f32> = self.spans.iter().flat_map(each).collect();
        Setting::Each(Tensor::from_slice(&flat).to_device(device))
    }
}

impl Setting {
    pub(super) fn is_zero(&self) -> bool {
        matches!(self, Self::Uniform(0.0))
    }

    pub(super) fn times(&self, factor: f64, device: Device) -> Multiplier {
        match self {
            Self::Uniform(value) => Multiplier::Scalar(scalar(value * factor, device)),
            Self::Each(flat) => Multiplier::Each { flat: flat.shallow_clone(), factor },
        }
    }
}

impl Multiplier {
    /// For the elements of `range`; 0-dim when all are alike.
    pub(super) fn part(&self, range: &Range<usize>) -> Tensor {
        match self {
            Self::Scalar(value) => value.shallow_clone(),
            Self::Each { flat, factor } => {
                let part = flat.narrow(0, range.start as i64, range.len() as i64);
                if *factor == 1.0 { part } else { part.g_mul_scalar(*factor) }
            }
        }
    }
}

/// tch has no `add` with a factor: `addcmul` by a 0-dim tensor is the one pass without a temporary.
pub(super) fn scalar(value: f64, device: Device) -> Tensor {
    Tensor::full([0i64; 0].as_slice(), value, (Kind::Float, device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Freezing, FrozenBatchNorm, ModelName, ModelSpec, Trainable};

    fn group(parameters: &[&str], lr: f64, weight_decay: f64) -> GroupPlan {
        GroupPlan { parameters: parameters.iter().map(|&name| name.to_owned()).collect(), lr, weight_decay }
    }

    fn model(trained: &[&str]) -> ResNet {
        let trainable = Trainable::Named(trained.iter().map(|&name| name.to_owned()).collect());
        let spec = ModelSpec::new(ModelName::Resnet18, 3);
        ResNet::new(spec, &Freezing { trainable, frozen_batch_norm: FrozenBatchNorm::Eval }, Device::Cpu)
            .unwrap()
    }

    #[test]
    fn groups_that_agree_cost_nothing() {
        let groups = [group(&["fc.weight"], 0.1, 0.01), group(&["fc.bias"], 0.1, 0.0)];
        let rates = Rates::new(&groups, &model(&["fc.weight", "fc.bias"])).unwrap();
        assert!(matches!(rates.lr(Device::Cpu), Setting::Uniform(lr) if lr == 0.1));
        assert!(matches!(rates.decay(Device::Cpu), Setting::Each(_)));
    }

    #[test]
    fn every_element_has_its_groups_settings() {
        // In another order than the model's, with a name that is not trained now.
        let groups = [group(&["fc.bias", "conv1.weight"], 0.5, 0.25), group(&["fc.weight"], 2.0, 0.5)];
        let rates = Rates::new(&groups, &model(&["fc.weight", "fc.bias"])).unwrap();
        let all = 0..512 * 3 + 3;
        let part =
            |setting: &Setting| Vec::<f32>::try_from(setting.times(-2.0, Device::Cpu).part(&all)).unwrap();
        let expected = |weight: f32, bias: f32| [vec![weight; 512 * 3], vec![bias; 3]].concat();
        assert_eq!(part(&rates.lr(Device::Cpu)), expected(-4.0, -1.0));
        assert_eq!(part(&rates.decay(Device::Cpu)), expected(-1.0, -0.5));
        assert_eq!(part(&rates.lr_times_decay(Device::Cpu)), expected(-2.0, -0.25));
    }

    #[test]
    fn a_trained_parameter_without_a_group_is_named() {
        let error =
            Rates::new(&[group(&["fc.bias"], 0.1, 0.0)], &model(&["fc.weight", "fc.bias"])).unwrap_err();
        assert!(matches!(&error, OptimizerError::Ungrouped(name) if name == "fc.weight"), "{error}");
    }
}

//! Whether the prefix may be kept: a function of the plan and the network alone, because all members must choose alike.

use std::fmt;

use super::tables::Views;
use crate::model::ResNet;
use crate::plan::Plan;

/// Of all activations that a run may keep. Beyond it, reading them back costs more than computing them.
const BYTES_MAX: u64 = 64 << 30;

/// Why it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trainer) enum Uncached {
    Off,
    FirstLayerTrains,
    NormsMove,
    Varying(&'static str),
    TooLarge { bytes: u64 },
}

/// The views of training pictures that are to be kept.
pub(super) fn choose(plan: &Plan, model: &ResNet) -> Result<Views, Uncached> {
    if !plan.caches_prefix {
        return Err(Uncached::Off);
    }
    if model.boundary() == 0 {
        let stem_trains =
            model.parameters().iter().take(STEM_PARAMETERS).any(|parameter| parameter.trainable);
        return Err(if stem_trains { Uncached::FirstLayerTrains } else { Uncached::NormsMove });
    }
    if let Some(what) = plan.augment.variation() {
        return Err(Uncached::Varying(what));
    }
    Ok(match plan.augment.flip {
        never if never <= 0.0 => Views::Plain,
        always if always >= 1.0 => Views::Mirrored,
        _ => Views::Both,
    })
}

/// The first convolution's weight, its norm's weight and bias.
const STEM_PARAMETERS: usize = 3;

pub(super) fn check_size(bytes: u64) -> Result<(), Uncached> {
    if bytes > BYTES_MAX { Err(Uncached::TooLarge { bytes }) } else { Ok(()) }
}

impl fmt::Display for Uncached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("cache.prefix is \"off\""),
            Self::FirstLayerTrains => f.write_str("the first layer is trained"),
            Self::NormsMove => {
                f.write_str("frozen BatchNorm layers move (train.frozen_batch_norm = \"train\")")
            }
            Self::Varying(what) => write!(f, "{what} change the pictures before it"),
            Self::TooLarge { bytes } => write!(f, "it would take {:.0} GB", *bytes as f64 / 1e9),
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::data::Augment;
    use crate::model::{Freezing, FrozenBatchNorm, ModelName, ModelSpec, Trainable};
    use crate::plan;

    fn model(trained: &[&str], frozen_batch_norm: FrozenBatchNorm) -> ResNet {
        let trainable = Trainable::Named(trained.iter().map(|&name| name.to_owned()).collect());
        let freezing = Freezing { trainable, frozen_batch_norm };
        ResNet::new(ModelSpec::new(ModelName::Resnet18, 3), &freezing, Device::Cpu).unwrap()
    }

    fn with(augment: Augment) -> Plan {
        Plan { augment, ..plan::sample() }
    }

    #[test]
    fn what_stays_the_same_every_time_is_kept() {
        let model = model(&["fc.weight", "fc.bias"], FrozenBatchNorm::Eval);
        let off = Augment::default();
        for (flip, views) in [(0.0, Views::Plain), (0.5, Views::Both), (1.0, Views::Mirrored)] {
            assert_eq!(choose(&with(Augment { flip, ..off }), &model), Ok(views));
        }
    }

    #[test]
    fn what_changes_is_not_and_the_reason_is_told() {
        let head = model(&["fc.weight"], FrozenBatchNorm::Eval);
        let off = Augment::default();
        let refused = |plan: &Plan, model: &ResNet| choose(plan, model).unwrap_err().to_string();
        for (augment, reason) in [
            (Augment { crop_padding: 4, ..off }, "random crops"),
            (Augment { resized_crop: Some(0.5), flip: 0.5, ..off }, "random crops"),
            (Augment { hue: 0.1, ..off }, "colour jitter"),
            (Augment { erasing: 0.1, ..off }, "random erasing"),
            (Augment { mixup: 0.2, ..off }, "mixup"),
            (Augment { cutmix: 1.0, ..off }, "cutmix"),
        ] {
            let expected = format!("{reason} change the pictures before it");
            assert_eq!(refused(&with(augment), &head), expected);
        }
        assert!(choose(&with(Augment { resized_crop: Some(1.0), ..off }), &head).is_ok());
        let plan = plan::sample();
        let first = model(&["bn1.bias", "fc.weight"], FrozenBatchNorm::Eval);
        assert_eq!(refused(&plan, &first), "the first layer is trained");
        let moving = model(&["fc.weight"], FrozenBatchNorm::Train);
        assert!(refused(&plan, &moving).starts_with("frozen BatchNorm layers move"));
        assert_eq!(refused(&Plan { caches_prefix: false, ..plan }, &head), "cache.prefix is \"off\"");
        assert_eq!(check_size(100 << 30).unwrap_err().to_string(), "it would take 107 GB");
    }
}

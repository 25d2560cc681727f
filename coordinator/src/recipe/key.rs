//! The keys that a recipe may have, in the order in which it is written, and the search for the right one
//! when somebody writes another.

use crate::nearest::nearest;

/// Every key, dotted; sections are kept together.
pub(crate) const KEYS: [&str; 65] = [
    "seed",
    "batch",
    "shards",
    "epochs",
    "precision",
    "threads",
    "exact",
    "max_restarts",
    "lease_ms",
    "data.name",
    "data.path",
    "data.image_size",
    "data.train",
    "data.test",
    "data.test_fraction",
    "data.validation",
    "data.normalize",
    "data.skip_broken",
    "augment.crop_padding",
    "augment.resized_crop",
    "augment.flip",
    "augment.brightness",
    "augment.contrast",
    "augment.saturation",
    "augment.hue",
    "augment.erasing",
    "augment.mixup",
    "augment.cutmix",
    "model.name",
    "model.weights",
    "train.trainable",
    "train.frozen",
    "train.frozen_batch_norm",
    "train.group",
    "train.unfreeze_at",
    "train.label_smoothing",
    "train.accumulate",
    "train.clip_norm",
    "train.ema_decay",
    "optimizer.name",
    "optimizer.lr",
    "optimizer.momentum",
    "optimizer.weight_decay",
    "optimizer.nesterov",
    "optimizer.beta1",
    "optimizer.beta2",
    "optimizer.eps",
    "optimizer.decay_norm_and_bias",
    "schedule.name",
    "schedule.per",
    "schedule.t_max",
    "schedule.step_size",
    "schedule.gamma",
    "schedule.warmup_epochs",
    "schedule.warmup_start",
    "schedule.pct_start",
    "schedule.div_factor",
    "schedule.final_div_factor",
    "select.split",
    "select.metric",
    "select.restore",
    "select.patience",
    "checkpoint.every_steps",
    "checkpoint.keep",
    "cache.prefix",
];

/// What other tools call our keys.
const ELSEWHERE: [(&str, &str); 11] = [
    ("batch_size", "batch"),
    ("learning_rate", "optimizer.lr"),
    ("num_epochs", "epochs"),
    ("world_size", "shards"),
    ("freeze", "train.trainable"),
    ("pretrained", "model.weights"),
    ("dataset", "data.name"),
    ("grad_clip", "train.clip_norm"),
    ("gradient_accumulation_steps", "train.accumulate"),
    ("random_erase", "augment.erasing"),
    ("max_lr", "optimizer.lr"),
];

pub(crate) fn is_key(key: &str) -> bool {
    KEYS.contains(&key)
}

/// The section's keys all start with `name.`.
pub(crate) fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| section(key) == Some(name))
}

pub(crate) fn section(key: &str) -> Option<&str> {
    key.split_once('.').map(|(section, _)| section)
}

fn last(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, last)| last)
}

/// What to say about a key that does not exist.
pub(crate) fn hint(wrong: &str) -> String {
    let wrong = wrong.to_lowercase();
    if is_key(&wrong) {
        return format!("keys are in lower case: `{wrong}`");
    }
    if let Some((_, right)) = ELSEWHERE.iter().find(|(name, _)| *name == last(&wrong)) {
        return format!("did you mean `{right}`?");
    }
    // The right word in the wrong section, or at the wrong level.
    let same_word: Vec<&str> = KEYS.iter().copied().filter(|key| last(key) == last(&wrong)).collect();
    let mis_sectioned = section(&wrong).is_none_or(is_section);
    match same_word[..] {
        [right] if mis_sectioned && section(right).is_none() => {
            return format!("did you mean `{right}`? It stands before the first [section]");
        }
        [right] if mis_sectioned => return format!("did you mean `{right}`?"),
        _ => {}
    }
    match nearest(&wrong, KEYS.iter().copied()) {
        Some(right) => format!("did you mean `{right}`?"),
        None => listing(&wrong),
    }
}

fn listing(wrong: &str) -> String {
    let (place, names): (String, Vec<&str>) = match section(wrong).filter(|section| is_section(section)) {
        Some(name) => (
            format!("the keys of [{name}] are"),
            KEYS.iter().filter(|key| section(key) == Some(name)).map(|key| last(key)).collect(),
        ),
        None => {
            let mut names: Vec<&str> = KEYS.iter().map(|key| section(key).unwrap_or(key)).collect();
            names.dedup();
            ("the keys and sections of a recipe are".to_owned(), names)
        }
    };
    format!("{place} {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_answered_with_the_right_one() {
        for (wrong, right) in [
            ("optimzer.lr", "did you mean `optimizer.lr`?"),
            ("optimizer.momentun", "did you mean `optimizer.momentum`?"),
            ("lr", "did you mean `optimizer.lr`?"),
            ("train.lr", "did you mean `optimizer.lr`?"),
            ("batch_size", "did you mean `batch`?"),
            ("optimizer.learning_rate", "did you mean `optimizer.lr`?"),
            ("data.epochs", "did you mean `epochs`? It stands before the first [section]"),
            ("epoch", "did you mean `epochs`?"),
            ("sheduel.t_max", "did you mean `schedule.t_max`?"),
        ] {
            assert_eq!(hint(wrong), right, "{wrong}");
        }
    }

    #[test]
    fn a_key_far_from_all_is_answered_with_the_list_of_its_section() {
        assert_eq!(
            hint("select.gamma_of_the_step"),
            "the keys of [select] are split, metric, restore, patience"
        );
        assert!(hint("whatever_this_is").starts_with("the keys and sections of a recipe are seed, batch,"));
    }
}

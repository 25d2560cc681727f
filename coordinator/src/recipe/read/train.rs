//! The section `[train]`: what is trained, when, and how a step's gradient becomes an update.

use toml::Value;

use super::super::error::RecipeError;
use super::super::layer::shown;
use super::super::reader::{LIST, Reader, texts};
use super::super::{FrozenBatchNorm, Group, Train, Unfreeze};

const GROUP: &str = "train.group";
const UNFREEZE: &str = "train.unfreeze_at";

pub(super) fn train(reader: &Reader<'_>) -> Result<Train, RecipeError> {
    let below_one = |key| {
        reader.number(key, 0.0, |share| (0.0..1.0).contains(&share), "a number from 0 (off) to below 1")
    };
    let frozen = reader.texts("train.frozen")?;
    let trainable = match (reader.texts("train.trainable")?, &frozen) {
        (Some(_), Some(frozen)) => {
            let hint = Some("what one of them says, the other is the rest of: leave one out".to_owned());
            return Err(reader.invalid(
                "train.frozen",
                "absent beside train.trainable",
                format!("{frozen:?}"),
                hint,
            ));
        }
        (None, None) => Some(vec!["*".to_owned()]),
        (trainable, _) => trainable,
    };
    Ok(Train {
        trainable,
        frozen,
        frozen_batch_norm: reader.choice("train.frozen_batch_norm", FrozenBatchNorm::Eval)?,
        group: groups(reader)?,
        unfreeze_at: unfreeze_at(reader)?,
        label_smoothing: below_one("train.label_smoothing")?,
        accumulate: reader.count("train.accumulate", 1, 1..=1024)?,
        clip_norm: reader.number("train.clip_norm", 0.0, |norm| norm >= 0.0, "a number, at least 0 (off)")?,
        ema_decay: below_one("train.ema_decay")?,
    })
}

/// `[[train.group]]`: sections of their own, or a list of inline tables.
fn groups(reader: &Reader<'_>) -> Result<Vec<Group>, RecipeError> {
    let expected = "a list of sections, [[train.group]] with match and lr below";
    let Some(value) = reader.value(GROUP) else { return Ok(Vec::new()) };
    let Value::Array(items) = value else {
        return Err(reader.invalid(GROUP, expected, shown(value), None));
    };
    items
        .iter()
        .map(|item| {
            let table = reader.table(GROUP, item, &["match", "lr", "weight_decay"], expected)?;
            let wrong = |name: &str, expected: &str| {
                let found = table.get(name).map_or_else(|| "missing".to_owned(), shown);
                reader.invalid_field(GROUP, name, expected, found)
            };
            let number = |name: &str| match table.get(name) {
                Some(Value::Float(number)) => Some(*number),
                Some(Value::Integer(number)) => Some(*number as f64),
                _ => None,
            };
            let pattern = table.get("match").and_then(Value::as_str).filter(|pattern| !pattern.is_empty());
            let pattern = pattern.ok_or_else(|| wrong("match", "a pattern, such as \"layer4.*\""))?;
            let lr = number("lr").filter(|lr| lr.is_finite() && *lr > 0.0);
            let lr = lr.ok_or_else(|| wrong("lr", "a number above 0"))?;
            let decay = number("weight_decay").filter(|decay| decay.is_finite() && *decay >= 0.0);
            if decay.is_none() && table.contains_key("weight_decay") {
                return Err(wrong("weight_decay", "a number, at least 0"));
            }
            Ok(Group { pattern: pattern.to_owned(), lr, weight_decay: decay.map(|decay| decay + 0.0) })
        })
        .collect()
}

fn unfreeze_at(reader: &Reader<'_>) -> Result<Option<Unfreeze>, RecipeError> {
    let expected = "a table, such as { epoch = 3, patterns = [\"*\"] }";
    let Some(value) = reader.value(UNFREEZE) else { return Ok(None) };
    let table = reader.table(UNFREEZE, value, &["epoch", "patterns"], expected)?;
    let wrong = |name: &str, expected: &str| {
        let found = table.get(name).map_or_else(|| "missing".to_owned(), shown);
        reader.invalid_field(UNFREEZE, name, expected, found)
    };
    let epoch = table.get("epoch").and_then(Value::as_integer).and_then(|epoch| u32::try_from(epoch).ok());
    let epoch = epoch.filter(|epoch| *epoch > 0);
    let epoch = epoch.ok_or_else(|| wrong("epoch", "a whole number, at least 1 (epochs count from 0)"))?;
    let patterns = table.get("patterns").and_then(texts).ok_or_else(|| wrong("patterns", LIST))?;
    Ok(Some(Unfreeze { epoch, patterns }))
}

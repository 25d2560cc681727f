//! Turns merged layers into a recipe: one line per key, with its type, its bounds and its default.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::Value;

use super::choice::{Choice, SelectSplit};
use super::error::RecipeError;
use super::key::{KEYS, nearest};
use super::layer::{Entry, Layers, Origin, shown};
use super::{
    Checkpoint, Data, Model, Optimizer, Recipe, Schedule, Select, Train, Validation, Weights, validate,
};

/// More shards than any sensible number of devices, fewer than a slip of the finger.
const SHARDS_MAX: u32 = 1024;
/// Of one process; above that libtorch's pool hurts more than it helps.
const THREADS_MAX: u32 = 256;

type Read = Result<(Recipe, BTreeMap<String, Origin>), RecipeError>;

/// Completes and checks; also tells where each key that has a value came from.
pub(crate) fn recipe(layers: &Layers, default_shards: u32) -> Read {
    let reader = Reader { layers };
    let select = select(&reader)?;
    let recipe = Recipe {
        seed: reader.whole("seed", 7, 0..=i64::MAX.unsigned_abs())?,
        batch: reader.count("batch", 200, 2..=u32::MAX)?,
        shards: reader.count("shards", default_shards, 1..=SHARDS_MAX)?,
        epochs: reader.count("epochs", 100, 1..=u32::MAX)?,
        precision: reader.choice("precision", super::Precision::Fp32)?,
        threads: reader.count("threads", 1, 1..=THREADS_MAX)?,
        exact: reader.flag("exact", true)?,
        max_restarts: reader.count("max_restarts", 3, 0..=u32::MAX)?,
        data: data(&reader, select.split)?,
        model: Model {
            name: reader.choice("model.name", super::ModelName::Resnet50)?,
            weights: weights(&reader)?,
        },
        train: Train {
            trainable: reader.texts("train.trainable", &["*"])?,
            frozen_batch_norm: reader.choice("train.frozen_batch_norm", super::FrozenBatchNorm::Eval)?,
        },
        optimizer: Optimizer {
            name: reader.choice("optimizer.name", super::OptimizerName::Sgd)?,
            lr: reader.number("optimizer.lr", 0.001, |lr| lr > 0.0, "a number above 0")?,
            momentum: reader.number(
                "optimizer.momentum",
                0.9,
                |momentum| (0.0..1.0).contains(&momentum),
                "a number from 0 to below 1",
            )?,
            weight_decay: reader.number(
                "optimizer.weight_decay",
                0.0,
                |decay| decay >= 0.0,
                "a number, at least 0",
            )?,
            nesterov: reader.flag("optimizer.nesterov", false)?,
        },
        schedule: Schedule {
            name: reader.choice("schedule.name", super::ScheduleName::Cosine)?,
            t_max: reader.count("schedule.t_max", 200, 1..=u32::MAX)?,
        },
        select,
        checkpoint: Checkpoint {
            every_steps: reader.whole("checkpoint.every_steps", 0, 0..=i64::MAX.unsigned_abs())?,
            keep: reader.count("checkpoint.keep", 3, 1..=u32::MAX)?,
        },
    };
    validate::across_keys(&recipe, layers)?;
    Ok((recipe, reader.origins()))
}

fn select(reader: &Reader<'_>) -> Result<Select, RecipeError> {
    Ok(Select {
        split: reader.choice("select.split", SelectSplit::Val)?,
        metric: reader.choice("select.metric", super::Metric::AccTop1)?,
        restore: reader.choice("select.restore", super::Restore::Never)?,
        patience: reader.count("select.patience", 0, 0..=u32::MAX)?,
    })
}

fn data(reader: &Reader<'_>, split: SelectSplit) -> Result<Data, RecipeError> {
    if !reader.has("data.name") {
        return Err(RecipeError::Missing {
            key: "data.name",
            file: reader.layers.file.clone(),
            hint: "say which data to train on, for example --set data.name=cifar10",
        });
    }
    Ok(Data {
        // The default never shows: the key is there.
        name: reader.choice("data.name", super::DataName::Cifar10)?,
        path: reader.text("data.path", "a path")?.map(PathBuf::from),
        image_size: image_size(reader)?,
        train: reader.optional_count("data.train")?,
        test: reader.optional_count("data.test")?,
        validation: validation(reader, split)?,
        normalize: reader.choice("data.normalize", super::Normalize::Half)?,
    })
}

fn image_size(reader: &Reader<'_>) -> Result<u32, RecipeError> {
    let size = reader.count("data.image_size", 32, 1..=u32::MAX)?;
    if size == 32 {
        return Ok(size);
    }
    let hint = Some("this version trains on pictures of 32 by 32 pixels only".to_owned());
    Err(reader.invalid("data.image_size", "32", size.to_string(), hint))
}

fn validation(reader: &Reader<'_>, split: SelectSplit) -> Result<Validation, RecipeError> {
    const KEY: &str = "data.validation";
    let expected = "a fraction between 0 and 1, or a whole number of samples";
    match (reader.value(KEY), split) {
        (None, SelectSplit::Val) => Ok(Validation::Fraction(0.1)),
        (None, SelectSplit::Test) => Ok(Validation::Count(0)),
        (Some(Value::Float(fraction)), _) if *fraction > 0.0 && *fraction < 1.0 => {
            Ok(Validation::Fraction(*fraction))
        }
        (Some(Value::Integer(_)), _) => Ok(Validation::Count(reader.count(KEY, 0, 0..=u32::MAX)?)),
        (Some(other), _) => Err(reader.invalid(KEY, expected, shown(other), None)),
    }
}

fn weights(reader: &Reader<'_>) -> Result<Weights, RecipeError> {
    const KEY: &str = "model.weights";
    let expected = "\"none\" or the path of a .safetensors file";
    let Some(text) = reader.text(KEY, expected)? else { return Ok(Weights::None) };
    let hint = match text.as_str() {
        "none" => return Ok(Weights::None),
        "imagenet1k-v1" | "imagenet1k-v2" => {
            "this version reads files: convert or download torchvision's weights to .safetensors and give the path"
        }
        _ if text.ends_with(".safetensors") => return Ok(Weights::File(PathBuf::from(text))),
        _ => "convert other formats, for example .pth, to .safetensors with torchvision's names",
    };
    Err(reader.invalid(KEY, expected, format!("{text:?}"), Some(hint.to_owned())))
}

/// Typed access to the layers.
struct Reader<'a> {
    layers: &'a Layers,
}

impl<'a> Reader<'a> {
    fn entry(&self, key: &str) -> Option<&'a Entry> {
        debug_assert!(KEYS.contains(&key), "{key} is not in the list of keys");
        self.layers.entries.get(key)
    }

    fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    fn value(&self, key: &str) -> Option<&'a Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    fn invalid(&self, key: &str, expected: &str, found: String, hint: Option<String>) -> RecipeError {
        RecipeError::Invalid {
            key: key.to_owned(),
            expected: expected.to_owned(),
            found,
            origin: Box::new(self.layers.origin(key)),
            hint,
        }
    }

    fn whole(&self, key: &str, default: u64, range: RangeInclusive<u64>) -> Result<u64, RecipeError> {
        let Some(value) = self.value(key) else { return self.in_range(key, default, &range) };
        match value.as_integer().map(u64::try_from) {
            Some(Ok(number)) => self.in_range(key, number, &range),
            _ => Err(self.invalid(key, &whole_number(&range), shown(value), None)),
        }
    }

    fn in_range(&self, key: &str, number: u64, range: &RangeInclusive<u64>) -> Result<u64, RecipeError> {
        if range.contains(&number) {
            return Ok(number);
        }
        Err(self.invalid(key, &whole_number(range), number.to_string(), None))
    }

    fn count(&self, key: &str, default: u32, range: RangeInclusive<u32>) -> Result<u32, RecipeError> {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        let number = self.whole(key, u64::from(default), range)?;
        Ok(u32::try_from(number).expect("the range is one of u32"))
    }

    fn optional_count(&self, key: &str) -> Result<Option<u32>, RecipeError> {
        if self.has(key) { self.count(key, 1, 1..=u32::MAX).map(Some) } else { Ok(None) }
    }

    fn number(
        &self,
        key: &str,
        default: f64,
        allowed: fn(f64) -> bool,
        expected: &str,
    ) -> Result<f64, RecipeError> {
        let Some(value) = self.value(key) else { return Ok(default) };
        let number = match value {
            // `lr = 1` is a number to everybody but TOML; no sane setting is beyond 2^53.
            Value::Integer(whole) => Some(*whole as f64),
            Value::Float(float) => Some(*float),
            _ => None,
        };
        // A negative zero would be written as such and mean nothing.
        number
            .filter(|number| number.is_finite() && allowed(*number))
            .map(|number| number + 0.0)
            .ok_or_else(|| self.invalid(key, expected, shown(value), None))
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, RecipeError> {
        let Some(value) = self.value(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.invalid(key, "true or false", shown(value), None))
    }

    fn text(&self, key: &str, expected: &str) -> Result<Option<String>, RecipeError> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        let text = match (&entry.value, &entry.raw) {
            (Value::String(text), _) | (_, Some(text)) => text.clone(),
            (other, None) => return Err(self.invalid(key, expected, shown(other), None)),
        };
        if text.is_empty() {
            return Err(self.invalid(key, expected, "empty".to_owned(), None));
        }
        Ok(Some(text))
    }

    fn texts(&self, key: &str, default: &[&str]) -> Result<Vec<String>, RecipeError> {
        let Some(entry) = self.entry(key) else {
            return Ok(default.iter().map(|text| (*text).to_owned()).collect());
        };
        let texts = match (&entry.value, &entry.raw) {
            (Value::Array(items), _) => {
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
            }
            // From a flag or a variable one pattern needs no brackets.
            (Value::String(text), Some(_)) => Some(vec![text.clone()]),
            _ => None,
        };
        texts.filter(|texts| !texts.is_empty()).ok_or_else(|| {
            let expected = "a list of at least one string, such as [\"fc.*\"]";
            self.invalid(key, expected, shown(&entry.value), None)
        })
    }

    fn choice<T: Choice>(&self, key: &str, default: T) -> Result<T, RecipeError> {
        let Some(value) = self.value(key) else { return Ok(default) };
        let found = value.as_str();
        if let Some(choice) = T::ALL.iter().find(|choice| Some(choice.word()) == found) {
            return Ok(*choice);
        }
        let words: Vec<String> = T::ALL.iter().map(|choice| format!("{:?}", choice.word())).collect();
        let near = found.and_then(|found| nearest(&found.to_lowercase(), T::ALL.iter().map(|it| it.word())));
        let hint = near.map(|word| format!("did you mean {word:?}?"));
        Err(self.invalid(key, &words.join(" or "), shown(value), hint))
    }

    fn origins(&self) -> BTreeMap<String, Origin> {
        // These have no default: where nobody gave a value there is none.
        let optional = |key: &str| matches!(key, "data.path" | "data.train" | "data.test");
        KEYS.iter()
            .filter(|key| self.has(key) || !optional(key))
            .map(|key| ((*key).to_owned(), self.layers.origin(key)))
            .collect()
    }
}

fn whole_number(range: &RangeInclusive<u64>) -> String {
    let (low, high) = (*range.start(), *range.end());
    if high == u64::from(u32::MAX) || high == i64::MAX.unsigned_abs() {
        format!("a whole number, at least {low}")
    } else {
        format!("a whole number from {low} to {high}")
    }
}

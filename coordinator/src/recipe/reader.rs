//! Typed access to the merged layers: every value comes out with its bounds kept, or as an error that names its place.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml::Value;

use super::choice::Choice;
use super::error::RecipeError;
use super::key::KEYS;
use super::layer::{Entry, Layers, Origin, shown};
use crate::nearest::nearest;

/// What [`Reader::texts`] reads.
pub(crate) const LIST: &str = "a list of at least one string, such as [\"fc.*\"]";

/// Typed access to the layers.
pub(crate) struct Reader<'a> {
    pub(crate) layers: &'a Layers,
}

impl<'a> Reader<'a> {
    fn entry(&self, key: &str) -> Option<&'a Entry> {
        debug_assert!(KEYS.contains(&key), "{key} is not in the list of keys");
        self.layers.entries.get(key)
    }

    /// Where neither says what is trained, everything is: `train.trainable` has a default.
    fn trains_all(&self, key: &str) -> bool {
        key == "train.trainable" && !self.has("train.frozen")
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(crate) fn invalid(
        &self,
        key: &str,
        expected: &str,
        found: String,
        hint: Option<String>,
    ) -> RecipeError {
        RecipeError::Invalid {
            key: key.to_owned(),
            expected: expected.to_owned(),
            found,
            origin: Box::new(self.layers.origin(key)),
            hint,
        }
    }

    /// About a field of the table that is `key`'s value.
    pub(crate) fn invalid_field(&self, key: &str, field: &str, expected: &str, found: String) -> RecipeError {
        RecipeError::Invalid {
            key: format!("{key}.{field}"),
            expected: expected.to_owned(),
            found,
            origin: Box::new(self.layers.origin(key)),
            hint: None,
        }
    }

    pub(crate) fn whole(
        &self,
        key: &str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, RecipeError> {
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

    pub(crate) fn count(
        &self,
        key: &str,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> Result<u32, RecipeError> {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        let number = self.whole(key, u64::from(default), range)?;
        Ok(u32::try_from(number).expect("the range is one of u32"))
    }

    pub(crate) fn optional_count(&self, key: &str) -> Result<Option<u32>, RecipeError> {
        if self.has(key) { self.count(key, 1, 1..=u32::MAX).map(Some) } else { Ok(None) }
    }

    pub(crate) fn number(
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

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, RecipeError> {
        let Some(value) = self.value(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.invalid(key, "true or false", shown(value), None))
    }

    pub(crate) fn text(&self, key: &str, expected: &str) -> Result<Option<String>, RecipeError> {
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

    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<String>>, RecipeError> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        let texts = match (&entry.value, &entry.raw) {
            // From a flag or a variable one pattern needs no brackets.
            (Value::String(text), Some(_)) => Some(vec![text.clone()]),
            (other, _) => texts(other),
        };
        let wrong = || self.invalid(key, LIST, shown(&entry.value), None);
        texts.map(Some).ok_or_else(wrong)
    }

    pub(crate) fn choice<T: Choice>(&self, key: &str, default: T) -> Result<T, RecipeError> {
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

    /// A table whose keys are all among `known`.
    pub(crate) fn table(
        &self,
        key: &str,
        value: &'a Value,
        known: &[&str],
        expected: &str,
    ) -> Result<&'a toml::Table, RecipeError> {
        let Value::Table(table) = value else {
            return Err(self.invalid(key, expected, shown(value), None));
        };
        match table.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(table),
            Some(wrong) => Err(RecipeError::UnknownKey {
                key: format!("{key}.{wrong}"),
                origin: self.layers.origin(key),
                hint: match nearest(wrong, known.iter().copied()) {
                    Some(right) => format!("did you mean `{right}`?"),
                    None => format!("its keys are {}", known.join(", ")),
                },
            }),
        }
    }

    pub(crate) fn origins(&self) -> BTreeMap<String, Origin> {
        // These have no default: where nobody gave a value there is none.
        let optional = |key: &str| {
            matches!(
                key,
                "data.path"
                    | "data.train"
                    | "data.test"
                    | "train.trainable"
                    | "train.frozen"
                    | "train.group"
                    | "train.unfreeze_at"
            )
        };
        KEYS.iter()
            .filter(|key| self.has(key) || !optional(key) || self.trains_all(key))
            .map(|key| ((*key).to_owned(), self.layers.origin(key)))
            .collect()
    }
}

/// The texts of a list of at least one.
pub(crate) fn texts(value: &Value) -> Option<Vec<String>> {
    let items = value.as_array().filter(|items| !items.is_empty())?;
    items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

fn whole_number(range: &RangeInclusive<u64>) -> String {
    let (low, high) = (*range.start(), *range.end());
    if high == u64::from(u32::MAX) || high == i64::MAX.unsigned_abs() {
        format!("a whole number, at least {low}")
    } else {
        format!("a whole number from {low} to {high}")
    }
}

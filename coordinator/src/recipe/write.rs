//! Writes a recipe as TOML, every key in a fixed order: two equal recipes are equal texts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use toml::Value;

use super::Recipe;
use super::key::{KEYS, section};
use super::layer::Origin;

/// Where comments start, when the value before is not longer.
const COMMENT_COLUMN: usize = 36;

impl Recipe {
    /// The whole recipe; reading it back gives an equal one.
    #[must_use]
    pub fn to_toml(&self) -> String {
        self.write(|_| None)
    }

    /// The whole recipe with each key's origin as a comment.
    #[must_use]
    pub fn to_toml_with_origins(&self, origins: &BTreeMap<String, Origin>) -> String {
        self.write(|key| origins.get(key).map(Origin::brief))
    }

    fn write(&self, comment: impl Fn(&str) -> Option<String>) -> String {
        let table = Value::try_from(self).expect("a recipe is made of numbers, words, lists and UTF-8 paths");
        let mut text = String::new();
        let mut open = None;
        for key in KEYS {
            let Some(value) = key.split('.').try_fold(&table, |table, name| table.get(name)) else {
                continue;
            };
            if section(key) != open {
                open = section(key);
                let _ = writeln!(text, "\n[{}]", open.unwrap_or_default());
            }
            let name = key.rsplit('.').next().unwrap_or(key);
            let line = format!("{name} = {value}");
            let _ = match comment(key) {
                Some(comment) => writeln!(text, "{line:<COMMENT_COLUMN$} # {comment}"),
                None => writeln!(text, "{line}"),
            };
        }
        text
    }
}

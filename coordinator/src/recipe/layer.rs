//! The layers that a recipe is merged from: file, environment, `--set`. Each key keeps the place that it
//! came from, because an error without its line costs the reader more time than the error itself.

use std::collections::BTreeMap;
use std::fmt;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::error::RecipeError;
use super::key;

pub(crate) const ENV_PREFIX: &str = "LOCKSTEP_";

/// Where a key's value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { file: String, line: usize },
    Env { variable: String },
    Set { text: String },
}

impl Origin {
    /// With its preposition, for the end of a sentence.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Default => "by default".to_owned(),
            _ => format!("in {self}"),
        }
    }

    /// In a word or two, for a comment behind the value.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::File { line, .. } => format!("file line {line}"),
            Self::Env { variable } => variable.clone(),
            Self::Set { .. } => "--set".to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("the defaults"),
            Self::File { file, line } => write!(formatter, "{file}, line {line}"),
            Self::Env { variable } => write!(formatter, "the environment variable {variable}"),
            Self::Set { text } => write!(formatter, "--set {text}"),
        }
    }
}

/// A value as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    /// A flag's or variable's characters: `data.path=2024` means the text, though it parses as a number.
    pub(crate) raw: Option<String>,
    pub(crate) origin: Origin,
}

/// What was said, by dotted key. Later layers win.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    pub(crate) entries: BTreeMap<String, Entry>,
    /// The file's name, once one was added.
    pub(crate) file: Option<String>,
}

impl Layers {
    pub(crate) fn add_file(&mut self, text: &str, label: &str) -> Result<(), RecipeError> {
        self.file = Some(label.to_owned());
        let table = DeTable::parse(text).map_err(|error| syntax(&error, text, label))?;
        let mut flat = Flat { text, file: label, known: Vec::new(), wrong: Vec::new() };
        flat.walk("", table.get_ref());
        // The first in the file, not the first in the alphabet.
        if let Some((_, error)) = flat.wrong.into_iter().min_by_key(|(line, _)| *line) {
            return Err(error);
        }
        self.entries.extend(flat.known);
        Ok(())
    }

    /// Takes the variables that name a key. `LOCKSTEP_HOME` and the like are other settings of the program
    /// and none of the recipe's, so only a variable with a section in it (`__`) can be a misspelt key.
    pub(crate) fn add_env(&mut self, env: &BTreeMap<String, String>) -> Result<(), RecipeError> {
        for (variable, raw) in env {
            let Some(name) = variable.strip_prefix(ENV_PREFIX) else { continue };
            let key = name.to_lowercase().replace("__", ".");
            let origin = Origin::Env { variable: variable.clone() };
            if key::is_key(&key) {
                self.add_text(key, raw, origin)?;
            } else if key.contains('.') {
                let hint = key::hint(&key);
                return Err(RecipeError::UnknownKey { key, origin, hint });
            }
        }
        Ok(())
    }

    pub(crate) fn add_sets(&mut self, sets: &[String]) -> Result<(), RecipeError> {
        for text in sets {
            let form = || RecipeError::SetForm { text: text.clone() };
            let (key, raw) = text.split_once('=').ok_or_else(form)?;
            let key = key.trim().to_owned();
            if key.is_empty() {
                return Err(form());
            }
            let origin = Origin::Set { text: text.clone() };
            if !key::is_key(&key) {
                let hint = key::hint(&key);
                return Err(RecipeError::UnknownKey { key, origin, hint });
            }
            self.add_text(key, raw, origin)?;
        }
        Ok(())
    }

    /// A TOML value, or else the bare text: nobody wants to quote a string twice for the shell.
    fn add_text(&mut self, key: String, raw: &str, origin: Origin) -> Result<(), RecipeError> {
        let raw = raw.trim();
        let value = match DeValue::parse(raw) {
            Ok(value) => plain(value.get_ref()).map_err(|big| too_big(&key, &big, origin.clone()))?,
            // A half-written list or string would come back as a puzzling value.
            Err(error) if raw.starts_with(['[', '"', '\'', '{']) => {
                let message = one_line(error.message());
                return Err(RecipeError::SetValue { text: raw.to_owned(), message, origin });
            }
            Err(_) => Value::String(raw.to_owned()),
        };
        self.entries.insert(key, Entry { value, raw: Some(raw.to_owned()), origin });
        Ok(())
    }

    pub(crate) fn origin(&self, key: &str) -> Origin {
        self.entries.get(key).map_or(Origin::Default, |entry| entry.origin.clone())
    }
}

/// A document's values by dotted key, and what has no place there.
struct Flat<'a> {
    text: &'a str,
    file: &'a str,
    known: Vec<(String, Entry)>,
    /// With its line.
    wrong: Vec<(usize, RecipeError)>,
}

impl Flat<'_> {
    fn walk(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let name_text: &str = name.get_ref();
            let key = if prefix.is_empty() { name_text.to_owned() } else { format!("{prefix}.{name_text}") };
            let line = position(self.text, name.span().start).0;
            let origin = Origin::File { file: self.file.to_owned(), line };
            match value.get_ref() {
                // A known key keeps its table, so that the reader says what it should have been.
                DeValue::Table(inner)
                    if !key::is_key(&key) && (!inner.is_empty() || key::is_section(&key)) =>
                {
                    self.walk(&key, inner);
                }
                other if key::is_key(&key) => match plain(other) {
                    Ok(value) => self.known.push((key, Entry { value, raw: None, origin })),
                    Err(big) => self.wrong.push((line, too_big(&key, &big, origin))),
                },
                other if key::is_section(&key) => {
                    let found = plain(other).map_or_else(|big| big, |value| shown(&value));
                    let expected = format!("a section, [{key}] with its keys below");
                    let origin = Box::new(origin);
                    self.wrong
                        .push((line, RecipeError::Invalid { key, expected, found, origin, hint: None }));
                }
                _ => {
                    let hint = key::hint(&key);
                    self.wrong.push((line, RecipeError::UnknownKey { key, origin, hint }));
                }
            }
        }
    }
}

/// The value without its spans; an integer beyond 64 bits comes back as its text.
fn plain(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(integer) => Value::Integer(
            i64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| integer.to_string())?,
        ),
        // The parser has checked the form; `inf` and `nan` parse too.
        DeValue::Float(float) => Value::Float(float.as_str().parse().map_err(|_| float.to_string())?),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(time) => Value::Datetime(*time),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| plain(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let mut plain_table = toml::Table::new();
            for (name, value) in table {
                plain_table.insert(name.get_ref().to_string(), plain(value.get_ref())?);
            }
            Value::Table(plain_table)
        }
    })
}

fn too_big(key: &str, found: &str, origin: Origin) -> RecipeError {
    RecipeError::Invalid {
        key: key.to_owned(),
        expected: format!("a number of at most {}", i64::MAX),
        found: found.to_owned(),
        origin: Box::new(origin),
        hint: None,
    }
}

/// A value for a sentence: short, as it would be written.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Table(_) => "a section".to_owned(),
        Value::Array(items) if items.iter().any(Value::is_table) => "a list of sections".to_owned(),
        _ => value.to_string(),
    }
}

fn syntax(error: &toml::de::Error, text: &str, label: &str) -> RecipeError {
    let (line, column) = position(text, error.span().map_or(text.len(), |span| span.start));
    RecipeError::Syntax { file: label.to_owned(), line, column, message: one_line(error.message()) }
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    (line, column)
}

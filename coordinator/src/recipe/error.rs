//! What can be wrong with a recipe, told so that the reader can go to the place and mend it.

use std::io;

use super::layer::Origin;
use crate::freezing::PatternError;

/// A recipe that cannot be used. Its text says what and where, [`RecipeError::hint`] what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    #[error("cannot read the recipe {path}: {}", reason(source))]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },

    #[error("{message} in {file}, line {line}, column {column}")]
    Syntax { file: String, line: usize, column: usize, message: String },

    #[error("--set needs KEY=VALUE, but is `{text}`")]
    SetForm { text: String },

    #[error("`{text}` starts like a TOML value but is none in {origin}: {message}")]
    SetValue { text: String, message: String, origin: Origin },

    #[error("unknown key `{key}` in {origin}")]
    UnknownKey { key: String, origin: Origin, hint: String },

    #[error("`{key}` is missing{}", in_file(file.as_ref()))]
    Missing { key: &'static str, file: Option<String>, hint: &'static str },

    #[error("`{key}` must be {expected}, but is {found} {}", origin.place())]
    Invalid { key: String, expected: String, found: String, origin: Box<Origin>, hint: Option<String> },

    #[error("{error} {}", origin.place())]
    Pattern { error: PatternError, origin: Origin },
}

impl RecipeError {
    /// What the user can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("`lockstep recipe init PATH` writes a recipe to start from".to_owned())
            }
            Self::SetForm { .. } => Some("for example --set optimizer.lr=0.01".to_owned()),
            Self::SetValue { .. } => {
                Some("quote it for the shell, for example --set 'train.trainable=[\"fc.*\"]'".to_owned())
            }
            Self::Missing { hint, .. } => Some((*hint).to_owned()),
            Self::UnknownKey { hint, .. } => Some(hint.clone()),
            Self::Pattern { error, .. } => error.hint(),
            Self::Invalid { hint, .. } => hint.clone(),
            Self::Read { .. } | Self::Syntax { .. } => None,
        }
    }
}

/// The operating system's words without its error number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

fn in_file(file: Option<&String>) -> String {
    file.map_or_else(String::new, |file| format!(" in {file}"))
}

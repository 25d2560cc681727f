//! What can be wrong with the patterns that say what is trained.

use crate::recipe::ModelName;

/// Patterns that cannot be carried out. The text names the key, [`PatternError::hint`] says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("`{pattern}` of `{key}` is not a glob: {message}")]
    Glob { pattern: String, key: &'static str, message: String },

    #[error("`{pattern}` of `{key}` matches no parameter of {model}")]
    Unmatched {
        pattern: String,
        key: &'static str,
        model: ModelName,
        /// What may have been meant.
        near: String,
    },

    #[error("`{key}` leaves nothing to train")]
    NothingTrained { key: &'static str },

    #[error("`train.unfreeze_at` unfreezes nothing: {} is trained from the start", listed(patterns))]
    NothingUnfrozen { patterns: Vec<String> },

    #[error("`{pattern}` of `train.group` matches frozen parameters alone")]
    GroupFrozen { pattern: String },

    #[error("`{pattern}` of `train.group` has no effect: groups before it take all that it matches")]
    GroupShadowed { pattern: String },
}

impl PatternError {
    /// The recipe's key that holds the patterns.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Glob { key, .. } | Self::Unmatched { key, .. } | Self::NothingTrained { key } => key,
            Self::NothingUnfrozen { .. } => "train.unfreeze_at",
            Self::GroupFrozen { .. } | Self::GroupShadowed { .. } => "train.group",
        }
    }

    /// What the user can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unmatched { pattern, .. } if pattern.contains(',') && !pattern.contains('{') => {
                Some("several patterns are a list: [\"layer4.*\", \"fc.*\"]".to_owned())
            }
            Self::Unmatched { near, .. } => Some(format!("did you mean `{near}`?")),
            Self::NothingTrained { .. } => {
                Some("train at least the head: trainable = [\"head\"], or freeze less".to_owned())
            }
            Self::NothingUnfrozen { .. } => {
                Some("say with train.trainable what is trained before, for example [\"head\"]".to_owned())
            }
            Self::GroupFrozen { .. } => Some(
                "train them (train.trainable, train.frozen, train.unfreeze_at), or leave the group out"
                    .to_owned(),
            ),
            Self::GroupShadowed { .. } => {
                Some("the first group that matches wins: put the narrower patterns first".to_owned())
            }
            Self::Glob { .. } => None,
        }
    }
}

fn listed(patterns: &[String]) -> String {
    patterns.iter().map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>().join(", ")
}

//! A person's own settings: `$XDG_CONFIG_HOME/lockstep/config.toml`, else `~/.config/lockstep/config.toml`.
//!
//! A key that nobody knows is an error, because a credential that is silently not used costs an hour.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::RemoteError;
use crate::nearest::nearest;

const KEYS: [&str; 5] = ["coordinator", "ca", "cert", "key", "token_file"];

/// Where the file would lie, and what `~` stands for.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    file: Option<PathBuf>,
    user_home: Option<PathBuf>,
}

impl Place {
    pub(super) fn of_user() -> Self {
        Self::new(env::var_os("XDG_CONFIG_HOME").map(PathBuf::from), env::var_os("HOME").map(PathBuf::from))
    }

    pub(super) fn new(xdg: Option<PathBuf>, user_home: Option<PathBuf>) -> Self {
        // The standard has relative paths ignored.
        let user_home = user_home.filter(|path| path.is_absolute());
        let folder = xdg
            .filter(|path| path.is_absolute())
            .or_else(|| user_home.as_ref().map(|home| home.join(".config")));
        Self { file: folder.map(|folder| folder.join("lockstep").join("config.toml")), user_home }
    }

    pub(super) fn shown(&self) -> String {
        let file = self.file.as_deref().unwrap_or(Path::new("~/.config/lockstep/config.toml"));
        file.display().to_string()
    }

    fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix('~'), &self.user_home) {
            (Some(""), Some(home)) => home.clone(),
            (Some(rest), Some(home)) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
            // Beside the file, wherever the command is typed.
            _ => self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).join(text),
        }
    }
}

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) coordinator: Option<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) token_file: Option<PathBuf>,
}

impl Config {
    /// What the file says, or nothing where there is none.
    pub(super) fn read(place: &Place) -> Result<Self, RemoteError> {
        let Some(file) = &place.file else { return Ok(Self::default()) };
        match fs::read_to_string(file) {
            Ok(text) => Self::parse(&text, place),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(RemoteError::Read { path: file.clone(), source: error }),
        }
    }

    fn parse(text: &str, place: &Place) -> Result<Self, RemoteError> {
        let wrong = |at: usize, what: String, hint: Option<String>| RemoteError::Config {
            file: place.shown(),
            line: text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1,
            what,
            hint,
        };
        let table = DeTable::parse(text).map_err(|error| {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            wrong(error.span().map_or(text.len(), |span| span.start), message, None)
        })?;
        let mut config = Self::default();
        // The table is sorted by name; a person mends a file from its top.
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let (key, at): (&str, usize) = (name.get_ref(), name.span().start);
            if !KEYS.contains(&key) {
                let hint = match nearest(key, KEYS) {
                    Some(right) => format!("did you mean `{right}`?"),
                    None => format!("the keys there are {}", KEYS.join(", ")),
                };
                return Err(wrong(at, format!("unknown key `{key}`"), Some(hint)));
            }
            let DeValue::String(value) = value.get_ref() else {
                return Err(wrong(at, format!("`{key}` must be a text in quotes"), None));
            };
            match key {
                "coordinator" => config.coordinator = Some(value.to_string()),
                "ca" => config.ca = Some(place.path(value)),
                "cert" => config.cert = Some(place.path(value)),
                "key" => config.key = Some(place.path(value)),
                _ => config.token_file = Some(place.path(value)),
            }
        }
        Ok(config)
    }
}

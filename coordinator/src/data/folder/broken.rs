//! Pictures that cannot be used, as a person is told of them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::pictures::PictureError;

/// More are counted and not named: a folder of the wrong kind of file would fill the screen.
const NAMED_MAX: usize = 10;

/// A picture that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// From `data.path`; what is not UTF-8 in it is replaced.
    pub file: String,
    /// One line that goes on from "FILE: ".
    pub reason: String,
    /// Its place among the folder's pictures.
    pub(super) picture: usize,
}

impl Broken {
    pub(super) fn new(picture: usize, file: &Path, error: &PictureError) -> Self {
        let file = file.to_string_lossy().replace(char::is_control, " ");
        Self { file, reason: error.to_string(), picture }
    }

    /// A line for each of the first ten, and the number of the others, each on a new line.
    pub(in crate::data) fn lines(broken: &[Self]) -> String {
        let mut lines = String::new();
        for Self { file, reason, .. } in broken.iter().take(NAMED_MAX) {
            lines += &format!("\n  {file}: {reason}");
        }
        if broken.len() > NAMED_MAX {
            lines += &format!("\n  and {} more", broken.len() - NAMED_MAX);
        }
        lines
    }
}

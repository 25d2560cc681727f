//! Where a listed file lies and what it is: names come from elsewhere, and must not lead out of the folder.

use std::path::PathBuf;

use super::download::Trouble;
use crate::client::RemoteFile;

/// The best model, under torchvision's names.
pub(super) const BEST: &str = "best.safetensors";

const CHECKPOINTS: &str = "checkpoints";

/// What a file is, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Best,
    Manifest,
    /// A file of a checkpoint.
    Checkpoint,
    /// The same file once more, under `last` or `best`.
    Pointer,
    /// What only whoever wants everything wants.
    Rest,
    /// Of no use to anybody else.
    Hidden,
    Other,
}

/// A file that may be written below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// As listed.
    pub(super) path: String,
    pub(super) size_bytes: u64,
    pub(super) kind: Kind,
}

impl Place {
    pub(super) fn of(file: &RemoteFile) -> Result<Self, Trouble> {
        let RemoteFile { path, size_bytes } = file;
        let parts: Vec<&str> = path.split('/').collect();
        let is_plain = |part: &&str| {
            !matches!(*part, "" | "." | "..") && !part.contains(['\\', '\0']) && part.len() <= 255
        };
        if !parts.iter().all(is_plain) || path.len() > 1_000 {
            return Err(Trouble::Path { path: path.clone() });
        }
        let kind = match parts[..] {
            _ if parts.iter().any(|part| part.starts_with('.')) => Kind::Hidden,
            [BEST] => Kind::Best,
            [CHECKPOINTS, "last" | "best", ..] => Kind::Pointer,
            [CHECKPOINTS, step, "manifest.json"] if is_step(step) => Kind::Manifest,
            [CHECKPOINTS, step, _] if is_step(step) => Kind::Checkpoint,
            [CHECKPOINTS | "logs", ..] => Kind::Rest,
            _ => Kind::Other,
        };
        Ok(Self { path: path.clone(), size_bytes: *size_bytes, kind })
    }

    /// Below the folder that is fetched to.
    pub(super) fn below(&self, folder: &std::path::Path) -> PathBuf {
        self.path.split('/').fold(folder.to_owned(), |path, part| path.join(part))
    }

    /// `step-00000012` and `model.safetensors`, of a checkpoint's file.
    pub(super) fn in_checkpoint(&self) -> Option<(&str, &str)> {
        self.path.strip_prefix(CHECKPOINTS)?.strip_prefix('/')?.split_once('/')
    }
}

/// A damaged checkpoint that was set aside has another name.
fn is_step(folder: &str) -> bool {
    folder
        .strip_prefix("step-")
        .is_some_and(|step| !step.is_empty() && step.bytes().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Option<Kind> {
        Place::of(&RemoteFile { path: path.into(), size_bytes: 1 }).ok().map(|place| place.kind)
    }

    #[test]
    fn what_could_lead_out_of_the_folder_is_refused() {
        let long = "x".repeat(256);
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".", "a\\b", "a\0b", &long] {
            assert_eq!(of(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_path_tells_what_a_file_is() {
        for (path, kind) in [
            ("best.safetensors", Kind::Best),
            ("results.csv", Kind::Other),
            ("plots/loss.png", Kind::Other),
            ("logs/worker-1.log", Kind::Rest),
            ("checkpoints/step-00000002.damaged/manifest.json", Kind::Rest),
            (".lock", Kind::Hidden),
            ("checkpoints/.unfinished-step-3-1/model.safetensors", Kind::Hidden),
            ("checkpoints/best/model.safetensors", Kind::Pointer),
            ("checkpoints/last", Kind::Pointer),
            ("checkpoints/step-00000003/manifest.json", Kind::Manifest),
            ("checkpoints/step-00000003/model.safetensors", Kind::Checkpoint),
        ] {
            assert_eq!(of(path), Some(kind), "{path}");
        }
    }
}

//! What a run asks of the workers that it gets, as a person says it.

use clap::Args;

use crate::cli::CliError;
use crate::cli::cluster::Workers;
use crate::cli::code;
use crate::client::Requirements;

#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct NeedsArgs {
    /// The kind of device of all its workers [default: any, but all of one kind]
    #[arg(long, value_name = "KIND", value_parser = ["cpu", "cuda"])]
    device: Option<String>,
    /// What each device must have at least, e.g. 16GiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
}

impl NeedsArgs {
    /// Whether anything was asked for.
    pub(in crate::cli) fn is_empty(&self) -> bool {
        self.device.is_none() && self.memory.is_none()
    }

    /// `before` with what was asked for in its place.
    pub(super) fn over(
        &self,
        workers: Option<Workers>,
        before: Requirements,
    ) -> Result<Requirements, CliError> {
        let memory_bytes = self.memory.as_deref().map(memory_bytes).transpose()?;
        Ok(Requirements {
            min_workers: workers.map_or(before.min_workers, Workers::min),
            max_workers: workers.map_or(before.max_workers, Workers::max),
            device_kind: self.device.clone().or(before.device_kind),
            memory_bytes: memory_bytes.or(before.memory_bytes),
        })
    }
}

/// `16GiB`, `1.5 GiB`, `80GB`.
fn memory_bytes(text: &str) -> Result<u64, CliError> {
    const UNITS: [(&str, u64); 8] = [
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
    ];
    let lower = text.trim().to_lowercase();
    let sized = UNITS.iter().find_map(|(unit, bytes)| {
        let number: f64 = lower.strip_suffix(unit)?.trim_end().parse().ok()?;
        Some(number * *bytes as f64).filter(|bytes| *bytes >= 1.0 && *bytes < u64::MAX as f64)
    });
    sized.map(|bytes| bytes as u64).ok_or_else(|| {
        CliError::new(code::USAGE, format!("--memory '{text}' is not a size of memory"))
            .hint("a number and its unit, for example --memory 16GiB or --memory 512MiB")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit_and_refused_without() {
        for (text, bytes) in [
            ("16GiB", 16 << 30),
            ("1.5 gib", 3 << 29),
            ("80GB", 80_000_000_000),
            (" 512MiB ", 512 << 20),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(memory_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["16", "16G", "GiB", "-1GiB", "0GiB", "1e30TiB", "nan GiB", "inf KiB", ""] {
            let error = memory_bytes(text).unwrap_err();
            assert!(error.code == code::USAGE && error.hint.is_some(), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_not_asked_for_stays() {
        let before = Requirements {
            min_workers: 2,
            max_workers: 4,
            device_kind: Some("cuda".into()),
            memory_bytes: Some(7),
        };
        assert!(NeedsArgs::default().is_empty());
        assert_eq!(NeedsArgs::default().over(None, before.clone()), Ok(before.clone()));
        let needs = NeedsArgs { device: Some("cpu".into()), memory: None };
        let after = needs.over(Some(Workers::Fixed(3)), before.clone()).unwrap();
        assert_eq!(
            after,
            Requirements { min_workers: 3, max_workers: 3, device_kind: Some("cpu".into()), ..before }
        );
    }
}

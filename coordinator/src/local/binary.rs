//! The worker binary: where it lies, and what it says of itself.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use thiserror::Error;

use super::exit::{describe, last_lines};

/// A usable worker binary and what its libtorch sees.
#[derive(Debug, Clone)]
pub struct WorkerBinary {
    pub path: PathBuf,
    pub libtorch_version: String,
    /// `cpu`, `cuda:0`, …
    pub devices: Vec<String>,
    /// Why there is no GPU among them.
    pub no_gpu: Option<String>,
}

/// The worker binary is of no use.
#[derive(Debug, Error)]
pub enum BinaryError {
    #[error("there is no worker binary at {}", path.display())]
    Missing { path: PathBuf },
    #[error("the worker binary {} cannot start: {reason}", path.display())]
    Start { path: PathBuf, reason: String },
}

impl WorkerBinary {
    /// Finds the worker: `LOCKSTEP_WORKER`, else beside this program. Asks it for its version and devices, which
    /// also shows that it can start.
    pub fn find() -> Result<Self, BinaryError> {
        let path = std::env::var_os("LOCKSTEP_WORKER").map_or_else(beside_this_program, PathBuf::from);
        if !path.is_file() {
            return Err(BinaryError::Missing { path });
        }
        #[derive(Deserialize)]
        struct Version {
            libtorch: String,
        }
        let version: Version = ask(&path, "version")?;
        #[derive(Deserialize)]
        struct Devices {
            devices: Vec<String>,
            no_gpu: Option<String>,
        }
        let Devices { devices, no_gpu } = ask(&path, "devices")?;
        Ok(Self { path, libtorch_version: version.libtorch, devices, no_gpu })
    }

    /// The GPUs, or the processor where there is none.
    pub fn preferred_devices(&self) -> Vec<String> {
        let gpus: Vec<String> = self.gpus().cloned().collect();
        if gpus.is_empty() { vec!["cpu".into()] } else { gpus }
    }

    pub fn gpus(&self) -> impl Iterator<Item = &String> {
        self.devices.iter().filter(|device| *device != "cpu")
    }
}

fn beside_this_program() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    here.with_file_name("lockstep-worker")
}

/// Runs `worker VERB --json` and reads what it says.
fn ask<T: serde::de::DeserializeOwned>(path: &Path, verb: &str) -> Result<T, BinaryError> {
    let start = |reason: String| BinaryError::Start { path: path.to_owned(), reason };
    let output = std::process::Command::new(path).args([verb, "--json"]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| start(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(start(format!("{}\n{}", describe(output.status), last_lines(&said))));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| start(format!("`{verb} --json` does not read: {error}")))
}

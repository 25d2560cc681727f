//! `lockstep doctor`: is this machine ready? In a form to paste into a report.

use std::net::TcpListener;
use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::home::HomeArgs;
use super::stdout::print;
use super::{CliError, code};
use crate::local::WorkerBinary;

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    home: HomeArgs,
    /// For programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn text(&self) -> String {
        let Self { name, ok, detail, hint } = self;
        let hint = hint.as_ref().map_or_else(String::new, |hint| format!("     {:<10} hint: {hint}\n", ""));
        format!("{:<4} {name:<10} {detail}\n{hint}", if *ok { "ok" } else { "FAIL" })
    }
}

pub(super) fn run(args: &DoctorArgs) -> Result<u8, CliError> {
    let checks = [version(), machine(), worker(), home(&args.home), loopback()];
    let ready = checks.iter().all(|check| check.ok);
    if args.json {
        let report = serde_json::json!({ "ready": ready, "checks": checks });
        print(&format!("{report:#}\n"))?;
    } else {
        print(&checks.iter().map(Check::text).collect::<String>())?;
    }
    Ok(if ready { 0 } else { code::CLUSTER })
}

fn version() -> Check {
    let detail = format!("{} ({})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    Check { name: "lockstep", ok: true, detail, hint: None }
}

fn machine() -> Check {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kb: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(0);
    let detail = format!("{cores} cores, {:.1} GiB of memory", total_kb as f64 / f64::from(1 << 20));
    Check { name: "machine", ok: true, detail, hint: None }
}

fn worker() -> Check {
    match WorkerBinary::find() {
        Ok(binary) => {
            let detail = format!(
                "{}, libtorch {}, devices: {}",
                binary.path.display(),
                binary.libtorch_version,
                binary.devices.join(", ")
            );
            // On a machine without an NVIDIA driver nobody misses a GPU.
            let hint = binary.no_gpu.filter(|_| Path::new("/dev/nvidiactl").exists());
            Check { name: "worker", ok: true, detail, hint }
        }
        Err(error) => {
            let CliError { message, hint, .. } = error.into();
            Check { name: "worker", ok: false, detail: message, hint }
        }
    }
}

fn home(args: &HomeArgs) -> Check {
    let opened =
        args.open().and_then(|home| Ok((home.journal()?.runs().map_err(anyhow::Error::from)?.len(), home)));
    match opened {
        Ok((runs, home)) => Check {
            name: "home",
            ok: true,
            detail: format!("{}, {runs} runs", home.path.display()),
            hint: None,
        },
        Err(error) => Check { name: "home", ok: false, detail: error.message, hint: error.hint },
    }
}

fn loopback() -> Check {
    match TcpListener::bind("127.0.0.1:0") {
        Ok(_) => Check {
            name: "loopback",
            ok: true,
            detail: "workers can reach a coordinator here".into(),
            hint: None,
        },
        Err(error) => Check {
            name: "loopback",
            ok: false,
            detail: format!("cannot listen on 127.0.0.1: {error}"),
            hint: Some("workers and coordinator speak over the loopback interface".into()),
        },
    }
}

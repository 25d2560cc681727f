//! PyTorch: its installation, and the scripts in `reference/` run in it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::once::made_once;
use crate::process;

/// What its environment holds.
const PACKAGES: &str = include_str!("requirements.txt");

/// Makes it, unless it is there.
const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pytorch.sh");
const ENVIRONMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/parity/venv");

/// A folder with a `__main__.py`, which Python runs as one program.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/reference");

/// Those that the fixtures follow from.
const MAKE_FIXTURES: [&str; 3] = [
    include_str!("reference/files.py"),
    include_str!("reference/fixtures.py"),
    include_str!("reference/models.py"),
];

/// For 2.5 GB of downloads on a slow line.
const INSTALL_LIMIT: Duration = Duration::from_secs(3600);
const SCRIPT_LIMIT: Duration = Duration::from_secs(300);

/// PyTorch, ready for use, and the files that the tests start from.
#[derive(Debug)]
pub(crate) struct Reference {
    python: PathBuf,
    /// What `reference fixtures` made.
    pub(crate) fixtures: PathBuf,
}

/// The same for all tests; none where they are to be skipped.
///
/// # Panics
/// With one line where PyTorch cannot be installed.
pub(crate) fn reference() -> Option<&'static Reference> {
    static REFERENCE: OnceLock<Option<Result<Reference, String>>> = OnceLock::new();
    let made = REFERENCE.get_or_init(|| {
        if std::env::var_os("LOCKSTEP_SKIP_PARITY").is_some_and(|value| value == "1") {
            // Past the harness, which keeps what a passing test prints to itself.
            let _ = writeln!(io::stderr(), "parity: skipped, as LOCKSTEP_SKIP_PARITY=1 says");
            return None;
        }
        Some(Reference::new())
    });
    match made.as_ref()? {
        Ok(reference) => Some(reference),
        Err(reason) => panic!("no PyTorch to compare with: {reason}"),
    }
}

impl Reference {
    fn new() -> Result<Self, String> {
        if !Path::new(ENVIRONMENT).exists() {
            // Minutes, perhaps, and nothing else would say why.
            let _ = writeln!(io::stderr(), "parity: installing PyTorch into target/parity, once");
        }
        process::run(&mut Command::new(INSTALL), "", INSTALL_LIMIT)?;
        let python = Path::new(ENVIRONMENT).join("bin/python");
        let version = self::python(&python, &["--version"], SCRIPT_LIMIT)?;
        let key = [&[version.as_str(), PACKAGES], &MAKE_FIXTURES[..]].concat();
        let fixtures = made_once("fixtures", &key, |folder| {
            let folder = folder.to_string_lossy();
            self::python(&python, &[SCRIPTS, "fixtures", &folder], SCRIPT_LIMIT).map(drop)
        })?;
        Ok(Self { python, fixtures })
    }

    /// What `reference VERB` answers to `job`.
    pub(crate) fn ask(&self, verb: &str, job: &Value) -> Value {
        let mut command = Command::new(&self.python);
        let answer = process::run(command.args([SCRIPTS, verb]), &job.to_string(), SCRIPT_LIMIT);
        let answer = answer.unwrap_or_else(|error| panic!("reference {verb}: {error}"));
        serde_json::from_str(&answer).expect("the reference prints JSON")
    }
}

fn python(python: &Path, arguments: &[&str], limit: Duration) -> Result<String, String> {
    process::run(Command::new(python).args(arguments), "", limit)
}

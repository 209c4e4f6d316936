//! schemathesis against a running process: requests that its OpenAPI document allows and forbids, and every answer checked against it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::venv;

/// What a run came to.
#[derive(Debug)]
pub struct Run {
    /// Requests that were made.
    pub cases: u64,
    /// Whether every check held.
    pub passed: bool,
    /// What it printed.
    pub report: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/schemathesis")
}

/// Runs every check over the operations of `document`, with data that is valid and data that is not.
///
/// # Panics
/// If it cannot be installed or run.
#[must_use]
pub fn run(document: &str, token: &str, examples_per_operation: u32, seed: u64) -> Run {
    let scratch = tempfile::tempdir().expect("a folder for what it leaves behind");
    let mut command = Command::new(venv::python("schemathesis", &folder().join("requirements.txt")));
    command
        .args(["-m", "schemathesis.cli", "run", document, "--checks", "all", "--mode", "all"])
        .arg("--header")
        .arg(format!("Authorization: Bearer {token}"))
        .args(["--max-examples", &examples_per_operation.to_string(), "--seed", &seed.to_string()])
        .current_dir(scratch.path())
        .stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().to_ascii_uppercase().ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    let output = command.output().expect("schemathesis runs");
    let report = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let cases = report.lines().find_map(|line| line.trim().split_once(" generated")?.0.parse().ok());
    Run {
        cases: cases.unwrap_or(0),
        passed: output.status.success(),
        report,
    }
}

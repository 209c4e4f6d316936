//! Where the `llm-proxy` binary is, and short runs of it.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The binary under test: LLM_PROXY_BIN, or else the workspace's own, brought up to date once per test process in the profile of this test.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn path() -> PathBuf {
    // A failure is remembered too: the other tests of the process need not compile it again.
    static PATH: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PATH.get_or_init(find).clone().unwrap_or_else(|why| panic!("{why}"))
}

fn find() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("LLM_PROXY_BIN") {
        return Ok(PathBuf::from(path));
    }
    // target/<profile>/deps/integration-… or target/<profile>/bench
    let test = std::env::current_exe().expect("the path of the test");
    let mut profile = test.parent().expect("the folder of the test");
    if profile.ends_with("deps") {
        profile = profile.parent().expect("the folder of the profile");
    }
    let target = profile.parent().expect("the target folder");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "llm-proxy",
            "--bin",
            "llm-proxy",
            "--target-dir",
        ])
        .arg(target);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    match cargo.status() {
        Ok(status) if status.success() => Ok(profile.join("llm-proxy")),
        failed => Err(format!(
            "`cargo build -p llm-proxy` failed ({failed:?}); set LLM_PROXY_BIN to test another binary"
        )),
    }
}

/// A command of the binary, without the environment variables that would change its behaviour.
#[must_use]
pub fn command(args: &[&str]) -> Command {
    command_under(&[], args)
}

/// The same, run by another program (`valgrind`), which is given with its own arguments.
#[must_use]
pub fn command_under(wrapper: &[String], args: &[&str]) -> Command {
    let mut command = match wrapper.split_first() {
        Some((program, own)) => {
            let mut command = Command::new(program);
            command.args(own).arg(path());
            command
        }
        None => Command::new(path()),
    };
    command.args(args);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_uppercase();
        let ours = ["LLM_PROXY_", "OPENAI_", "LOG_"].iter().any(|prefix| text.starts_with(prefix));
        if ours || text.ends_with("_PROXY") || text == "LISTEN_ADDR" || text == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs it to its end.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn run(args: &[&str]) -> Output {
    command(args).output().expect("llm-proxy runs")
}

//! Virtual environments of Python under the target folder, made once per version of their requirements.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The interpreter of the environment `name` with what `requirements` lists.
///
/// # Panics
/// If Python 3 with `venv` is missing, or the requirements cannot be installed.
#[must_use]
pub fn python(name: &str, requirements: &Path) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let text = fs::read_to_string(requirements).unwrap_or_else(|error| panic!("{}: {error}", requirements.display()));
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let test = std::env::current_exe().expect("the path of the test");
    let target = test
        .ancestors()
        .find(|path| path.join("CACHEDIR.TAG").exists())
        .expect("the target folder");
    let ready = target.join(format!("{name}-{:016x}", hasher.finish()));
    if !ready.exists() {
        // Made beside and renamed at the end, so that a broken-off installation is never taken for one. (`python -m` does not mind the move.)
        let draft = tempfile::Builder::new()
            .prefix(name)
            .tempdir_in(target)
            .expect("a folder for the virtual environment")
            .keep();
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&draft));
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        succeed(Command::new(draft.join("bin/python")).args(install).arg(requirements));
        if fs::rename(&draft, &ready).is_err() {
            assert!(ready.exists(), "the virtual environment cannot be put in place");
        }
    }
    ready.join("bin/python")
}

fn succeed(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; these tests need python3 with venv"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

//! The official OpenAI Python SDK in a virtual environment under the target folder, made once per version of its requirements.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;

/// The folder of the scripts and of requirements.txt.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/sdk")
}

/// Makes the calls of `calls.py` in one process and returns what the application saw of each. `base_url` ends in `/v1`, as the .env has it.
///
/// # Panics
/// If Python 3 with `venv` is missing, the SDK cannot be installed, or the script fails.
#[must_use]
pub fn calls(base_url: &str, api_key: &str, calls: &Value) -> Vec<Value> {
    let mut command = Command::new(python());
    command
        .arg(folder().join("calls.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_uppercase();
        if text.starts_with("OPENAI_") || text.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .env("OPENAI_BASE_URL", base_url)
        .env("OPENAI_API_KEY", api_key)
        .spawn()
        .expect("python runs");
    // Dropped at the end of the statement: the script reads up to the end of its input.
    child
        .stdin
        .take()
        .expect("its input")
        .write_all(calls.to_string().as_bytes())
        .expect("it reads its input");
    let output = child.wait_with_output().expect("python ends");
    let printed = serde_json::from_slice(&output.stdout);
    printed.unwrap_or_else(|error| panic!("calls.py gave no JSON ({error}): {}", String::from_utf8_lossy(&output.stderr)))
}

/// The interpreter of the virtual environment.
fn python() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let requirements = fs::read_to_string(folder().join("requirements.txt")).expect("requirements.txt of the SDK");
    let mut hasher = DefaultHasher::new();
    requirements.hash(&mut hasher);
    let test = std::env::current_exe().expect("the path of the test");
    let target = test
        .ancestors()
        .find(|path| path.join("CACHEDIR.TAG").exists())
        .expect("the target folder");
    let ready = target.join(format!("openai-sdk-{:016x}", hasher.finish()));
    if !ready.exists() {
        // Made beside and renamed at the end, so that a broken-off installation is never taken for one. (`python -m` does not mind the move.)
        let draft = tempfile::Builder::new()
            .prefix("openai-sdk-")
            .tempdir_in(target)
            .expect("a folder for the virtual environment")
            .keep();
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&draft));
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        succeed(
            Command::new(draft.join("bin/python"))
                .args(install)
                .arg(folder().join("requirements.txt")),
        );
        if fs::rename(&draft, &ready).is_err() {
            assert!(ready.exists(), "the virtual environment cannot be put in place");
        }
    }
    ready.join("bin/python")
}

fn succeed(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; the SDK tests need python3 with venv"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Provider, wire};
    use serde_json::json;

    /// The control of the SDK tests: what they will expect through the proxy is what the SDK makes of the scripted provider itself.
    #[test]
    fn the_sdk_understands_every_answer_of_the_scripted_provider() {
        let provider = Provider::start();
        let names = ["models", "chat", "chat_stream", "responses", "responses_stream", "embeddings"];
        let wanted: Value = names.iter().map(|name| json!({"call": name})).collect();
        let seen = calls(&format!("{}/v1", provider.base_url()), "any", &wanted);
        for (name, outcome) in names.iter().zip(&seen) {
            assert!(outcome["ok"] != Value::Null, "{name}: {outcome}");
        }
        let text = wire::WORDS.concat();
        for outcome in &seen[1..5] {
            assert_eq!(
                (&outcome["ok"]["text"], outcome["ok"]["output"].as_u64()),
                (&json!(text), Some(wire::OUTPUT_TOKENS))
            );
        }
        assert_eq!(seen[5]["ok"]["vector"], json!([0.25, -0.5, 0.75]));
    }
}

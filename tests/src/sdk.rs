//! The official OpenAI Python SDK in a virtual environment of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::venv;

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
    let mut command = Command::new(venv::python("openai-sdk", &folder().join("requirements.txt")));
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

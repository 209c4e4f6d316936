//! Echo's models: `echo`, and `echo-<n>ms` which pauses before each chunk.

use http::StatusCode;
use serde::Serialize;

use super::{EchoAnswer, whole};
use crate::ApiError;

/// The models that the list names.
const LISTED: [&str; 2] = ["echo", "echo-20ms"];
/// The longest pause.
const MOST_MS: u32 = 60_000;

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: &'a [Model<'a>],
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

pub(super) fn list() -> EchoAnswer {
    whole(&List {
        object: "list",
        data: &LISTED.map(model),
    })
}

pub(super) fn retrieve(id: &str) -> Result<EchoAnswer, ApiError> {
    pause_ms(id).map(|_| whole(&model(id)))
}

fn model(id: &str) -> Model<'_> {
    Model {
        id,
        object: "model",
        created: 0,
        owned_by: "llm-proxy",
    }
}

/// The pause that a model's name asks for, in milliseconds.
pub(super) fn pause_ms(model: &str) -> Result<u32, ApiError> {
    if model == "echo" {
        return Ok(0);
    }
    let digits = model
        .strip_prefix("echo-")
        .and_then(|rest| rest.strip_suffix("ms"))
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|digits| digits.parse().ok())
        .filter(|pause| *pause <= MOST_MS)
        .ok_or_else(|| {
            let shown: String = model.chars().take(64).flat_map(char::escape_debug).collect();
            let message = format!("The model \"{shown}\" does not exist here: Echo has \"echo\", and \"echo-20ms\" which pauses between chunks.");
            ApiError {
                param: Some("model"),
                ..ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message)
            }
        })
}

//! The Echo provider: answers with the caller's own words, for demos, `helm test` and tests without an account (contracts.md §9).
//! It is deterministic, keeps nothing, and ignores every parameter that it does not name. It refuses to wait: pauses are handed to the caller.

mod chat;
mod completions;
mod embeddings;
mod models;
mod request;
mod responses;
mod script;
mod words;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::json::json;
use crate::{ApiError, Endpoint, EndpointKind, Peek};

/// What Echo answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EchoAnswer {
    /// A JSON body.
    Whole {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: Bytes,
    },
    /// A stream of events.
    Stream {
        /// What to send, in order: one event each; the last holds `[DONE]` too where the endpoint has it.
        chunks: Vec<Bytes>,
        /// The pause before each chunk but the first, in milliseconds.
        pause_ms: u32,
    },
    /// A refusal.
    Error(ApiError),
}

/// What every answer is made from.
struct Call<'a> {
    model: &'a str,
    /// The pause that the model's name asks for, in milliseconds.
    pause_ms: u32,
    /// 24 hexadecimal digits of the body's SHA-256: the same request always gets the same ids.
    id: String,
    peeked: &'a Peek<'a>,
    body: &'a [u8],
}

/// Answers a request. `path` is the client's, `peeked` what [`crate::peek::peek`] said of `body`; a request without a body has the default.
#[must_use]
pub fn answer(endpoint: &Endpoint, path: &str, peeked: &Peek<'_>, body: &[u8]) -> EchoAnswer {
    attempt(endpoint, path, peeked, body).unwrap_or_else(EchoAnswer::Error)
}

fn attempt(endpoint: &Endpoint, path: &str, peeked: &Peek<'_>, body: &[u8]) -> Result<EchoAnswer, ApiError> {
    let reply: fn(&Call<'_>) -> Result<EchoAnswer, ApiError> = match endpoint.kind {
        EndpointKind::ChatCompletions => chat::reply,
        EndpointKind::Completions => completions::reply,
        EndpointKind::Responses => responses::reply,
        EndpointKind::Embeddings => embeddings::reply,
        EndpointKind::Models => return Ok(models::list()),
        EndpointKind::Model => return models::retrieve(endpoint.id_in(path).unwrap_or_default()),
        _ => {
            let message = format!(
                "Echo does not offer {}: it has chat completions, completions, responses, embeddings and models. Use a project with a real provider.",
                endpoint.path
            );
            return Err(ApiError::new(StatusCode::NOT_FOUND, "endpoint_not_found", message));
        }
    };
    endpoint.check_model(peeked)?;
    let Some(model) = peeked.model.as_deref() else {
        return Err(ApiError::bad_request(
            "missing_required_parameter",
            "model",
            "Echo stores no prompts: name a model, such as \"echo\".",
        ));
    };
    let pause_ms = models::pause_ms(model)?;
    let id = Sha256::digest(body).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    reply(&Call {
        model,
        pause_ms,
        id,
        peeked,
        body,
    })
}

fn whole(body: &impl Serialize) -> EchoAnswer {
    EchoAnswer::Whole {
        status: StatusCode::OK.as_u16(),
        body: json(body),
    }
}

#[cfg(test)]
mod tests;

//! Echo.
use bytes::Bytes;
use http::StatusCode;
use crate::{ApiError, Endpoint, Peek};

/// Echo's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EchoAnswer {
    /// A JSON body.
    Whole {
        /// HTTP status.
        status: u16,
        /// JSON.
        body: Bytes,
    },
    /// A stream.
    Stream {
        /// Events.
        chunks: Vec<Bytes>,
        /// Pause.
        pause_ms: u32,
    },
    /// A refusal.
    Error(ApiError),
}

/// Answers.
#[must_use]
pub fn answer(endpoint: &Endpoint, path: &str, peeked: &Peek<'_>, body: &[u8]) -> EchoAnswer {
    let _ = (endpoint, path, peeked, body);
    EchoAnswer::Error(ApiError::new(StatusCode::NOT_FOUND, "endpoint_not_found", ""))
}

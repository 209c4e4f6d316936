//! OpenAI error objects, as a body and as the final event of a stream.
//! It refuses to know why a request was refused: status, code and message come from the caller.

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use crate::{EndpointKind, json::json, sse};

/// An error in OpenAI's form. The official SDKs choose their exception class by the status alone (400 `BadRequestError`, 401 `AuthenticationError`,
/// 403 `PermissionDeniedError`, 404 `NotFoundError`, 429 `RateLimitError`, ≥ 500 `InternalServerError`) and hand on `code`, `type` and `param`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What a program branches on: the `code` of the error object.
    pub code: &'static str,
    /// The family: the `type` of the error object.
    pub type_: &'static str,
    /// What happened, to which object, and what to do.
    pub message: String,
    /// The request's parameter that is to blame.
    pub param: Option<&'static str>,
}

impl ApiError {
    /// An error of the given status, with the `type` that belongs to it.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            type_: family(status),
            message: message.into(),
            param: None,
        }
    }

    /// A 400 that blames a parameter.
    #[must_use]
    pub fn bad_request(code: &'static str, param: &'static str, message: impl Into<String>) -> Self {
        Self {
            param: Some(param),
            ..Self::new(StatusCode::BAD_REQUEST, code, message)
        }
    }

    /// The body: `{"error":{"message","type","param","code"}}`.
    #[must_use]
    pub fn to_body(&self) -> Bytes {
        json(&Body { error: self.object() })
    }

    /// The final event of a stream that has begun. It opens with an empty line, so that it stands by itself even if the provider broke off inside
    /// a line.
    ///
    /// A Responses stream gets `event: error` with the fields both at the top level, as the SDKs' type declares them, and under `error`, as OpenAI
    /// sends them and as the Python SDK looks for them; `sequence` is the number of events before it. The other streams know no numbers.
    #[must_use]
    pub fn to_event(&self, kind: EndpointKind, sequence: u64) -> Bytes {
        let mut out = Vec::with_capacity(256 + 2 * self.message.len());
        out.extend_from_slice(b"\n\n");
        if kind == EndpointKind::Responses {
            let object = self.object();
            let Object { message, param, code, .. } = object;
            let event = ResponsesEvent {
                kind: "error",
                sequence_number: sequence,
                code,
                message,
                param,
                error: object,
            };
            sse::write_event(&mut out, Some("error"), &json(&event));
        } else {
            sse::write_event(&mut out, None, &self.to_body());
        }
        Bytes::from(out)
    }

    fn object(&self) -> Object<'_> {
        Object {
            message: &self.message,
            kind: self.type_,
            param: self.param,
            code: self.code,
        }
    }
}

// Typed, not `json!`: the order of fields on the wire then hangs on no feature of serde_json.
#[derive(Serialize)]
struct Body<'a> {
    error: Object<'a>,
}

#[derive(Clone, Copy, Serialize)]
struct Object<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

#[derive(Serialize)]
struct ResponsesEvent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    sequence_number: u64,
    code: &'a str,
    message: &'a str,
    param: Option<&'a str>,
    error: Object<'a>,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for ApiError {}

fn family(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        503 => "service_unavailable_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duplicate() -> ApiError {
        ApiError::bad_request(
            "duplicate_parameter",
            "model",
            "The parameter \"model\" stands twice in the body: send it once.",
        )
    }

    #[test]
    fn a_body_is_an_openai_error_object() {
        insta::assert_snapshot!(String::from_utf8(duplicate().to_body().to_vec()).unwrap());
    }

    #[test]
    fn an_error_ends_a_chat_stream_as_a_data_event() {
        insta::assert_snapshot!(String::from_utf8(duplicate().to_event(EndpointKind::ChatCompletions, 7).to_vec()).unwrap());
    }

    #[test]
    fn an_error_ends_a_responses_stream_as_a_named_and_numbered_event() {
        insta::assert_snapshot!(String::from_utf8(duplicate().to_event(EndpointKind::Responses, 7).to_vec()).unwrap());
    }

    #[test]
    fn an_event_stands_apart_from_a_broken_line_before_it() {
        for kind in [EndpointKind::ChatCompletions, EndpointKind::Responses] {
            let event = duplicate().to_event(kind, 0);
            assert!(event.starts_with(b"\n\n") && event.ends_with(b"}\n\n"));
        }
    }

    #[test]
    fn the_family_follows_the_status() {
        let of = |status: u16| ApiError::new(StatusCode::from_u16(status).unwrap(), "x", "x").type_;
        assert_eq!(
            [400, 401, 403, 404, 413, 429, 500, 502, 503].map(of),
            [
                "invalid_request_error",
                "authentication_error",
                "permission_error",
                "invalid_request_error",
                "invalid_request_error",
                "rate_limit_error",
                "server_error",
                "server_error",
                "service_unavailable_error"
            ]
        );
    }
}

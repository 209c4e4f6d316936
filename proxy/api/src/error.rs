//! The error body of `/manage`: `{"error": string, "code": string}`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An error as `/manage` answers it and its clients read it. Unlike on `/v1`, `error` is a plain string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What happened, to which object, and what to do.
    #[schema(max_length = 2048)]
    pub error: String,
    /// What a program branches on, such as `token_not_found`.
    #[schema(max_length = 64, pattern = "^[a-z_]+$")]
    pub code: String,
}

impl ErrorBody {
    /// The body of an answer.
    #[must_use]
    pub fn new(code: impl Into<String>, error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            code: code.into(),
        }
    }

    /// The body as JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Two strings cannot fail to serialize; an empty body would show if they ever did.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_two_strings_in_this_order() {
        let body = ErrorBody::new(
            "token_not_found",
            "There is no token \"a\": list them with `llm-proxy manage token list`.",
        );
        let json = body.to_json();
        assert_eq!(
            json,
            r#"{"error":"There is no token \"a\": list them with `llm-proxy manage token list`.","code":"token_not_found"}"#
        );
        assert_eq!(serde_json::from_str::<ErrorBody>(&json).unwrap(), body);
    }

    #[test]
    fn fields_of_newer_servers_are_passed_over() {
        let body: ErrorBody = serde_json::from_str(r#"{"error":"x","code":"y","details":[]}"#).unwrap();
        assert_eq!(body, ErrorBody::new("y", "x"));
    }
}

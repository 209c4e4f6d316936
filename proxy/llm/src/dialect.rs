//! The dialects that providers speak: how a credential is presented and how an error is worded on the wire.
//! It refuses to know which provider speaks which: that is configuration.

use http::{HeaderName, HeaderValue, header};

use crate::{ApiError, EndpointKind};
use bytes::Bytes;

/// A provider's language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The OpenAI REST API and everything that is compatible with it.
    OpenAi,
}

impl Dialect {
    /// The header that carries the provider's key, marked sensitive so that `Debug` output hides it.
    ///
    /// # Errors
    /// The key holds bytes that no header can carry (a line break, say). The key itself is not part of the error.
    pub fn auth_header(self, key: &str) -> Result<(HeaderName, HeaderValue), http::header::InvalidHeaderValue> {
        match self {
            Self::OpenAi => {
                let mut value = HeaderValue::from_str(&format!("Bearer {key}"))?;
                value.set_sensitive(true);
                Ok((header::AUTHORIZATION, value))
            }
        }
    }

    /// An error as the body of an answer.
    #[must_use]
    pub fn error_body(self, error: &ApiError) -> Bytes {
        match self {
            Self::OpenAi => error.to_body(),
        }
    }

    /// An error as the final event of a stream that has begun; `sequence` as in [`ApiError::to_event`].
    #[must_use]
    pub fn error_event(self, error: &ApiError, kind: EndpointKind, sequence: u64) -> Bytes {
        match self {
            Self::OpenAi => error.to_event(kind, sequence),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sent_as_a_bearer_and_hidden_from_debug_output() {
        let (name, value) = Dialect::OpenAi.auth_header("sk-canary").unwrap();
        assert_eq!(name, "authorization");
        assert_eq!(value, "Bearer sk-canary");
        assert!(!format!("{value:?}").contains("canary"));
    }

    #[test]
    fn a_key_with_a_line_break_is_refused_without_being_shown() {
        let error = Dialect::OpenAi.auth_header("sk-canary\nx: y").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}

//! The head of a request: its endpoint and the presented token. Nothing here looks anything up.

use http::header::{AUTHORIZATION, UPGRADE};
use http::{HeaderMap, HeaderValue, request};
use llm::Endpoint;
use llm::endpoint;
use store::{TokenDigest, TokenValue};

use crate::headers::{X_API_KEY, X_REQUEST_ID};
use crate::refusal::Refusal;

/// A client's own request id is kept if it is at most this long and visible ASCII.
const MAX_REQUEST_ID: usize = 128;

/// The first stage: what was asked for and who asks, as presented.
pub(crate) struct Inbound {
    pub(crate) endpoint: &'static Endpoint,
    pub(crate) digest: TokenDigest,
}

/// Reads the head. Refusals come in the order in which they help: where, how, who.
pub(crate) fn accept(head: &request::Parts) -> Result<Inbound, Refusal> {
    if head.headers.contains_key(UPGRADE) {
        return Err(Refusal::UpgradeNotSupported);
    }
    let path = head.uri.path();
    let endpoint = endpoint::find(path).ok_or(Refusal::EndpointNotFound)?;
    if !endpoint.allows(&head.method) {
        return Err(Refusal::MethodNotAllowed {
            allow: endpoint.allow_header(),
        });
    }
    let token = presented(&head.headers).ok_or(Refusal::MissingToken)?;
    TokenValue::check(token).map_err(|_| Refusal::InvalidToken)?;
    Ok(Inbound {
        endpoint,
        digest: TokenDigest::of(token),
    })
}

/// The presented token: `Authorization: Bearer …` wins over `x-api-key`. A header that is there but unreadable is an empty token,
/// which is malformed.
fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let value = value.to_str().unwrap_or("");
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() {
            return Some(token.trim());
        }
        // `Basic …`, or a bare scheme: not a token. An x-api-key beside it may still be one.
    }
    let value = headers.get(X_API_KEY)?;
    let token = value.to_str().unwrap_or("\u{0}").trim();
    (!token.is_empty()).then_some(token)
}

/// The client's request id, if it can be shown; otherwise a fresh one.
pub(crate) fn request_id(headers: &HeaderMap, fresh: impl FnOnce() -> String) -> HeaderValue {
    headers
        .get(X_REQUEST_ID)
        .filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic))
        .cloned()
        .or_else(|| HeaderValue::try_from(fresh()).ok())
        .unwrap_or(HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(k, v)| (http::HeaderName::from_static(k), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn authorization_wins_over_x_api_key() {
        assert_eq!(presented(&head(&[("authorization", "Bearer a"), ("x-api-key", "b")])), Some("a"));
        assert_eq!(presented(&head(&[("authorization", "bEaReR  a ")])), Some("a"));
        assert_eq!(presented(&head(&[("x-api-key", "b")])), Some("b"));
    }

    #[test]
    fn an_authorization_that_holds_no_bearer_token_is_no_token() {
        assert_eq!(presented(&head(&[("authorization", "Basic abc")])), None);
        assert_eq!(presented(&head(&[("authorization", "Bearer ")])), None);
        assert_eq!(presented(&head(&[("authorization", "Basic abc"), ("x-api-key", "b")])), Some("b"));
    }

    #[test]
    fn a_request_id_that_cannot_be_shown_is_replaced() {
        assert_eq!(request_id(&head(&[("x-request-id", "abc-1")]), || "fresh".into()), "abc-1");
        assert_eq!(request_id(&head(&[("x-request-id", "a b")]), || "fresh".into()), "fresh");
        assert_eq!(request_id(&head(&[]), || "fresh".into()), "fresh");
    }
}

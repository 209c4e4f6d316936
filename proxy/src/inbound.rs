//! The head of a request: its endpoint, the presented token, the announced form of its body. Nothing here looks anything up.

use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Version, request};
use llm::{BodyKind, Endpoint, endpoint};
use store::{TokenDigest, TokenValue};

use crate::headers::{X_API_KEY, X_REQUEST_ID};
use crate::refusal::Refusal;

/// A client's own request id is kept if it is at most this long and visible ASCII.
const MAX_REQUEST_ID: usize = 128;
const JSON: &str = "application/json";
const NOT_JSON: &str = "This endpoint takes JSON: send Content-Type: application/json.";
const NOT_UTF8: &str = "This endpoint takes JSON in UTF-8: encode the body so, and leave charset out of Content-Type.";
const ENCODED: &str = "Compressed request bodies are not taken: send the body without Content-Encoding.";
const NOT_MULTIPART: &str = "This endpoint takes a form: send Content-Type: multipart/form-data.";

/// The first stage: what was asked for and who asks, as presented.
pub(crate) struct Inbound {
    pub(crate) endpoint: &'static Endpoint,
    pub(crate) digest: TokenDigest,
}

/// Reads the head. Refusals come in the order in which they help: where, how, who, in which form.
pub(crate) fn accept(head: &request::Parts) -> Result<Inbound, Refusal> {
    if head.version == Version::HTTP_11 && !has_one_host(&head.headers) {
        return Err(Refusal::AmbiguousHost);
    }
    if asks_for_websocket(&head.headers) {
        return Err(Refusal::UpgradeNotSupported);
    }
    let endpoint = endpoint::find(head.uri.path()).ok_or(Refusal::EndpointNotFound)?;
    if !endpoint.allows(&head.method) {
        return Err(Refusal::MethodNotAllowed {
            allow: endpoint.allow_header(),
        });
    }
    let token = presented(&head.headers)?;
    TokenValue::check(token).map_err(|_| Refusal::InvalidToken)?;
    Ok(Inbound {
        endpoint,
        digest: TokenDigest::of(token),
    })
}

/// RFC 9112 §3.2.
fn has_one_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    hosts.next().is_some() && hosts.next().is_none()
}

/// Other upgrades are offers that a server may pass over (RFC 9110 §7.8): Java's own client offers h2c with every cleartext request.
fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let mut offers = headers.get_all(UPGRADE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    offers.any(|offer| offer.trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

/// The presented token: `Authorization: Bearer …` wins over `x-api-key`. One that is there twice, or that is no text, is malformed: who
/// stands before us may have looked at the other one.
fn presented(headers: &HeaderMap) -> Result<&str, Refusal> {
    if let Some(value) = only(headers, &AUTHORIZATION)?
        && let Some(token) = bearer(value)
    {
        return readable(token);
    }
    // `Basic …`, or a bare scheme: not a token. An x-api-key beside it may still be one.
    match only(headers, &X_API_KEY)?.map(|value| value.as_bytes().trim_ascii()) {
        None | Some(b"") => Err(Refusal::MissingToken),
        Some(token) => readable(token),
    }
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Refusal::InvalidToken);
    }
    Ok(first)
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

fn readable(token: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(token).map_err(|_| Refusal::InvalidToken)
}

/// Whether the body has the form that the endpoint takes.
pub(crate) fn check_media_type(kind: BodyKind, headers: &HeaderMap) -> Result<(), Refusal> {
    let content_type = headers.get(CONTENT_TYPE);
    if kind == BodyKind::Json && content_type.is_some_and(|value| value == JSON) && !headers.contains_key(CONTENT_ENCODING) {
        // Nearly always.
        return Ok(());
    }
    let content_type = content_type.and_then(|v| v.to_str().ok()).unwrap_or("");
    let essence = content_type.split(';').next().unwrap_or("").trim();
    match kind {
        BodyKind::None => Ok(()),
        BodyKind::Json if !essence.eq_ignore_ascii_case(JSON) => Err(Refusal::UnsupportedMediaType { what: NOT_JSON }),
        BodyKind::Json if !is_utf8(content_type) => Err(Refusal::UnsupportedMediaType { what: NOT_UTF8 }),
        BodyKind::Multipart if !essence.eq_ignore_ascii_case("multipart/form-data") => Err(Refusal::UnsupportedMediaType { what: NOT_MULTIPART }),
        _ if headers.contains_key(CONTENT_ENCODING) => Err(Refusal::UnsupportedMediaType { what: ENCODED }),
        BodyKind::Json | BodyKind::Multipart => Ok(()),
    }
}

/// Whether a media type's `charset`, if it has one, is UTF-8 or its part ASCII.
fn is_utf8(content_type: &str) -> bool {
    let parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let mut charsets = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    charsets.all(|(_, value)| {
        let value = value.trim().trim_matches('"');
        ["utf-8", "utf8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
    })
}

/// The client's request id, if it can be shown; otherwise a fresh one.
pub(crate) fn request_id(headers: &HeaderMap, fresh: impl FnOnce() -> HeaderValue) -> HeaderValue {
    headers
        .get(X_REQUEST_ID)
        .filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic))
        .cloned()
        .unwrap_or_else(fresh)
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
        assert_eq!(presented(&head(&[("authorization", "Bearer a"), ("x-api-key", "b")])), Ok("a"));
        assert_eq!(presented(&head(&[("authorization", "bEaReR  a ")])), Ok("a"));
        assert_eq!(presented(&head(&[("x-api-key", " b ")])), Ok("b"));
    }

    #[test]
    fn an_authorization_that_holds_no_bearer_token_is_no_token() {
        let missing = Err(Refusal::MissingToken);
        for value in ["Basic abc", "Bearer ", "Bearer", "Bearerabc", ""] {
            assert_eq!(presented(&head(&[("authorization", value)])), missing, "{value:?}");
        }
        assert_eq!(presented(&head(&[("x-api-key", "")])), missing);
        assert_eq!(presented(&head(&[("authorization", "Basic abc"), ("x-api-key", "b")])), Ok("b"));
    }

    #[test]
    fn a_token_that_is_there_twice_or_is_no_text_is_malformed() {
        let mut twice = head(&[("authorization", "Bearer a")]);
        twice.append("authorization", HeaderValue::from_static("Bearer a"));
        assert_eq!(presented(&twice), Err(Refusal::InvalidToken));
        let mut unreadable = head(&[("x-api-key", "b")]);
        unreadable.insert("authorization", HeaderValue::from_bytes(b"Bearer \xff").unwrap());
        assert_eq!(presented(&unreadable), Err(Refusal::InvalidToken));
    }

    #[test]
    fn only_a_websocket_among_the_offered_upgrades_is_refused() {
        assert!(asks_for_websocket(&head(&[("upgrade", "h2c, WebSocket")])));
        assert!(!asks_for_websocket(&head(&[("upgrade", "h2c")])));
        assert!(!asks_for_websocket(&head(&[])));
    }

    #[test]
    fn a_charset_other_than_utf_8_is_no_json_of_ours() {
        let check = |value: &'static str| check_media_type(BodyKind::Json, &head(&[("content-type", value)])).is_ok();
        for fine in [
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON;Charset=\"UTF-8\"; x=y",
        ] {
            assert!(check(fine), "{fine}");
        }
        for refused in [
            "application/json; charset=utf-16",
            "application/json; x=y; CHARSET=\"latin1\"",
            "text/json",
        ] {
            assert!(!check(refused), "{refused}");
        }
    }

    #[test]
    fn a_request_id_that_cannot_be_shown_is_replaced() {
        assert_eq!(
            request_id(&head(&[("x-request-id", "abc-1")]), || HeaderValue::from_static("fresh")),
            "abc-1"
        );
        assert_eq!(
            request_id(&head(&[("x-request-id", "a b")]), || HeaderValue::from_static("fresh")),
            "fresh"
        );
        assert_eq!(request_id(&head(&[]), || HeaderValue::from_static("fresh")), "fresh");
    }
}

//! Cross-origin headers for browsers (Fetch standard). Every answer carries them where the origin is allowed, errors included.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue};

/// What a browser's script may read of an answer.
const EXPOSED: HeaderValue = HeaderValue::from_static("x-request-id, x-upstream-request-id, retry-after, x-should-retry, openai-processing-ms");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE, OPTIONS");
const DEFAULT_HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type, x-api-key, x-request-id");
/// A day, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

/// The request's origin, if it is allowed.
pub(crate) fn allowed_origin(headers: &HeaderMap, allowed: &[String]) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    let listed = || allowed.iter().any(|a| a.as_bytes() == origin.as_bytes());
    (allowed.is_empty() || listed()).then(|| origin.clone())
}

/// Puts the headers of a simple answer in; a provider's own are replaced.
pub(crate) fn apply(headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
}

/// Puts the headers of a preflight's answer in.
pub(crate) fn apply_preflight(headers: &mut HeaderMap, origin: Option<&HeaderValue>, request: &HeaderMap) {
    if origin.is_some() {
        apply(headers, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            request.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned().unwrap_or(DEFAULT_HEADERS),
        );
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
}

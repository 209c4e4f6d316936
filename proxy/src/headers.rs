//! Which headers travel on: hop-by-hop ones never (RFC 9110 §7.6.1), credentials and traces of the client never upstream.

use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, ORIGIN,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, REFERER, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const X_UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");
pub(crate) const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

const HOP_BY_HOP: [HeaderName; 8] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Of the client, and no affair of the provider's.
const CLIENT_ONLY: [HeaderName; 11] = [
    X_API_KEY,
    EXPECT,
    COOKIE,
    ORIGIN,
    REFERER,
    FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    X_REAL_IP,
    X_REQUEST_ID,
];

/// Of the provider towards its own browsers: ours replace them.
const PROVIDER_ONLY: [HeaderName; 7] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
    SET_COOKIE,
];

/// Turns the client's headers into the provider's, in place. `identity` asks for an answer that is not compressed, so that its usage can be read.
pub(crate) fn to_upstream(headers: &mut HeaderMap, host: &HeaderValue, authorization: Option<&HeaderValue>, identity: bool) {
    remove_hop_by_hop(headers);
    for name in &CLIENT_ONLY {
        headers.remove(name);
    }
    // hyper frames the body by its exact size.
    headers.remove(CONTENT_LENGTH);
    headers.insert(HOST, host.clone());
    match authorization {
        Some(value) => drop(headers.insert(AUTHORIZATION, value.clone())),
        None => drop(headers.remove(AUTHORIZATION)),
    }
    if identity {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Turns the provider's headers into the client's, in place.
pub(crate) fn to_client(headers: &mut HeaderMap, request_id: &HeaderValue) {
    remove_hop_by_hop(headers);
    for name in &PROVIDER_ONLY {
        headers.remove(name);
    }
    if let Some(theirs) = headers.insert(X_REQUEST_ID, request_id.clone()) {
        headers.insert(X_UPSTREAM_REQUEST_ID, theirs);
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Headers that the sender names in Connection belong to this hop, too.
    if let Some(connection) = headers.remove(CONNECTION)
        && let Ok(named) = connection.to_str()
    {
        for name in named.split(',').map(str::trim) {
            if !name.eq_ignore_ascii_case("close") && !name.eq_ignore_ascii_case("keep-alive") {
                headers.remove(name);
            }
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn the_clients_credentials_and_traces_stay_here() {
        let mut sent = headers(&[
            ("authorization", "Bearer sk-lp-x"),
            ("x-api-key", "sk-lp-x"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "1.2.3.4"),
            ("user-agent", "OpenAI/Python"),
            ("openai-organization", "org"),
        ]);
        to_upstream(
            &mut sent,
            &HeaderValue::from_static("api.example"),
            Some(&HeaderValue::from_static("Bearer provider")),
            true,
        );
        let expected = headers(&[
            ("authorization", "Bearer provider"),
            ("user-agent", "OpenAI/Python"),
            ("openai-organization", "org"),
            ("host", "api.example"),
            ("accept-encoding", "identity"),
        ]);
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_keyless_provider_gets_no_authorization() {
        let mut sent = headers(&[("authorization", "Bearer sk-lp-x")]);
        to_upstream(&mut sent, &HeaderValue::from_static("h"), None, false);
        assert_eq!(sent, headers(&[("host", "h")]));
    }

    #[test]
    fn headers_named_in_connection_do_not_travel() {
        let mut sent = headers(&[("connection", "keep-alive, X-Hop"), ("x-hop", "1"), ("x-end", "2")]);
        remove_hop_by_hop(&mut sent);
        assert_eq!(sent, headers(&[("x-end", "2")]));
    }

    #[test]
    fn the_providers_request_id_is_kept_beside_ours() {
        let mut got = headers(&[
            ("x-request-id", "req_theirs"),
            ("access-control-allow-origin", "*"),
            ("content-type", "text/event-stream"),
        ]);
        to_client(&mut got, &HeaderValue::from_static("ours"));
        let expected = headers(&[
            ("x-request-id", "ours"),
            ("content-type", "text/event-stream"),
            ("x-upstream-request-id", "req_theirs"),
        ]);
        assert_eq!(got, expected);
    }
}

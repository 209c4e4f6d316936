//! Which headers travel on: hop-by-hop ones never (RFC 9110 §7.6.1), credentials and traces of the client never upstream.

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const X_UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");
pub(crate) const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Of the client, and no affair of the provider's. hyper frames the body anew by its exact size.
fn is_the_clients(name: &str) -> bool {
    matches!(
        name,
        "authorization" | "x-api-key" | "content-length" | "expect" | "cookie" | "origin" | "referer" | "x-request-id" | "x-real-ip"
    ) || matches!(name, "forwarded" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto")
}

/// Of the provider towards its own browsers. CORS headers are ours; what is left of these would speak of our host in its name.
fn is_the_providers(name: &str) -> bool {
    name.starts_with("access-control-") || matches!(name, "set-cookie" | "alt-svc" | "strict-transport-security")
}

/// Turns the client's headers into the provider's, in place. `identity` asks for an answer that is not compressed, so that its usage can be read.
pub(crate) fn to_upstream(headers: &mut HeaderMap, host: &HeaderValue, authorization: Option<&HeaderValue>, identity: bool) {
    remove(headers, |name| is_hop_by_hop(name) || is_the_clients(name));
    headers.insert(HOST, host.clone());
    if let Some(value) = authorization {
        headers.insert(AUTHORIZATION, value.clone());
    }
    if identity {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Turns the provider's headers into the client's, in place. The provider's request id makes room for ours.
pub(crate) fn to_client(headers: &mut HeaderMap) {
    remove(headers, |name| is_hop_by_hop(name) || is_the_providers(name));
    if let Some(theirs) = headers.remove(X_REQUEST_ID) {
        headers.insert(X_UPSTREAM_REQUEST_ID, theirs);
    }
}

/// One walk over what is there costs less than a look-up of everything that might be.
fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let mut doomed: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    // Headers that the sender names in Connection belong to this hop, too.
    for value in headers.get_all(CONNECTION) {
        let names = value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
        let others = names.filter(|name| !name.eq_ignore_ascii_case(b"keep-alive") && !name.eq_ignore_ascii_case(b"close"));
        doomed.extend(others.filter_map(|name| HeaderName::from_bytes(name).ok()));
    }
    for name in doomed {
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
    fn headers_named_in_any_connection_line_do_not_travel() {
        let mut sent = headers(&[("connection", "keep-alive, X-Hop"), ("x-hop", "1"), ("x-other", "1"), ("x-end", "2")]);
        sent.append("connection", HeaderValue::from_static("close,x-other, ,(?)"));
        remove(&mut sent, is_hop_by_hop);
        assert_eq!(sent, headers(&[("x-end", "2")]));
    }

    #[test]
    fn what_frames_this_hop_does_not_travel() {
        let mut sent = headers(&[
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("upgrade", "h2c"),
            ("http2-settings", "AA"),
            ("connection", "upgrade, http2-settings"),
        ]);
        to_upstream(&mut sent, &HeaderValue::from_static("h"), None, false);
        assert_eq!(sent, headers(&[("host", "h")]));
    }

    #[test]
    fn the_providers_request_id_is_kept_and_what_speaks_of_its_host_is_not() {
        let mut got = headers(&[
            ("x-request-id", "req_theirs"),
            ("access-control-allow-origin", "*"),
            ("strict-transport-security", "max-age=31536000"),
            ("alt-svc", "h3=\":443\""),
            ("content-type", "text/event-stream"),
        ]);
        to_client(&mut got);
        let expected = headers(&[("content-type", "text/event-stream"), ("x-upstream-request-id", "req_theirs")]);
        assert_eq!(got, expected);
    }
}

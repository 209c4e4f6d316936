//! Which headers travel on: hop-by-hop ones never (RFC 9110 §7.6.1), credentials and traces of the client never upstream.

use http::HeaderName;

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

/// Of the client, and no affair of the provider's. The body is framed anew.
fn is_the_clients(name: &str) -> bool {
    matches!(
        name,
        "authorization" | "x-api-key" | "content-length" | "expect" | "cookie" | "origin" | "referer" | "x-request-id" | "x-real-ip" | "host"
    ) || matches!(name, "forwarded" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto")
}

/// Of the provider towards its own browsers. CORS headers are ours; what is left of these would speak of our host in its name.
fn is_the_providers(name: &str) -> bool {
    name.starts_with("access-control-") || matches!(name, "set-cookie" | "alt-svc" | "strict-transport-security")
}

/// Whether a client's header goes on to the provider, as far as its name decides.
pub(crate) fn travels_upstream(name: &str) -> bool {
    !is_hop_by_hop(name) && !is_the_clients(name)
}

/// Whether a provider's header goes on to the client, as far as its name decides.
pub(crate) fn travels_to_client(name: &str) -> bool {
    !is_hop_by_hop(name) && !is_the_providers(name)
}

/// What the sender's Connection headers say.
#[derive(Debug, Default)]
pub(crate) struct Hop<'h> {
    /// Headers that belong to this hop, too. Nearly always none.
    named: Vec<&'h [u8]>,
    closes: bool,
}

impl<'h> Hop<'h> {
    /// Reads the values of all Connection headers.
    pub(crate) fn of(values: impl Iterator<Item = &'h [u8]>) -> Self {
        let mut hop = Self::default();
        for token in values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                hop.closes = true;
            } else if !token.is_empty() && !token.eq_ignore_ascii_case(b"keep-alive") {
                hop.named.push(token);
            }
        }
        hop
    }

    /// Whether the sender ends the connection after this message.
    pub(crate) fn closes(&self) -> bool {
        self.closes
    }

    /// Whether a header belongs to this hop because the sender says so.
    pub(crate) fn names(&self, name: &HeaderName) -> bool {
        self.named.iter().any(|named| named.eq_ignore_ascii_case(name.as_str().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_credentials_and_traces_stay_here() {
        for stays in [
            "authorization",
            "x-api-key",
            "cookie",
            "x-forwarded-for",
            "host",
            "x-request-id",
            "content-length",
            "expect",
        ] {
            assert!(!travels_upstream(stays), "{stays}");
        }
        for travels in ["user-agent", "openai-organization", "content-type", "accept", "x-stainless-lang"] {
            assert!(travels_upstream(travels), "{travels}");
        }
    }

    #[test]
    fn what_frames_this_hop_does_not_travel_either_way() {
        for name in [
            "transfer-encoding",
            "te",
            "trailer",
            "upgrade",
            "connection",
            "keep-alive",
            "proxy-authorization",
        ] {
            assert!(!travels_upstream(name) && !travels_to_client(name), "{name}");
        }
    }

    #[test]
    fn what_speaks_of_the_providers_host_does_not_travel() {
        for name in ["access-control-allow-origin", "strict-transport-security", "alt-svc", "set-cookie"] {
            assert!(!travels_to_client(name), "{name}");
        }
        assert!(travels_to_client("content-type") && travels_to_client("x-ratelimit-reset-requests"));
    }

    #[test]
    fn headers_named_in_any_connection_line_belong_to_the_hop() {
        let hop = Hop::of([&b"keep-alive, X-Hop"[..], b"close,x-other, ,(?)"].into_iter());
        let names = |name: &'static str| hop.names(&HeaderName::from_static(name));
        assert!(names("x-hop") && names("x-other") && !names("x-end") && !names("keep-alive"));
        assert!(hop.closes());
        assert!(!Hop::of([&b"keep-alive"[..]].into_iter()).closes());
    }
}

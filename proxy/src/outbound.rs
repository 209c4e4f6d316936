//! The head of a request as the provider gets it: the client's method, target and headers, with its own host, path prefix and credential.
//! It is written once, into a buffer that stays; nothing of the client's head is changed.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, CONNECTION};
use http::{HeaderValue, Method, request};
use llm::{Endpoint, endpoint};

use crate::headers::{Hop, travels_upstream};
use crate::upstream::{BodyLength, Origin, Route, Target};

/// A request's head on its way upstream.
pub(crate) struct Outbound<'a> {
    head: &'a request::Parts,
    target: &'a Target,
    path: Cow<'a, str>,
    /// An answer that is not compressed is asked for, so that its usage can be read.
    identity: bool,
}

impl<'a> Outbound<'a> {
    pub(crate) fn new(head: &'a request::Parts, endpoint: &Endpoint, target: &'a Target) -> Self {
        Self {
            head,
            target,
            path: endpoint::upstream_path(&target.base_path, head.uri.path()),
            identity: endpoint.metered,
        }
    }

    pub(crate) fn method(&self) -> &Method {
        &self.head.method
    }

    /// Where it goes.
    pub(crate) fn origin(&self) -> &'a Arc<Origin> {
        &self.target.origin
    }

    /// Writes it to the end of `out`, its empty line included.
    pub(crate) fn write(&self, length: BodyLength, out: &mut Vec<u8>) {
        self.write_request_line(out);
        let origin = &self.target.origin;
        line(out, "host", &origin.authority);
        let headers = &self.head.headers;
        let hop = Hop::of(headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes));
        for (name, value) in headers {
            if travels_upstream(name.as_str()) && !hop.names(name) && !(self.identity && name == ACCEPT_ENCODING) {
                line(out, name.as_str(), value);
            }
        }
        if let Some(value) = &self.target.authorization {
            line(out, "authorization", value);
        }
        if let Some(value) = self.egress_credential() {
            line(out, "proxy-authorization", value);
        }
        if self.identity {
            out.extend_from_slice(b"accept-encoding: identity\r\n");
        }
        match length {
            BodyLength::None => {}
            BodyLength::Known(bytes) => {
                out.extend_from_slice(b"content-length: ");
                out.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            BodyLength::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        out.extend_from_slice(b"\r\n");
    }

    /// In origin form; in absolute form for an egress proxy without a tunnel.
    fn write_request_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head.method.as_str().as_bytes());
        out.push(b' ');
        if self.is_absolute() {
            out.extend_from_slice(b"http://");
            out.extend_from_slice(self.target.origin.authority.as_bytes());
        }
        out.extend_from_slice(self.path.as_bytes());
        if let Some(query) = self.head.uri.query() {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
    }

    fn is_absolute(&self) -> bool {
        !self.target.origin.tls && matches!(self.target.origin.route, Route::Proxy { .. })
    }

    /// Through a tunnel it has been shown already.
    fn egress_credential(&self) -> Option<&HeaderValue> {
        match &self.target.origin.route {
            Route::Proxy { authorization, .. } if !self.target.origin.tls => authorization.as_ref(),
            Route::Proxy { .. } | Route::Direct => None,
        }
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: &HeaderValue) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::Request;
    use llm::endpoint;

    use super::*;

    fn target(base_path: &str, route: Route) -> Target {
        Target {
            origin: Arc::new(Origin {
                number: 0,
                tls: false,
                host: "provider".into(),
                port: 80,
                authority: HeaderValue::from_static("provider"),
                route,
            }),
            base_path: base_path.into(),
            authorization: Some(HeaderValue::from_static("Bearer theirs")),
        }
    }

    /// The head that goes upstream when `asked` is asked with `headers`.
    fn written(target: &Target, asked: &str, headers: &[(&str, &str)], length: BodyLength) -> String {
        let mut request = Request::post(asked);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let endpoint = endpoint::find(head.uri.path()).unwrap();
        let mut out = b"kept".to_vec();
        Outbound::new(&head, endpoint, target).write(length, &mut out);
        String::from_utf8(out).unwrap().strip_prefix("kept").unwrap().to_owned()
    }

    fn request_line(base_path: &str, route: Route, asked: &str) -> String {
        let head = written(&target(base_path, route), asked, &[], BodyLength::None);
        head.lines().next().unwrap().to_owned()
    }

    #[test]
    fn the_target_is_the_clients_with_the_providers_prefix() {
        for (base, asked, expected) in [
            ("", "/v1/models", "/v1/models"),
            ("", "/v1/models?limit=2&x=%2f", "/v1/models?limit=2&x=%2f"),
            ("", "/models?limit=2", "/v1/models?limit=2"),
            ("/base", "/v1/models?limit=2", "/base/v1/models?limit=2"),
            ("", "http://elsewhere/v1/models?x", "/v1/models?x"),
        ] {
            assert_eq!(
                request_line(base, Route::Direct, asked),
                format!("POST {expected} HTTP/1.1"),
                "{base} {asked}"
            );
        }
    }

    #[test]
    fn an_egress_proxy_is_asked_in_absolute_form_and_shown_its_own_credential() {
        let route = || Route::Proxy {
            host: "egress".into(),
            port: 3128,
            authorization: Some(HeaderValue::from_static("Basic x")),
        };
        assert_eq!(
            request_line("/base", route(), "/v1/models?x"),
            "POST http://provider/base/v1/models?x HTTP/1.1"
        );
        let head = written(
            &target("", route()),
            "/v1/models",
            &[("proxy-authorization", "Basic client")],
            BodyLength::None,
        );
        assert_eq!(head.matches("proxy-authorization: ").count(), 1);
        assert!(head.contains("\r\nproxy-authorization: Basic x\r\n"), "{head}");
    }

    #[test]
    fn the_head_is_the_clients_without_what_is_only_its_own() {
        let headers = [
            ("host", "proxy"),
            ("authorization", "Bearer sk-lp-x"),
            ("accept-encoding", "gzip"),
            ("connection", "x-hop, keep-alive"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("via", "a"),
            ("via", "b"),
            ("user-agent", "OpenAI/Python"),
        ];
        assert_eq!(
            written(&target("", Route::Direct), "/v1/chat/completions", &headers, BodyLength::Known(120)),
            "POST /v1/chat/completions HTTP/1.1\r\nhost: provider\r\nvia: a\r\nvia: b\r\nuser-agent: OpenAI/Python\r\n\
             authorization: Bearer theirs\r\naccept-encoding: identity\r\ncontent-length: 120\r\n\r\n"
        );
    }

    #[test]
    fn a_keyless_provider_gets_no_authorization_and_what_is_not_metered_may_be_compressed() {
        let mut target = target("", Route::Direct);
        target.authorization = None;
        let head = written(
            &target,
            "/v1/files",
            &[("authorization", "Bearer sk-lp-x"), ("accept-encoding", "gzip")],
            BodyLength::Chunked,
        );
        assert_eq!(
            head,
            "POST /v1/files HTTP/1.1\r\nhost: provider\r\naccept-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
        );
    }
}

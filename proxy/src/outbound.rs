//! The request as the provider gets it: same bytes, its own host, path prefix and credential.

use std::borrow::Cow;

use http::header::PROXY_AUTHORIZATION;
use http::uri::PathAndQuery;
use http::{Request, Uri, Version, request};
use llm::{Endpoint, endpoint};

use crate::headers::to_upstream;
use crate::refusal::Refusal;
use crate::upstream::{Route, Target, UpstreamBody};

/// Takes the headers out of `head`: whoever gets the request back unsent puts them in again.
pub(crate) fn request(head: &mut request::Parts, endpoint: &Endpoint, target: &Target, body: UpstreamBody) -> Result<Request<UpstreamBody>, Refusal> {
    let origin = &target.origin;
    let uri = uri(&head.uri, target).ok_or(Refusal::EndpointNotFound)?;
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    *headers = std::mem::take(&mut head.headers);
    to_upstream(headers, &origin.authority, target.authorization.as_ref(), endpoint.metered);
    if let Route::Proxy {
        authorization: Some(value), ..
    } = &origin.route
        && !origin.tls
    {
        headers.insert(PROXY_AUTHORIZATION, value.clone());
    }
    Ok(request)
}

/// In origin form; in absolute form for an egress proxy without a tunnel.
fn uri(asked: &Uri, target: &Target) -> Option<Uri> {
    let path_and_query = match (endpoint::upstream_path(&target.base_path, asked.path()), asked.query()) {
        // Nothing changes: the client's own bytes.
        (Cow::Borrowed(_), _) => asked.path_and_query()?.clone(),
        (Cow::Owned(path), None) => PathAndQuery::try_from(path).ok()?,
        (Cow::Owned(path), Some(query)) => PathAndQuery::try_from(format!("{path}?{query}")).ok()?,
    };
    match &target.origin.route {
        Route::Proxy { .. } if !target.origin.tls => {
            let authority = target.origin.authority.to_str().ok()?;
            Uri::builder()
                .scheme("http")
                .authority(authority)
                .path_and_query(path_and_query)
                .build()
                .ok()
        }
        Route::Proxy { .. } | Route::Direct => Some(path_and_query.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderValue;

    use super::*;
    use crate::upstream::Origin;

    fn target(base_path: &str, route: Route) -> Target {
        Target {
            origin: Arc::new(Origin {
                tls: false,
                host: "provider".into(),
                port: 80,
                authority: HeaderValue::from_static("provider"),
                route,
            }),
            base_path: base_path.into(),
            authorization: None,
        }
    }

    fn sent(base_path: &str, route: Route, asked: &str) -> String {
        uri(&asked.parse().unwrap(), &target(base_path, route)).unwrap().to_string()
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
            assert_eq!(sent(base, Route::Direct, asked), expected, "{base} {asked}");
        }
    }

    #[test]
    fn an_egress_proxy_is_asked_in_absolute_form() {
        let route = Route::Proxy {
            host: "egress".into(),
            port: 3128,
            authorization: None,
        };
        assert_eq!(sent("/base", route, "/v1/models?x"), "http://provider/base/v1/models?x");
    }
}

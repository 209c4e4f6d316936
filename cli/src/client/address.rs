//! Base URLs as they are typed, and the targets below them.

use std::fmt;
use std::fmt::Write;

use http::Uri;
use http::uri::Scheme;

/// Scheme, host, port, and perhaps a path without a trailing `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    https: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// As typed: host and perhaps port.
    authority: String,
    path: String,
    /// What people are shown instead, if it is not what is connected to.
    shown: Option<String>,
}

impl BaseUrl {
    /// The far end of a forwarded port, which people know as `shown`.
    pub(crate) fn forwarded(shown: String, port: u16) -> Self {
        Self {
            https: false,
            host: "localhost".to_owned(),
            port,
            authority: format!("localhost:{port}"),
            path: String::new(),
            shown: Some(shown),
        }
    }

    /// Reads `http://localhost:8080`, `https://[::1]:8443/llm/`.
    ///
    /// # Errors
    /// What is wrong, without the text itself: it may hold a password.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = "expected http:// or https:// and a host, such as http://localhost:8080";
        let uri: Uri = text.parse().map_err(|_| wrong.to_owned())?;
        let (Some(scheme), Some(authority), Some(host)) = (uri.scheme(), uri.authority(), uri.host()) else {
            return Err(wrong.to_owned());
        };
        let https = match scheme {
            scheme if *scheme == Scheme::HTTP => false,
            scheme if *scheme == Scheme::HTTPS => true,
            _ => return Err(wrong.to_owned()),
        };
        if authority.as_str().contains('@') {
            return Err("a user and password in the URL are not used: leave them out".to_owned());
        }
        // `http` drops a fragment without a word.
        if uri.query().is_some() || text.contains('#') {
            return Err("a base URL ends with its path: leave out ? and # and what follows".to_owned());
        }
        // `http` takes a port that is none for no port.
        let port = match authority.as_str().strip_prefix(host).unwrap_or_default().strip_prefix(':') {
            None if https => 443,
            None => 80,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err("the port is not one of 1 to 65535".to_owned()),
            },
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong.to_owned());
        }
        Ok(Self {
            https,
            host: host.to_owned(),
            port,
            authority: authority.as_str().to_owned(),
            path: uri.path().trim_end_matches('/').to_owned(),
            shown: None,
        })
    }

    /// The same without a trailing `/v1`, which people copy along with the address.
    pub(crate) fn without_v1(mut self) -> Self {
        if let Some(path) = self.path.strip_suffix("/v1") {
            self.path = path.trim_end_matches('/').to_owned();
        }
        self
    }

    /// Whether it is reached by TLS.
    pub(super) fn is_https(&self) -> bool {
        self.https
    }

    /// Host, without brackets, and port.
    pub(super) fn peer(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The value of `Host`.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// The request target of what stands below it.
    pub(super) fn join(&self, target: &str) -> String {
        format!("{}{target}", self.path)
    }

    /// The target below this base that an URL or a path of the same server names; `None` if it points elsewhere.
    pub(crate) fn target_of(&self, link: &str) -> Option<String> {
        let path = match Self::split(link) {
            Some((origin, path)) if origin.eq_ignore_ascii_case(&self.origin()) => path,
            Some(_) => return None,
            None => link,
        };
        let target = path.strip_prefix(&self.path).unwrap_or(path);
        target.starts_with('/').then(|| target.to_owned())
    }

    fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }

    /// Origin and the rest of an absolute URL.
    fn split(link: &str) -> Option<(&str, &str)> {
        let authority = link.find("://")? + 3;
        let path = link[authority..].find('/').map_or(link.len(), |index| authority + index);
        Some(link.split_at(path))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shown {
            Some(shown) => f.write_str(shown),
            None => write!(f, "{}{}", self.origin(), self.path),
        }
    }
}

/// One segment of a path, or one value of a query: everything but RFC 3986's unreserved characters is escaped.
pub(crate) fn segment(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> BaseUrl {
        BaseUrl::parse(text).unwrap()
    }

    #[test]
    fn schemes_ports_paths_and_ipv6_are_read() {
        assert_eq!(base("http://localhost:8080").peer(), ("localhost", 8080));
        assert_eq!(base("https://example.com").peer(), ("example.com", 443));
        assert_eq!(base("http://[::1]").peer(), ("::1", 80));
        assert_eq!(base("HTTPS://[2001:db8::1]:8443/a/b/").peer(), ("2001:db8::1", 8443));
        assert_eq!(base("https://example.com/llm/").join("/manage/projects"), "/llm/manage/projects");
        assert_eq!(base("https://example.com/llm/").to_string(), "https://example.com/llm");
        assert_eq!(base("http://x/llm/v1/").without_v1().join("/v1/models"), "/llm/v1/models");
    }

    #[test]
    fn what_is_no_base_url_is_refused_without_being_shown() {
        for wrong in [
            "",
            "localhost:8080",
            "localhost",
            "ftp://x",
            "http://",
            "http://x:0",
            "http://x:99999",
            "http://x:",
            "http://x?y",
            "http://x/#y",
            "http://u:secret@x",
            "http://a b",
            "/manage",
        ] {
            let error = BaseUrl::parse(wrong).unwrap_err();
            assert!(!error.contains("secret"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_link_stays_on_its_server() {
        let base = base("https://example.com/llm");
        assert_eq!(base.target_of("/llm/manage/tokens?cursor=a").as_deref(), Some("/manage/tokens?cursor=a"));
        assert_eq!(base.target_of("/manage/tokens?cursor=a").as_deref(), Some("/manage/tokens?cursor=a"));
        assert_eq!(base.target_of("https://Example.com/llm/manage/tokens").as_deref(), Some("/manage/tokens"));
        assert_eq!(base.target_of("https://evil.example/manage/tokens"), None);
        assert_eq!(base.target_of("http://example.com/manage/tokens"), None);
        assert_eq!(base.target_of("?cursor=a"), None);
    }

    #[test]
    fn the_far_end_of_a_tunnel_is_shown_by_its_name() {
        let base = BaseUrl::forwarded("pod a/b".to_owned(), 8081);
        assert_eq!((base.to_string().as_str(), base.authority()), ("pod a/b", "localhost:8081"));
        assert_eq!(base.target_of("/manage/tokens?cursor=a").as_deref(), Some("/manage/tokens?cursor=a"));
        assert_eq!(base.target_of("http://localhost:8081/manage/tokens").as_deref(), Some("/manage/tokens"));
        assert_eq!(base.target_of("http://evil.example/manage/tokens"), None);
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(segment("sk-lp-A_z~.9"), "sk-lp-A_z~.9");
        assert_eq!(segment("../a?b#c%d é"), "..%2Fa%3Fb%23c%25d%20%C3%A9");
    }
}

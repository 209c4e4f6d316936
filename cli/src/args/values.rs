//! How the values of flags read, and what is said of those that do not.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use store::Claim;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// The text of a log filter that is known to parse. (The parsed filter cannot be cloned, which clap wants.)
#[derive(Clone, Debug)]
pub(crate) struct EnvFilterText(String);

impl EnvFilterText {
    /// The filter itself.
    pub(crate) fn filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

/// A path that the environment may give as an empty text, which means none: `LOG_FILE=` logs to standard error.
#[derive(Clone, Debug)]
pub(crate) struct OptionalPath(pub(crate) Option<PathBuf>);

/// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, or `:8080` for every interface.
pub(super) fn listen_addr(text: &str) -> Result<SocketAddr, String> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let (ip, port) = match text.rsplit_once(':') {
        Some(("", port)) => (Ipv4Addr::UNSPECIFIED, port),
        Some(("localhost", port)) => (Ipv4Addr::LOCALHOST, port),
        _ => return Err("expected IP:PORT, such as 127.0.0.1:8080, or :PORT for every interface".to_owned()),
    };
    let port = port.parse().map_err(|_| format!("{port:?} is not a port: expected 0 to 65535"))?;
    Ok(SocketAddr::new(IpAddr::V4(ip), port))
}

/// Scheme and authority, and perhaps a path, without a trailing `/` or `/v1`.
pub(crate) fn public_url(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let base = text.trim_end_matches('/');
    let base = base.strip_suffix("/v1").unwrap_or(base).trim_end_matches('/');
    match authority {
        Some(rest)
            if !rest.is_empty()
                && !rest.starts_with(['/', ':', '?', '#'])
                && !rest.contains(['?', '#', '@'])
                && rest.is_ascii()
                && !rest.contains(char::is_whitespace) =>
        {
            Ok(base.to_owned())
        }
        _ => Err("expected http:// or https:// and a host, such as https://llm.example.com".to_owned()),
    }
}

/// A browser's origin as it sends it: scheme and host in lower case, and the port unless it is the scheme's own.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let expected = "expected scheme://host or scheme://host:port, such as https://app.example.com; without the flag every origin is allowed";
    let text = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://").ok_or(expected)?;
    let named = |part: &str, more: &[char]| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(&c));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let fits = match host.strip_prefix('[') {
        Some(address) => address
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        None => named(host, &['.', '-', '_']),
    };
    if !fits || !named(scheme, &['+', '-', '.']) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(expected.to_owned());
    }
    // Browsers leave it out.
    let own = match scheme {
        "http" => Some("80"),
        "https" => Some("443"),
        _ => None,
    };
    let port = port.filter(|port| Some(*port) != own).map(|port| format!(":{port}")).unwrap_or_default();
    Ok(format!("{scheme}://{host}{port}"))
}

/// As [`duration`], and longer than nothing.
pub(super) fn stale_after(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        window if window < Duration::from_secs(2) => Err("the database is looked at once a second: give 2s or more".to_owned()),
        window => Ok(window),
    }
}

pub(super) fn deadline(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("a deadline must be longer than 0s".to_owned()),
        deadline => Ok(deadline),
    }
}

/// `300ms`, `10s`, `1m30s`, `0s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: expected something like 10s or 1m30s");
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(parsed).map_err(|_| wrong())
}

/// `CLUSTER/NAMESPACE/NAME`, none of them empty.
pub(super) fn claim(text: &str) -> Result<Claim, String> {
    let parts: Vec<_> = text.split('/').collect();
    match parts[..] {
        [cluster, namespace, name] if !parts.contains(&"") => Ok(Claim {
            cluster: cluster.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }),
        _ => Err("expected CLUSTER/NAMESPACE/NAME".to_owned()),
    }
}

/// A log filter that says something known; an empty text is the default.
pub(super) fn log_filter(text: &str) -> Result<EnvFilterText, String> {
    let text = if text.trim().is_empty() { "info" } else { text };
    // To the filter a bare word that is no level is a module's name: a mistyped level would silence everything else.
    let mistyped = text
        .split(',')
        .map(str::trim)
        .find(|part| !part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err());
    let expected = "expected error, warn, info, debug or trace, or something like info,proxy=debug";
    match (mistyped, EnvFilter::try_new(text)) {
        (Some(word), _) => Err(format!("{word:?} is not a level: {expected}")),
        (None, Err(error)) => Err(format!("{error}: {expected}")),
        (None, Ok(_)) => Ok(EnvFilterText(text.to_owned())),
    }
}

/// A text that says something.
pub(super) fn non_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(text.to_owned())
}

/// A number that providers take for a temperature.
pub(super) fn temperature(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..=2.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to 2".to_owned()),
    }
}

/// A day as `2026-01-31`.
pub(super) fn day(text: &str) -> Result<String, String> {
    match text.parse::<jiff::civil::Date>() {
        Ok(_) if text.len() == 10 => Ok(text.to_owned()),
        _ => Err("expected a day such as 2026-01-31".to_owned()),
    }
}

/// A path, or none if the text is empty.
pub(super) fn optional_path(text: &str) -> Result<OptionalPath, String> {
    Ok(OptionalPath((!text.is_empty()).then(|| PathBuf::from(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_read_like_the_ancestors() {
        let read = |text: &str| listen_addr(text).map(|addr| addr.to_string()).ok();
        assert_eq!(read(":8080").as_deref(), Some("0.0.0.0:8080"));
        assert_eq!(read("localhost:0").as_deref(), Some("127.0.0.1:0"));
        assert_eq!(read("[::]:80").as_deref(), Some("[::]:80"));
        for wrong in ["", "8080", "127.0.0.1", ":", ":65536", "example.com:80"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_public_url_loses_its_tail_and_must_have_a_host() {
        let read = |text: &str| public_url(text).ok();
        assert_eq!(read("https://llm.example.com/").as_deref(), Some("https://llm.example.com"));
        assert_eq!(read("http://10.0.0.1:80/v1").as_deref(), Some("http://10.0.0.1:80"));
        assert_eq!(read("https://example.com/llm/v1/").as_deref(), Some("https://example.com/llm"));
        for wrong in [
            "",
            "llm.example.com",
            "ftp://x",
            "http://",
            "http:///v1",
            "http://x?y",
            "http://u@x",
            "http://a b",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_origin_is_what_browsers_send() {
        let read = |text: &str| origin(text).ok();
        assert_eq!(read("https://App.Example.com/").as_deref(), Some("https://app.example.com"));
        assert_eq!(read("http://localhost:3000").as_deref(), Some("http://localhost:3000"));
        assert_eq!(read("https://app.example.com:443").as_deref(), Some("https://app.example.com"));
        assert_eq!(read("http://[::1]:8000").as_deref(), Some("http://[::1]:8000"));
        assert_eq!(read("chrome-extension://abc").as_deref(), Some("chrome-extension://abc"));
        for wrong in [
            "",
            "x",
            "*",
            "null",
            "app.example.com",
            "https://",
            "https://a/b",
            "https://a?b",
            "https://a:b",
            "https://u@a",
            "https://a b",
            "https://[x]",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_claim_has_three_parts() {
        assert_eq!(claim("c/n/p").map(|claim| claim.to_string()).as_deref(), Ok("c/n/p"));
        for wrong in ["", "c/n", "c//p", "c/n/p/x"] {
            assert!(claim(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_deadline_is_not_at_once() {
        assert_eq!(deadline("10m"), Ok(Duration::from_secs(600)));
        assert!(deadline("0s").is_err());
        assert_eq!(stale_after("2s"), Ok(Duration::from_secs(2)));
        assert!(stale_after("1s").is_err());
    }

    #[test]
    fn durations_are_written_with_their_unit() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "5", "-1s", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_log_filter_that_says_nothing_known_is_refused() {
        assert!(log_filter("info,proxy=debug").is_ok());
        assert!(log_filter("").is_ok());
        assert!(log_filter("WARN").is_ok());
        for wrong in ["proxy=loud", "verbose"] {
            assert!(log_filter(wrong).is_err(), "{wrong}");
        }
    }
}

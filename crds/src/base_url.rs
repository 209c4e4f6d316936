//! The rules of a provider's base URL, each as CEL and as Rust; both say the same sentence and both cut the URL up by hand, because the URL
//! parsers of Go, of WHATWG and of our HTTP client differ in just the forms that matter here (`http://2130706433`, `http://a@b`).
//! It refuses to know what is requested under the URL and what its host name resolves to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Mode;
use crate::schema::CelRule;

/// The longest base URL.
pub(crate) const MAX_LEN: usize = 512;

/// The host as written, brackets included; empty if there is none. Only after `!self.matches('^https?://') ||`.
macro_rules! host {
    () => {
        r"self.split('/')[2].find('^(\\[[^\\]]*\\]|[^:]*)')"
    };
}
/// The host without brackets.
macro_rules! bare_host {
    () => {
        concat!(host!(), ".replace('[', '').replace(']', '')")
    };
}

pub(crate) const SCHEME: CelRule = CelRule {
    cel: "self.matches('^https?://')",
    message: "must begin with http:// or https://, in lower case",
    field_path: None,
};

pub(crate) const NO_USER: CelRule = CelRule {
    cel: "!self.contains('@')",
    message: "must not hold '@' or credentials; put the key into a Secret and name that in the LLMProject's spec.providers[].credentials.secretRef",
    field_path: None,
};

pub(crate) const NO_QUERY: CelRule = CelRule {
    cel: "!self.contains('?') && !self.contains('#')",
    message: "must not have a query or a fragment; give only what stands before /v1",
    field_path: None,
};

/// Silent where one of the three above speaks, so that a mistake is told once.
pub(crate) const SHAPE: CelRule = CelRule {
    cel: concat!(
        "!self.matches('^https?://[^@?#]*$') || self.matches('^https?://",
        r"([A-Za-z0-9_][A-Za-z0-9_-]*([.][A-Za-z0-9_][A-Za-z0-9_-]*)*[.]?|\\[[0-9A-Fa-f:]+\\])",
        "(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?",
        "(/([A-Za-z0-9._~!$&()*+,;=:/-]|%[0-9A-Fa-f]{2})*)?$')",
    ),
    message: "must be scheme, host, optional port from 1 to 65535 and optional path, such as https://api.openai.com or http://vllm.models.svc:8000",
    field_path: None,
};

/// Resolvers read a host that ends in a number as an IPv4 address, also in forms that hide which (`0x7f.1`, `2130706433`).
pub(crate) const ADDRESS: CelRule = CelRule {
    cel: concat!(
        "!self.matches('^https?://') || !",
        host!(),
        r".matches('(?s)^(\\[.*|(.*[.])?([0-9]+|0[xX][0-9A-Fa-f]*)[.]?)$') || isIP(",
        bare_host!(),
        ")",
    ),
    message: "has a host that ends in a number but is no IP address; write IPv4 in four decimal parts (10.0.0.7), IPv6 in brackets ([fd00::7])",
    field_path: None,
};

/// Only in a cluster ([`Mode`]).
pub(crate) const ROUTABLE: CelRule = CelRule {
    cel: concat!(
        "!self.matches('^https?://') || (!",
        host!(),
        ".lowerAscii().matches('(?s)^(.*[.])?localhost([.]localdomain)?[.]?$') && (!isIP(",
        bare_host!(),
        ") || ip(",
        bare_host!(),
        ").isGlobalUnicast()))",
    ),
    message: "must not be a loopback, link-local, multicast or unspecified address: in a cluster that is the proxy's own pod or node; \
              name a Service or an external host",
    field_path: None,
};

/// Judges a base URL; the messages of the rules that it breaks.
pub(crate) fn broken_rules(url: &str, mode: Mode) -> Vec<&'static str> {
    let has_user = url.contains('@');
    let has_query = url.contains(['?', '#']);
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
        let rules = [(true, SCHEME), (has_user, NO_USER), (has_query, NO_QUERY)];
        return rules.iter().filter(|(broken, _)| *broken).map(|(_, rule)| rule.message).collect();
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let (host, port) = split_host(authority);
    let address = parse_address(host);
    let rules = [
        (has_user, NO_USER),
        (has_query, NO_QUERY),
        (!(has_user || has_query || is_host(host) && is_port(port) && is_path(path)), SHAPE),
        (claims_address(host) && address.is_none(), ADDRESS),
        (
            mode == Mode::Cluster && (is_localhost(host) || address.is_some_and(|ip| !is_global_unicast(ip))),
            ROUTABLE,
        ),
    ];
    rules.iter().filter(|(broken, _)| *broken).map(|(_, rule)| rule.message).collect()
}

/// The host with its brackets, and what follows it (a port with its colon, or rubbish).
fn split_host(authority: &str) -> (&str, &str) {
    let bracketed = authority.strip_prefix('[').and_then(|inner| inner.find(']')).map(|end| end + 2);
    authority.split_at(bracketed.or_else(|| authority.find(':')).unwrap_or(authority.len()))
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return !inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
    }
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        !label.is_empty() && !label.starts_with('-') && label.bytes().all(inner)
    };
    host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
}

fn is_port(port: &str) -> bool {
    let Some(digits) = port.strip_prefix(':') else { return port.is_empty() };
    !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
}

fn is_path(path: &str) -> bool {
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let allowed = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit())),
            other => other.is_ascii_alphanumeric() || b"._~!$&()*+,;=:/-".contains(&other),
        };
        if !allowed {
            return false;
        }
    }
    true
}

/// Brackets, or a last label that is a number: such a host can only be an address.
fn claims_address(host: &str) -> bool {
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    let decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    let hex = last
        .strip_prefix("0x")
        .or_else(|| last.strip_prefix("0X"))
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    host.starts_with('[') || decimal || hex
}

/// The address that a host spells. IPv4 inside IPv6 is none: it would slip past every rule on IPv4.
fn parse_address(host: &str) -> Option<IpAddr> {
    let bare = host.replace(['[', ']'], "");
    bare.parse()
        .ok()
        .filter(|address| !matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()))
}

fn is_localhost(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let name = host.strip_suffix('.').unwrap_or(&host);
    let name = name.strip_suffix(".localdomain").unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

fn is_global_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4 == Ipv4Addr::BROADCAST),
        IpAddr::V6(v6) => !(v6 == Ipv6Addr::UNSPECIFIED || v6 == Ipv6Addr::LOCALHOST || v6.is_unicast_link_local() || v6.is_multicast()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::cel::Validator;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// What the schema's rules say, evaluated as the API server would; sorted like [`rust`].
    fn cel(url: &str) -> Vec<String> {
        let rules = [SCHEME, NO_USER, NO_QUERY, SHAPE, ADDRESS, ROUTABLE];
        let rules: Vec<Value> = rules.iter().map(|rule| json!({ "rule": rule.cel, "message": rule.message })).collect();
        let schema = json!({ "type": "string", "x-kubernetes-validations": rules });
        let errors = Validator::new()
            .validate(&schema, &json!(url), None)
            .err()
            .map(|errors| errors.into_vec())
            .unwrap_or_default();
        let mut messages: Vec<String> = errors.into_iter().map(|error| error.message).collect();
        messages.sort();
        messages
    }

    fn rust(url: &str, mode: Mode) -> Vec<String> {
        let mut messages: Vec<String> = broken_rules(url, mode).into_iter().map(str::to_owned).collect();
        messages.sort();
        messages
    }

    #[track_caller]
    fn breaks(url: &str, rules: &[CelRule]) {
        let mut expected: Vec<String> = rules.iter().map(|rule| rule.message.to_owned()).collect();
        expected.sort();
        assert_eq!((rust(url, Mode::Cluster), cel(url)), (expected.clone(), expected), "{url}");
    }

    #[test]
    fn a_base_url_is_scheme_host_port_and_path() {
        for url in [
            "https://api.openai.com",
            "https://api.openai.com/",
            "http://vllm.models.svc.cluster.local.:8000/v1",
            "http://my_vllm:65535",
            "http://10.0.0.7:1/x/%7Ey(1)",
            "http://[fd00::7]:8000/v1",
            "https://gateway.example/v1/acct/openai",
            "http://v4.0x.example",
        ] {
            breaks(url, &[]);
        }
    }

    #[test]
    fn a_mistake_is_told_by_its_own_rule() {
        for url in [
            "",
            "api.openai.com",
            "HTTPS://api.openai.com",
            "ftp://api.openai.com",
            " https://api.openai.com",
            "http:/host",
        ] {
            breaks(url, &[SCHEME]);
        }
        for url in ["https://user:pass@api.openai.com", "https://api.openai.com/@x"] {
            breaks(url, &[NO_USER]);
        }
        for url in ["https://api.openai.com?key=1", "https://api.openai.com/#x"] {
            breaks(url, &[NO_QUERY]);
        }
        for url in [
            "https://",
            "https:///v1",
            "https://:8000",
            "https://host:",
            "https://host:0",
            "https://host:08",
            "https://host:65536",
            "https://host:http",
            "https://-host",
            "https://a..b",
            "https://a b",
            "https://host/a b",
            "https://host/%7",
            "https://host/%zz",
            "https://host\\x",
            "https://höst",
            "https://host\n",
            "https://a\nb",
            "https://[fd00::7]8000",
        ] {
            breaks(url, &[SHAPE]);
        }
        for url in [
            "http://2130706433",
            "http://0x7f.1:80",
            "http://0X/v1",
            "http://127.1",
            "http://010.0.0.7",
            "http://10.0.0.7.",
            "http://10.0.0.256",
            "http://[::ffff:7f00:1]",
            "http://[1:2:3:4:5:6:7:8:9]",
        ] {
            breaks(url, &[ADDRESS]);
        }
        breaks("http://[fd00::g]", &[SHAPE, ADDRESS]);
        breaks("ftp://user@host?x", &[SCHEME, NO_USER, NO_QUERY]);
    }

    #[test]
    fn in_a_cluster_no_provider_is_the_proxy_itself() {
        for url in [
            "http://localhost:11434",
            "http://LocalHost./v1",
            "http://ollama.localhost",
            "http://localhost.localdomain",
            "http://127.0.0.1:8000",
            "http://127.255.0.9",
            "http://0.0.0.0",
            "http://169.254.169.254/latest",
            "http://224.0.0.1",
            "http://255.255.255.255",
            "http://[::1]:8000",
            "http://[0:0:0:0:0:0:0:1]",
            "http://[::]",
            "http://[FE80::1]",
            "http://[febf::1]",
            "http://[ff02::1]",
        ] {
            breaks(url, &[ROUTABLE]);
            assert_eq!(rust(url, Mode::Files), [""; 0], "{url}");
        }
        for url in [
            "http://localhost.example.com",
            "http://notlocalhost",
            "http://127.example.com",
            "http://[fec0::1]",
            "http://192.168.1.2",
        ] {
            breaks(url, &[]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn rust_and_cel_say_the_same_of_every_text(
            scheme in "(https?://)?",
            host in "[0-9a-fx.]{0,9}|\\[[0-9a-f:.\n]{0,12}\\]?|(LOCAL|local)host[.]?[a-z]{0,3}|[a-c0.:@_\n-]{0,6}",
            rest in "(:[0-9a]{0,6})?(/[ -~é]{0,6})?",
        ) {
            let url = format!("{scheme}{host}{rest}");
            prop_assert_eq!(rust(&url, Mode::Cluster), cel(&url), "{:?}", url);
        }
    }
}

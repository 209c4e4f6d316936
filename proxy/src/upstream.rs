//! A provider as the data plane sees it: where requests go, with which credential, over which pooled connections.

mod body;
mod connect;
mod egress;
mod exchange;
mod patience;
mod pool;

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use http::uri::{Scheme, Uri};
use llm::PriceList;
use secrecy::{ExposeSecret, SecretString};
use store::{ProviderApi, ProviderAuth, ProviderRecord};

pub(crate) use body::{Streamed, StreamedBodyError, UpstreamBody};
pub(crate) use egress::{Egress, EgressError};
pub(crate) use exchange::{Answered, Link, SendError};
pub(crate) use pool::{Pool, Sender};

/// A project's provider, ready to be used.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) provider: Box<str>,
    pub(crate) kind: UpstreamKind,
    pub(crate) prices: PriceList,
}

#[derive(Debug)]
pub(crate) enum UpstreamKind {
    /// Answered inside the data thread.
    Echo,
    Http(Target),
}

/// An OpenAI-compatible HTTP provider.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) origin: Arc<Origin>,
    /// What stands before `/v1`, without a trailing slash.
    pub(crate) base_path: Box<str>,
    /// Marked sensitive, so that it does not print.
    pub(crate) authorization: Option<HeaderValue>,
}

/// Scheme, host and port: what connections are pooled by.
pub(crate) struct Origin {
    pub(crate) tls: bool,
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
    /// The Host header.
    pub(crate) authority: HeaderValue,
    pub(crate) route: Route,
}

/// The way to an origin.
pub(crate) enum Route {
    Direct,
    /// Through an HTTP proxy: CONNECT for https, absolute-form for http.
    Proxy {
        host: Box<str>,
        port: u16,
        authorization: Option<HeaderValue>,
    },
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "https" } else { "http" }, self.host, self.port)
    }
}

impl Upstream {
    /// Builds it from its row. `None` for a row that cannot be used, which validation keeps out: no URL, or no key where one is needed.
    pub(crate) fn from_record(record: ProviderRecord, egress: &Egress) -> Option<Self> {
        let kind = match record.api {
            ProviderApi::Echo => UpstreamKind::Echo,
            ProviderApi::OpenAi => UpstreamKind::Http(Target::new(record.base_url.as_deref()?, record.auth, record.key.as_ref(), egress)?),
        };
        // The operator writes them. What it wrote wrongly is as if it were not there: without a price a budget refuses.
        let rules = serde_json::from_str(&record.prices).unwrap_or_else(|error| {
            tracing::warn!(provider = record.name, %error, "the prices of a provider cannot be read; the built-in ones count");
            Vec::new()
        });
        let prices = PriceList::new(rules);
        Some(Self {
            provider: record.name.into_boxed_str(),
            prices: if matches!(kind, UpstreamKind::Echo) {
                prices.otherwise_free()
            } else {
                prices
            },
            kind,
        })
    }
}

impl Target {
    fn new(base_url: &str, auth: ProviderAuth, key: Option<&SecretString>, egress: &Egress) -> Option<Self> {
        let uri: Uri = base_url.parse().ok()?;
        let authorization = match auth {
            ProviderAuth::None => None,
            ProviderAuth::Bearer => Some(bearer(key?)?),
        };
        Some(Self {
            origin: egress.origin(&uri)?,
            base_path: uri.path().trim_end_matches('/').into(),
            authorization,
        })
    }
}

fn bearer(key: &SecretString) -> Option<HeaderValue> {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", key.expose_secret().trim()));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn port_of(uri: &Uri) -> Option<u16> {
    uri.port_u16().or(if uri.scheme() == Some(&Scheme::HTTPS) {
        Some(443)
    } else if uri.scheme() == Some(&Scheme::HTTP) {
        Some(80)
    } else {
        None
    })
}

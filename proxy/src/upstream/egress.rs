//! What all outgoing connections share: trusted authorities, the environment's proxies, and the known origins.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::HeaderValue;
use http::uri::{Scheme, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{Origin, Route, port_of};
use crate::settings::{EgressProxies, EgressSettings};

/// Shared by all threads.
pub(crate) struct Egress {
    proxies: Matcher,
    extra_roots: Vec<CertificateDer<'static>>,
    /// Built at the first https origin: a machine without authorities can still serve http ones.
    tls: OnceLock<Arc<ClientConfig>>,
    /// One origin per (scheme, host, port), so that credentials of one provider share its connections.
    origins: Mutex<HashMap<String, Arc<Origin>>>,
}

/// Why outgoing connections cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EgressError {
    #[error("the CA bundle {path} cannot be read: {why}")]
    Bundle { path: PathBuf, why: String },
    #[error("the CA bundle {path} holds no certificate")]
    EmptyBundle { path: PathBuf },
}

impl Egress {
    pub(crate) fn new(settings: &EgressSettings) -> Result<Self, EgressError> {
        let extra_roots = settings.ca_bundle.as_deref().map(read_bundle).transpose()?.unwrap_or_default();
        let proxies = match &settings.proxies {
            EgressProxies::Environment => Matcher::from_env(),
            EgressProxies::Fixed { https, http, no } => Matcher::builder().https(https).http(http).no(no).build(),
        };
        Ok(Self {
            proxies,
            extra_roots,
            tls: OnceLock::new(),
            origins: Mutex::default(),
        })
    }

    /// The one origin of `uri`; `None` if it is not an http(s) URL with a host.
    pub(crate) fn origin(&self, uri: &Uri) -> Option<Arc<Origin>> {
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let (host, port) = (uri.host()?, port_of(uri)?);
        let name = format!("{tls}/{host}/{port}");
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = origins.get(&name) {
            return Some(Arc::clone(known));
        }
        let authority = HeaderValue::from_str(uri.authority()?.as_str().rsplit('@').next()?).ok()?;
        let origin = Arc::new(Origin {
            number: origins.len(),
            tls,
            host: host.into(),
            port,
            authority,
            route: self.route(uri),
        });
        if tls {
            // Reading the system's authorities takes a while: now, on the control side, and not in a data thread at the first connection.
            self.tls();
        }
        origins.insert(name, Arc::clone(&origin));
        Some(origin)
    }

    /// The rustls client configuration: HTTP/1.1, system and extra authorities.
    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(self.tls.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            let native = rustls_native_certs::load_native_certs();
            for error in &native.errors {
                tracing::warn!(%error, "a system certificate authority cannot be read");
            }
            roots.add_parsable_certificates(native.certs);
            roots.add_parsable_certificates(self.extra_roots.iter().cloned());
            let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(config)
        }))
    }

    fn route(&self, uri: &Uri) -> Route {
        let Some(found) = self.proxies.intercept(uri) else {
            return Route::Direct;
        };
        match (found.uri().host(), found.uri().scheme_str()) {
            (Some(host), Some("http")) => Route::Proxy {
                host: host.into(),
                port: found.uri().port_u16().unwrap_or(80),
                authorization: found.basic_auth().cloned(),
            },
            (_, scheme) => {
                tracing::warn!(
                    scheme = scheme.unwrap_or("none"),
                    "only http:// egress proxies are supported: connecting directly"
                );
                Route::Direct
            }
        }
    }
}

fn read_bundle(path: &Path) -> Result<Vec<CertificateDer<'static>>, EgressError> {
    let unreadable = |why: String| EgressError::Bundle { path: path.to_owned(), why };
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(|e| unreadable(e.to_string()))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| unreadable(e.to_string()))?;
    if certificates.is_empty() {
        return Err(EgressError::EmptyBundle { path: path.to_owned() });
    }
    Ok(certificates)
}

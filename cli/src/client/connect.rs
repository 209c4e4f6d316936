//! Opens the byte stream to a server: TCP, TLS where the address says so, or a tunnel to a pod.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::BaseUrl;
use super::error::ClientError;
use crate::fleet::Tunnel;

/// Anything that carries bytes both ways.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Connects.
pub(super) enum Connector {
    /// By the network; TLS is absent for http.
    Network(Option<TlsConnector>),
    /// Through the API server of a Kubernetes cluster.
    Tunnel(Box<Tunnel>),
}

impl Connector {
    /// Trusts the system's authorities and those of the bundle.
    ///
    /// # Errors
    /// If the bundle cannot be read.
    pub(super) fn new(base: &BaseUrl, ca_bundle: Option<&Path>) -> Result<Self, String> {
        let extra = ca_bundle.map(read_bundle).transpose()?.unwrap_or_default();
        let tls = base.is_https().then(|| {
            // It fails only if there is one already.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let mut roots = RootCertStore::empty();
            // What cannot be parsed or read is not trusted; the handshake's error says that the authority is unknown.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots.add_parsable_certificates(extra);
            let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            TlsConnector::from(Arc::new(config))
        });
        Ok(Self::Network(tls))
    }

    /// A stream to `base`'s server. The caller bounds the time.
    pub(super) async fn connect(&self, base: &BaseUrl) -> Result<Box<dyn ByteStream>, ClientError> {
        let tls = match self {
            Self::Network(tls) => tls,
            Self::Tunnel(tunnel) => return Ok(Box::new(tunnel.open().await.map_err(ClientError::Tunnel)?)),
        };
        let (host, port) = base.peer();
        let unreachable = |why: String| ClientError::Unreachable { base: base.to_string(), why };
        let tcp = TcpStream::connect((host, port)).await.map_err(|error| unreachable(plain(&error)))?;
        // Deltas and small requests go out at once.
        let _ = tcp.set_nodelay(true);
        let Some(tls) = tls else {
            return Ok(Box::new(tcp));
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| unreachable(format!("{host:?} is no name of a host")))?;
        let stream = tls.connect(name, tcp).await.map_err(|error| ClientError::Tls {
            base: base.to_string(),
            why: error.to_string(),
        })?;
        Ok(Box::new(stream))
    }
}

/// The system's reason without its number.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_lowercase()
        }
    }
}

fn read_bundle(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |why: String| format!("cannot read --ca-bundle {}: {why}", path.display());
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("it holds no certificate".to_owned()));
    }
    Ok(certificates)
}

//! The wire of a door: takes connections, looks for a rule, and passes on by HTTPS what meets none.
//! It refuses to know who jams it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpListener, TcpStream};

use super::{Fault, Shared};

pub(super) fn connector(ca: &Path) -> tokio_rustls::TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("the CA")).expect("the CA");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS");
    Arc::new(config.with_root_certificates(roots).with_no_client_auth()).into()
}

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, connector: tokio_rustls::TlsConnector) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        if !shared.refusing.load(Ordering::SeqCst) {
            tokio::spawn(serve(client, Arc::clone(&shared), connector.clone()));
        }
    }
}

type Answer = Response<Either<Incoming, Full<Bytes>>>;

/// Why a connection is broken on purpose, or could not be kept.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

/// One connection of a client, and behind it one of its own to the API server.
async fn serve(client: TcpStream, shared: Arc<Shared>, connector: tokio_rustls::TlsConnector) {
    let mut cuts = shared.cuts.subscribe();
    let upstream = Arc::new(tokio::sync::Mutex::new(None));
    let service = service_fn(|request| {
        let (shared, connector, upstream) = (Arc::clone(&shared), connector.clone(), Arc::clone(&upstream));
        async move { answer(request, &shared, &connector, &mut *upstream.lock().await).await }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service);
    tokio::select! {
        _ = connection => {}
        _ = cuts.changed() => {}
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
    connector: &tokio_rustls::TlsConnector,
    upstream: &mut Option<SendRequest<Incoming>>,
) -> Result<Answer, Cut> {
    match shared.fault_for(&request) {
        Some(Fault::Answer(code)) => return Ok(refusal(code)),
        Some(Fault::WatchExpired) => return Ok(expired_watch()),
        Some(Fault::CutBefore) => return Err(Cut),
        Some(Fault::CutAfter) => {
            let _ = pass_on(request, shared, connector, upstream).await;
            return Err(Cut);
        }
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        None => {}
    }
    pass_on(request, shared, connector, upstream).await
}

impl Shared {
    fn fault_for(&self, request: &Request<Incoming>) -> Option<Fault> {
        let target = request.uri().to_string();
        let mut rules = self.rules.lock().expect("the rules");
        let rule = rules.iter_mut().find(|rule| {
            let method = rule.method.is_empty() || rule.method == request.method().as_str();
            method && target.contains(&rule.part) && rule.left != Some(0)
        })?;
        rule.left = rule.left.map(|left| left - 1);
        rule.hits += 1;
        Some(rule.fault.clone())
    }
}

async fn pass_on(
    mut request: Request<Incoming>,
    shared: &Shared,
    connector: &tokio_rustls::TlsConnector,
    upstream: &mut Option<SendRequest<Incoming>>,
) -> Result<Answer, Cut> {
    request.headers_mut().entry(header::AUTHORIZATION).or_insert(shared.authorization.clone());
    if let Some(sender) = upstream {
        // The API server may have closed it meanwhile.
        if sender.ready().await.is_err() {
            *upstream = None;
        }
    }
    let sender = match upstream {
        Some(sender) => sender,
        None => upstream.insert(connect(shared.server, connector).await.ok_or(Cut)?),
    };
    let response = sender.send_request(request).await.map_err(|_| Cut)?;
    Ok(response.map(Either::Left))
}

async fn connect(server: SocketAddr, connector: &tokio_rustls::TlsConnector) -> Option<SendRequest<Incoming>> {
    let stream = TcpStream::connect(server).await.ok()?;
    let stream = connector.connect(ServerName::from(server.ip()), stream).await.ok()?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

/// The API server's own words for a status.
fn status(code: u16) -> serde_json::Value {
    let (reason, message) = match code {
        401 => ("Unauthorized", "Unauthorized"),
        403 => ("Forbidden", "forbidden by the test"),
        404 => ("NotFound", "the server could not find the requested resource"),
        409 => (
            "Conflict",
            "the object has been modified; please apply your changes to the latest version and try again",
        ),
        410 => ("Expired", "too old resource version"),
        429 => (
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
        ),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        _ => ("InternalError", "an error on the server has prevented the request from succeeding"),
    };
    serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code,
    })
}

fn refusal(code: u16) -> Answer {
    let mut answer = json(status(code).to_string());
    *answer.status_mut() = StatusCode::from_u16(code).expect("a status");
    if code == 429 {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

fn expired_watch() -> Answer {
    json(format!("{}\n", serde_json::json!({ "type": "ERROR", "object": status(410) })))
}

fn json(text: String) -> Answer {
    let mut answer = Response::new(Either::Right(Full::from(text)));
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

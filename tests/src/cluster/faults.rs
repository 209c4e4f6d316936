//! A door in front of the API server that a test can jam: chosen requests are answered with an error, delayed, or cut off; or all connections at once.
//! It refuses to know what passes: to its clients it is the API server, by plain HTTP on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::{Cluster, User, users};

/// What happens to a request that a rule matches.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is answered with this status, as the API server would word it, and does not reach it. 429 carries `Retry-After: 1`.
    Answer(u16),
    /// A watch that opens and says at once that its resourceVersion is too old (`ERROR` with code 410).
    WatchExpired,
    /// It is passed on after so long.
    Delay(Duration),
    /// The connection breaks; the request does not reach the API server.
    CutBefore,
    /// The API server does what it is asked for; then the connection breaks instead of the answer.
    CutAfter,
}

/// Which requests a fault is for, and how many of them.
#[derive(Clone, Debug)]
struct Rule {
    id: usize,
    method: String,
    part: String,
    left: Option<u32>,
    fault: Fault,
    hits: u32,
}

/// A rule that stands until this is dropped or [`Injected::withdraw`] is called.
#[derive(Debug)]
pub struct Injected {
    id: usize,
    shared: Arc<Shared>,
}

impl Injected {
    /// How many requests met it so far.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn hits(&self) -> u32 {
        let rules = self.shared.rules.lock().expect("the rules");
        rules.iter().find(|rule| rule.id == self.id).map_or(0, |rule| rule.hits)
    }

    /// Takes the rule away.
    pub fn withdraw(self) {}
}

impl Drop for Injected {
    fn drop(&mut self) {
        self.shared.rules.lock().expect("the rules").retain(|rule| rule.id != self.id);
    }
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    authorization: HeaderValue,
    rules: Mutex<Vec<Rule>>,
    next: std::sync::atomic::AtomicUsize,
    refusing: AtomicBool,
    /// Moves on when all connections are to break.
    cuts: watch::Sender<u64>,
}

/// The door of one user. Dropping it closes it.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    kubeconfig: PathBuf,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Door {
    /// Lets a fault happen to requests of this HTTP method (any if empty) whose path and query contain `part`: the next `times`, or all.
    ///
    /// A status is written by `inject("PATCH", "/status", …)`; a watch is opened by `inject("GET", "watch=true", …)`.
    ///
    /// # Panics
    /// Never.
    #[must_use = "the rule goes with this value"]
    pub fn inject(&self, method: &str, part: &str, times: Option<u32>, fault: Fault) -> Injected {
        let id = self.shared.next.fetch_add(1, Ordering::SeqCst);
        self.shared.rules.lock().expect("the rules").push(Rule {
            id,
            method: method.to_owned(),
            part: part.to_owned(),
            left: times,
            fault,
            hits: 0,
        });
        Injected {
            id,
            shared: Arc::clone(&self.shared),
        }
    }

    /// Breaks all connections, watches among them; new ones are let through.
    pub fn cut_all(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Breaks all connections and closes new ones at once, or lets them through again.
    pub fn refuse(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::SeqCst);
        if refusing {
            self.cut_all();
        }
    }

    /// Where it listens, by HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig of its user that leads through it, for a process.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The same as a configuration, without the client's own retries.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut config = users::config_of(&self.kubeconfig);
        config.default_retry = false;
        config
    }

    /// A client that goes through it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::try_from(self.config()).expect("a client")
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Cluster {
    /// Opens a door for a user.
    ///
    /// # Panics
    /// On a foreign cluster, whose certificates are not at hand.
    #[must_use]
    pub fn door(&self, user: User) -> Door {
        let folder = self.own_folder("stands in front of the API server");
        let (shared, connector) = (self.shared_of(user), connector(&folder.join("ca.crt")));
        let (stop, stopped) = oneshot::channel::<()>();
        let (listening, address) = std::sync::mpsc::channel();
        let state = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
                listening.send(listener.local_addr().expect("its address")).expect("somebody waits");
                tokio::select! {
                    () = accept(listener, state, connector) => {}
                    _ = stopped => {}
                }
            });
        });
        let address = address.recv().expect("the door opens");
        let kubeconfig = folder.join(format!("door-{}.kubeconfig", address.port()));
        users::write_kubeconfig(&kubeconfig, &format!("http://{address}"), None, &self.token(user), "default");
        Door {
            address,
            kubeconfig,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn shared_of(&self, user: User) -> Arc<Shared> {
        let authorization = format!("Bearer {}", self.token(user)).parse().expect("a header");
        Arc::new(Shared {
            server: self.address(),
            authorization,
            rules: Mutex::default(),
            next: 0.into(),
            refusing: AtomicBool::new(false),
            cuts: watch::Sender::new(0),
        })
    }
}

fn connector(ca: &Path) -> tokio_rustls::TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("the CA")).expect("the CA");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS");
    Arc::new(config.with_root_certificates(roots).with_no_client_auth()).into()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, connector: tokio_rustls::TlsConnector) {
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

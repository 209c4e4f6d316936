//! A node without containers: to the API server it is kubelet, and what is forwarded to a pod's port reaches a server of the test.
//! It speaks the one protocol that port-forwards over WebSockets have, `v4.channel.k8s.io`, as kubelet does (k8s.io/cri-streaming,
//! pkg/streaming/portforward/websocket.go). It refuses to know what flows through.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{SinkExt as _, StreamExt as _};
use k8s_openapi::api::core::v1;
use kube::api::{Api, Patch, PatchParams, PostParams};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use super::Cluster;
use crate::random::Random;

const PROTOCOL: &str = "v4.channel.k8s.io";
/// Channels of the one port: its bytes, and what went wrong.
const DATA: u8 = 0;
const FAULT: u8 = 1;

/// What a port-forward comes to.
#[derive(Clone, Debug)]
pub enum Forward {
    /// It reaches this server.
    To(SocketAddr),
    /// The node says why it does not work, and closes it.
    Refused(String),
    /// The node is lost once it has passed on this many bytes of this server's answer.
    Lost(SocketAddr, usize),
    /// Nothing is ever passed on.
    Silent,
}

/// A node. It answers as long as the process lives.
#[derive(Debug)]
pub struct Node {
    name: String,
    forward: Arc<Mutex<Forward>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Node {
    /// Starts to listen, and registers with the API server under a random name.
    ///
    /// # Panics
    /// If the API server refuses.
    #[must_use]
    pub fn start(cluster: &Cluster, forward: Forward) -> Self {
        let forward = Arc::new(Mutex::new(forward));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (tell, address) = std::sync::mpsc::channel();
        let (rule, log) = (Arc::clone(&forward), Arc::clone(&asked));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
                tell.send(listener.local_addr().expect("its address")).expect("somebody waits");
                let tls = tls();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(tls.clone(), stream, Arc::clone(&rule), Arc::clone(&log)));
                }
            });
        });
        let name = register(cluster, address.recv().expect("it listens"));
        Self { name, forward, asked }
    }

    /// A node that is registered with an address that is not its own.
    ///
    /// # Panics
    /// If the API server refuses.
    #[must_use]
    pub fn away(cluster: &Cluster, address: SocketAddr) -> Self {
        Self {
            name: register(cluster, address),
            forward: Arc::new(Mutex::new(Forward::Silent)),
            asked: Arc::default(),
        }
    }

    /// What the port-forwards from now on come to.
    pub fn set(&self, forward: Forward) {
        *self.forward.lock().unwrap_or_else(PoisonError::into_inner) = forward;
    }

    /// What the API server has asked so far: path and query.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records a pod that runs here, and whether it is ready.
    ///
    /// # Panics
    /// If the API server refuses.
    pub fn run_pod(&self, cluster: &Cluster, namespace: &str, name: &str, labels: &[(&str, &str)], ready: bool) {
        let labels: serde_json::Map<_, _> = labels.iter().map(|&(key, value)| (key.to_owned(), json!(value))).collect();
        let pod: v1::Pod = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": labels },
            "spec": { "nodeName": self.name, "containers": [{ "name": "proxy", "image": "none" }] },
        }))
        .expect("a Pod");
        let status = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] } });
        cluster.with_admin(|client| async move {
            let pods: Api<v1::Pod> = Api::namespaced(client, namespace);
            pods.create(&PostParams::default(), &pod)
                .await
                .expect("a pod, on whose ServiceAccount the API server insists");
            let params = PatchParams::default();
            pods.patch_status(name, &params, &Patch::Merge(&status)).await.expect("its status");
        });
    }
}

/// Records a node of a random name; the name.
fn register(cluster: &Cluster, kubelet: SocketAddr) -> String {
    let name = format!("node-{}", Random::fresh().base62(10).to_ascii_lowercase());
    let node: v1::Node = serde_json::from_value(json!({
        "metadata": { "name": name },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": kubelet.ip() }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": kubelet.port() } },
        },
    }))
    .expect("a Node");
    cluster.with_admin(|client| async move {
        let nodes: Api<v1::Node> = Api::all(client);
        nodes.create(&PostParams::default(), &node).await.expect("a node");
    });
    name
}

/// The API server checks no kubelet's certificate unless it is told by whom it has to be.
fn tls() -> TlsAcceptor {
    // It fails only if there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key);
    TlsAcceptor::from(Arc::new(config.expect("a certificate and its key")))
}

#[expect(clippy::result_large_err, reason = "the library's signature")]
async fn serve(tls: TlsAcceptor, stream: TcpStream, forward: Arc<Mutex<Forward>>, asked: Arc<Mutex<Vec<String>>>) {
    let Ok(stream) = tls.accept(stream).await else { return };
    let answer = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.uri().to_string());
        let offered = request.headers().get("sec-websocket-protocol").and_then(|value| value.to_str().ok());
        assert!(
            offered.is_some_and(|offered| offered.split(',').any(|one| one.trim() == PROTOCOL)),
            "{offered:?}"
        );
        response
            .headers_mut()
            .insert("sec-websocket-protocol", http::HeaderValue::from_static(PROTOCOL));
        Ok(response)
    };
    let Ok(websocket) = tokio_tungstenite::accept_hdr_async(stream, answer).await else {
        return;
    };
    let forward = forward.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (mut sink, mut source) = websocket.split();
    let port = 8081u16.to_le_bytes();
    for channel in [DATA, FAULT] {
        if sink.send(Message::binary(vec![channel, port[0], port[1]])).await.is_err() {
            return;
        }
    }
    let (server, mut left) = match forward {
        Forward::To(server) => (server, None),
        Forward::Lost(server, after) => (server, Some(after)),
        Forward::Refused(why) => {
            let _ = sink.send(Message::binary([&[FAULT], why.as_bytes()].concat())).await;
            let _ = sink.close().await;
            return;
        }
        Forward::Silent => {
            while let Some(Ok(_)) = source.next().await {}
            return;
        }
    };
    let Ok(mut pod) = TcpStream::connect(server).await else { return };
    let mut buffer = vec![0; 16 << 10];
    loop {
        tokio::select! {
            read = pod.read(&mut buffer) => match read {
                Ok(0) | Err(_) => {
                    let _ = sink.close().await;
                    return;
                }
                Ok(mut read) => {
                    if let Some(left) = &mut left {
                        read = read.min(*left);
                        *left -= read;
                    }
                    if sink.send(Message::binary([&[DATA], &buffer[..read]].concat())).await.is_err() || left == Some(0) {
                        return;
                    }
                }
            },
            message = source.next() => match message {
                Some(Ok(Message::Binary(bytes))) if bytes.first() == Some(&DATA) => {
                    if pod.write_all(&bytes[1..]).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
}

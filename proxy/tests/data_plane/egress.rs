//! The way out: TLS with an extra authority, and HTTP proxies named by HTTPS_PROXY, HTTP_PROXY and NO_PROXY.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proxy::{EgressProxies, EgressSettings, Proxy, Settings};
use rcgen::{CertificateParams, KeyPair};
use store::{Claim, HolderId, KeyRing, SealingKey, Store};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::client::header;
use crate::stage::{Setup, Upstream};

type Lines = Arc<Mutex<Vec<String>>>;

/// A provider behind TLS with a certificate for `localhost` that only its own PEM file vouches for.
struct TlsProvider {
    address: SocketAddr,
    bundle: PathBuf,
    heads: Lines,
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Vec<String> {
    let mut lines = BufReader::with_capacity(1, stream).lines();
    let mut head = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    head
}

async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), heads: &Lines) {
    let head = read_head(stream).await;
    heads.lock().unwrap().extend(head);
    let body = r#"{"object":"list","data":[]}"#;
    let text = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// An acceptor with a certificate for `localhost`, and the PEM file that vouches for it.
pub(crate) fn tls_acceptor(dir: &Path) -> (TlsAcceptor, PathBuf) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let bundle = dir.join("ca.pem");
    std::fs::write(&bundle, certificate.pem()).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), bundle)
}

async fn tls_provider(dir: &Path) -> TlsProvider {
    let (acceptor, bundle) = tls_acceptor(dir);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Lines::default();
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                answer(&mut stream, &seen).await;
            }
        }
    });
    TlsProvider { address, bundle, heads }
}

/// An HTTP proxy: CONNECT is tunnelled to `target`, anything else answered by itself. Returns its address and the heads it saw.
async fn http_proxy(target: SocketAddr) -> (SocketAddr, Lines) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Lines::default();
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut first = [0u8; 7];
                client.peek(&mut first).await.unwrap();
                if &first != b"CONNECT" {
                    return answer(&mut client, &seen).await;
                }
                let head = read_head(&mut client).await;
                seen.lock().unwrap().extend(head);
                let mut upstream = TcpStream::connect(target).await.unwrap();
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
            });
        }
    });
    (address, heads)
}

/// The answer to `GET /v1/models` of a data plane whose provider is `base_url`.
async fn models_through(base_url: String, egress: EgressSettings) -> String {
    let mut stage = Setup::new(Upstream::Url(base_url)).with(|s| s.egress = egress).start().await;
    let mut client = stage.connect().await;
    client.write(stage.get("/v1/models", "connection: close\r\n")).await;
    let answer = client.until_closed().await;
    stage.drain().await;
    answer
}

fn fixed(https: &str, http: &str, no: &str) -> EgressProxies {
    EgressProxies::Fixed {
        https: https.into(),
        http: http.into(),
        no: no.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extra_authority_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let provider = tls_provider(dir.path()).await;
    let egress = EgressSettings {
        ca_bundle: Some(provider.bundle.clone()),
        proxies: fixed("", "", ""),
    };
    let answer = models_through(format!("https://localhost:{}", provider.address.port()), egress).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(provider.heads.lock().unwrap().contains(&"authorization: Bearer provider-key".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_connection_is_used_again_and_carries_large_bodies_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (acceptor, bundle) = tls_acceptor(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut stream = acceptor.accept(stream).await.unwrap();
            loop {
                let head = read_head(&mut stream).await.join("\r\n");
                let Some(length) = header(&head, "content-length") else { break };
                let mut body = vec![0; length.parse().unwrap()];
                stream.read_exact(&mut body).await.unwrap();
                let sum: usize = body.iter().map(|byte| usize::from(*byte)).sum();
                let text = format!("{{\"sum\":{sum}}}");
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
                    text.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    });
    let egress = EgressSettings {
        ca_bundle: Some(bundle),
        proxies: fixed("", "", ""),
    };
    let stage = Setup::new(Upstream::Url(format!("https://localhost:{port}")))
        .with(|s| s.egress = egress)
        .start()
        .await;
    let mut client = stage.connect().await;
    for size in [1, 3 << 20, 100, 10_000] {
        let body = format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "x".repeat(size));
        let sum: usize = body.bytes().map(usize::from).sum();
        let answer = client.send(stage.post("", &body)).await;
        assert_eq!((answer.status, answer.body), (200, format!("{{\"sum\":{sum}}}")));
    }
    assert_eq!(
        connections.load(Ordering::SeqCst),
        1,
        "tickets behind the handshake are no reason to close"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_authority_is_refused_before_the_key_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let provider = tls_provider(dir.path()).await;
    let egress = EgressSettings {
        ca_bundle: None,
        proxies: fixed("", "", ""),
    };
    let answer = models_through(format!("https://localhost:{}", provider.address.port()), egress).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("upstream_unreachable"), "{answer}");
    assert!(provider.heads.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_https_provider_is_reached_through_connect() {
    let dir = tempfile::tempdir().unwrap();
    let provider = tls_provider(dir.path()).await;
    let (proxy, heads) = http_proxy(provider.address).await;
    let egress = EgressSettings {
        ca_bundle: Some(provider.bundle.clone()),
        proxies: fixed(&format!("http://user:pass@{proxy}"), "", ""),
    };
    let answer = models_through(format!("https://localhost:{}/v1", provider.address.port()), egress).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let heads = heads.lock().unwrap();
    assert_eq!(heads[0], format!("CONNECT localhost:{} HTTP/1.1", provider.address.port()));
    assert!(heads.contains(&"Proxy-Authorization: Basic dXNlcjpwYXNz".to_owned()), "{heads:?}");
    assert!(
        !heads.iter().any(|line| line.contains("provider-key")),
        "the key goes to the provider alone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_provider_is_reached_in_absolute_form() {
    let (proxy, heads) = http_proxy(SocketAddr::from(([127, 0, 0, 1], 9))).await;
    let egress = EgressSettings {
        ca_bundle: None,
        proxies: fixed("", &format!("http://{proxy}"), ""),
    };
    let answer = models_through("http://provider.invalid/base".into(), egress).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(heads.lock().unwrap()[0], "GET http://provider.invalid/base/v1/models HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_in_no_proxy_are_reached_directly() {
    let dir = tempfile::tempdir().unwrap();
    let provider = tls_provider(dir.path()).await;
    let (proxy, heads) = http_proxy(provider.address).await;
    let egress = EgressSettings {
        ca_bundle: Some(provider.bundle.clone()),
        proxies: fixed(&format!("http://{proxy}"), "", "localhost,127.0.0.1"),
    };
    let answer = models_through(format!("https://localhost:{}", provider.address.port()), egress).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(heads.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_cannot_be_read_stops_the_start_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_sqlite(&dir.path().join("db"), KeyRing::single(SealingKey::generate()))
        .await
        .unwrap();
    store.migrate().await.unwrap();
    let fleet = store
        .claim(&Claim {
            cluster: "test".into(),
            namespace: "n".into(),
            name: "p".into(),
        })
        .await
        .unwrap();
    let egress = EgressSettings {
        ca_bundle: Some(dir.path().join("absent.pem")),
        proxies: EgressProxies::default(),
    };
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        threads: 1,
        egress,
        ..Settings::default()
    };
    let error = Proxy::start(settings, fleet, HolderId::new()).await.err().expect("refused").to_string();
    assert!(error.contains("absent.pem") && !error.contains('\n'), "{error}");
}

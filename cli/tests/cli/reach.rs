//! The ways to a server: TLS with an authority of its own, IPv6, and a base URL with a path.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::process::{Ended, llm_proxy};

/// Serves empty lists over TLS until the test ends; its port, and the PEM file that vouches for it.
fn tls_server(directory: &Path, names: &[&str]) -> (u16, PathBuf) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let bundle = directory.join("ca.pem");
    fs::write(&bundle, certificate.pem()).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let mut head = BufReader::new(&mut stream);
            let mut line = String::new();
            // A client that does not trust us hangs up within the handshake.
            while head.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]");
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (port, bundle)
}

fn list(base: &str, more: &[&str]) -> Ended {
    let mut command = llm_proxy([
        "manage",
        "project",
        "list",
        "--json",
        "--management-token",
        "canary",
        "--manage-api-base-url",
        base,
    ]);
    command.args(more).output().unwrap().into()
}

fn failed(ended: &Ended, code: i32) -> &str {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
    assert!(
        ended.stderr.starts_with("error: ") && ended.stderr.lines().count() == 1 && !ended.stderr.contains("canary"),
        "{ended:?}"
    );
    &ended.stderr
}

#[test]
fn a_private_authority_is_trusted_only_when_it_is_named() {
    let place = tempfile::tempdir().unwrap();
    let (port, bundle) = tls_server(place.path(), &["localhost", "127.0.0.1"]);
    let bundle = bundle.to_str().unwrap();
    for host in ["localhost", "127.0.0.1"] {
        let base = format!("https://{host}:{port}");
        let ended = list(&base, &["--ca-bundle", bundle]);
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
            (Some(0), "[]\n", ""),
            "{host}"
        );
        let untrusted = list(&base, &[]);
        let line = failed(&untrusted, 2);
        assert!(line.contains(&format!("no TLS with {base}: ")) && line.contains("--ca-bundle"), "{line}");
    }
    fs::write(place.path().join("empty.pem"), "").unwrap();
    for wrong in ["empty.pem", "missing.pem"] {
        let path = place.path().join(wrong);
        let ended = list(&format!("https://localhost:{port}"), &["--ca-bundle", path.to_str().unwrap()]);
        assert!(
            failed(&ended, 1).contains(&format!("cannot read --ca-bundle {}", path.display())),
            "{ended:?}"
        );
    }
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (port, bundle) = tls_server(place.path(), &["example.com"]);
    let ended = list(&format!("https://localhost:{port}"), &["--ca-bundle", bundle.to_str().unwrap()]);
    assert!(failed(&ended, 2).contains("no TLS with"), "{ended:?}");
}

#[test]
fn a_server_is_reached_by_ipv6_and_below_a_path() {
    let listener = TcpListener::bind("[::1]:0").expect("this machine has an IPv6 loopback");
    let base = format!("http://{}/llm/", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let asked: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]")
            .unwrap();
        asked
    });
    let ended = list(&base, &[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "[]\n"), "{ended:?}");
    let asked = asked.join().unwrap();
    assert_eq!(asked[0], "GET /llm/manage/projects HTTP/1.1");
    assert!(asked.iter().any(|line| line.starts_with("host: [::1]:")), "{asked:?}");
}

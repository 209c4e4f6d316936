//! A new connection to a provider: DNS, TCP, an egress proxy if the environment names one, TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::io::Io;
use super::{Egress, Origin, Route};

/// The largest answer head of a proxy to CONNECT, in bytes.
const MAX_CONNECT_HEAD: usize = 8 << 10;

/// Connects. The caller ends it after `patience`, which the addresses of a name share.
pub(super) async fn connect(origin: &Origin, egress: &Egress, patience: Duration) -> io::Result<Io> {
    let stream = match &origin.route {
        Route::Direct => tcp(&origin.host, origin.port, patience).await?,
        Route::Proxy { host, port, authorization } => {
            let mut stream = tcp(host, *port, patience).await?;
            if origin.tls {
                tunnel(&mut stream, origin, authorization.as_ref()).await?;
            }
            stream
        }
    };
    if !origin.tls {
        return Ok(Io::Plain(stream));
    }
    let name = ServerName::try_from(origin.host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
    let tls = TlsConnector::from(Arc::clone(&egress.tls())).connect(name, stream).await?;
    Ok(Io::Tls(Box::new(tls)))
}

async fn tcp(host: &str, port: u16, patience: Duration) -> io::Result<TcpStream> {
    // An IPv6 literal stands in brackets in a URL, not in a look-up.
    let addresses: Vec<_> = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await?.collect();
    // An address that leads nowhere (IPv6 without a route) must leave time for the next one.
    let share = patience / u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (n, address) in addresses.iter().enumerate() {
        let patience = if n + 1 == addresses.len() { patience } else { share };
        match tokio::time::timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_elapsed) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")),
        }
    }
    Err(last)
}

/// RFC 9110 §9.3.6.
async fn tunnel(stream: &mut TcpStream, origin: &Origin, authorization: Option<&HeaderValue>) -> io::Result<()> {
    let mut head = format!("CONNECT {0}:{1} HTTP/1.1\r\nHost: {0}:{1}\r\n", origin.host, origin.port).into_bytes();
    if let Some(value) = authorization {
        head.extend_from_slice(b"Proxy-Authorization: ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    stream.write_all(&head).await?;

    let mut answer = Vec::with_capacity(256);
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_CONNECT_HEAD {
            return Err(io::Error::other("the egress proxy's answer to CONNECT is too long"));
        }
        // A byte at a time: what follows the head belongs to TLS.
        answer.push(stream.read_u8().await?);
    }
    let status = answer.split(|b| *b == b' ').nth(1);
    match status {
        Some([b'2', _, _]) => Ok(()),
        Some(code) => Err(io::Error::other(format!(
            "the egress proxy refused CONNECT with {}",
            String::from_utf8_lossy(code)
        ))),
        None => Err(io::Error::other("the egress proxy did not answer CONNECT with HTTP")),
    }
}

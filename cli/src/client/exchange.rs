//! One HTTP/1.1 exchange over any byte stream: a socket, TLS, or a forwarded port.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Sends the request and returns once the head of the answer is there. The stream closes when the answer's body ends or is dropped.
pub(super) async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors reach us through the answer.
    tokio::spawn(connection);
    sender.send_request(request).await
}

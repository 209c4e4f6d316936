//! A listener of its own for `/manage`, health and metrics, on the control runtime.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::service::Manage;
use crate::headers::X_REQUEST_ID;
use crate::inbound;
use crate::operations;
use crate::shared::Shared;

/// For a client to send a whole head, and between two requests.
const HEAD_DEADLINE: Duration = Duration::from_secs(60);
/// After a failed accept the next try waits, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Running requests may end within this long once the process leaves.
const GRACE: Duration = Duration::from_secs(10);

/// Binds before anything is started, so that a port that is taken stops the start.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until `done`, and what is running then to its end.
pub(crate) async fn listen(manage: Arc<Manage>, shared: Arc<Shared>, listener: TcpListener, mut done: watch::Receiver<bool>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the management port cannot be served"),
    };
    let mut connections = JoinSet::new();
    let end = done.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => drop(connections.spawn(serve(Arc::clone(&manage), Arc::clone(&shared), stream, peer, end.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "a management connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = ended(&mut done) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

async fn serve(manage: Arc<Manage>, shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr, mut done: watch::Receiver<bool>) {
    let service = service_fn(|request: http::Request<Incoming>| {
        let (manage, shared) = (Arc::clone(&manage), Arc::clone(&shared));
        async move {
            let (head, body) = request.into_parts();
            let fresh = || HeaderValue::try_from(uuid::Uuid::new_v4().simple().to_string()).unwrap_or(HeaderValue::from_static("-"));
            let request_id = inbound::request_id(&head.headers, fresh);
            let text = request_id.to_str().unwrap_or_default().to_owned();
            let (mut response, unread) = match operations::answer_at_once(&shared, &head) {
                Some(response) => (response, Some(body)),
                None => manage.serve(head, body, peer.ip(), text).await,
            };
            response.headers_mut().insert(X_REQUEST_ID, request_id);
            // Nobody says how much of an unread body is still to come.
            if unread.is_some_and(|body| !hyper::body::Body::is_end_stream(&body)) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(Response::map(response, Full::new))
        }
    });
    let mut http = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .half_close(false)
            .serve_connection(TokioIo::new(stream), service)
    );
    let served = tokio::select! {
        served = http.as_mut() => served,
        () = ended(&mut done) => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, %peer, "a management connection ended");
    }
}

/// A sender that is gone means that the process is ending.
async fn ended(done: &mut watch::Receiver<bool>) {
    let _ = done.wait_for(|done| *done).await;
}

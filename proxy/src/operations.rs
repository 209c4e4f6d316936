//! /health, /ready, /live and /metrics. They need no token, count as no request and are not logged.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode, request};
use hyper::body::Incoming;
use tokio::runtime::Handle;

use crate::data_thread::DataThread;
use crate::manage::Manage;
use crate::metrics;
use crate::reply::ReplyBody;
use crate::shared::Shared;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OPENMETRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// What `/manage` says after a fault of ours.
const FAULT: &str = r#"{"error":"This is a fault of the server: its log says more.","code":"internal_error"}"#;

/// The operational endpoints; what takes long is done on the control runtime, so that it never delays a stream.
pub(crate) struct Operations {
    control: Handle,
}

impl Operations {
    pub(crate) fn new(control: Handle) -> Self {
        Self { control }
    }

    /// `/manage` is answered on the control runtime, too. What was not read of the body comes back.
    pub(crate) async fn manage(
        &self,
        manage: &Arc<Manage>,
        head: request::Parts,
        body: Incoming,
        source: IpAddr,
        request_id: &HeaderValue,
    ) -> (Response<ReplyBody>, Option<Incoming>) {
        let (manage, request_id) = (Arc::clone(manage), request_id.to_str().unwrap_or_default().to_owned());
        let served = self.control.spawn(async move { manage.serve(head, body, source, request_id).await });
        match served.await {
            Ok((response, unread)) => (response.map(|bytes| ReplyBody::ours(bytes, None)), unread),
            Err(_) => {
                let fault = answer(StatusCode::INTERNAL_SERVER_ERROR, JSON, FAULT.into());
                (fault.map(|bytes| ReplyBody::ours(bytes, None)), None)
            }
        }
    }

    /// The answer, if the path is one of ours. Metrics are not for those who use /v1, once the management side has a port of its own.
    pub(crate) async fn answer(&self, thread: &DataThread, head: &request::Parts) -> Option<Response<ReplyBody>> {
        let shared = &thread.shared;
        let split = shared.settings.manage.as_ref().is_some_and(|manage| manage.listen.is_some());
        let answered = match head.uri.path() {
            "/metrics" if split => None,
            "/metrics" if is_read(&head.method) => {
                let (shared, wants_json) = (Arc::clone(shared), wants_json(head));
                let rendered = self.control.spawn(async move { metrics(&shared, wants_json) }).await;
                Some(rendered.unwrap_or_else(|_| unrendered()))
            }
            _ => answer_at_once(shared, head),
        };
        answered.map(|response| response.map(|body| ReplyBody::ours(body, None)))
    }
}

/// The answer where the thread carries no streams: on the management port.
pub(crate) fn answer_at_once(shared: &Arc<Shared>, head: &request::Parts) -> Option<Response<Bytes>> {
    let path = head.uri.path();
    if !matches!(path, "/health" | "/ready" | "/live" | "/metrics") {
        return None;
    }
    if !is_read(&head.method) {
        return Some(answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n".into()));
    }
    Some(match path {
        "/live" => answer(StatusCode::OK, TEXT, "alive\n".into()),
        "/ready" => match unready(shared) {
            None => answer(StatusCode::OK, TEXT, "ready\n".into()),
            Some(why) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n")),
        },
        "/health" => answer(StatusCode::OK, JSON, health(shared)),
        _ => metrics(shared, wants_json(head)),
    })
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn wants_json(head: &request::Parts) -> bool {
    head.headers.get(ACCEPT).is_some_and(|v| v.as_bytes().starts_with(b"application/json"))
}

fn metrics(shared: &Arc<Shared>, as_json: bool) -> Response<Bytes> {
    if as_json {
        return answer(StatusCode::OK, JSON, metrics::json(shared));
    }
    metrics::text(shared).map_or_else(|_| unrendered(), |body| answer(StatusCode::OK, OPENMETRICS, body))
}

fn unrendered() -> Response<Bytes> {
    answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the metrics cannot be rendered\n".into())
}

/// Why the process is not ready. A database that is away does not make it so: all replicas would leave at once.
fn unready(shared: &Shared) -> Option<String> {
    if shared.draining.load(Ordering::Relaxed) {
        Some("shutting down".to_owned())
    } else if let Some(why) = shared.database.outgrown() {
        Some(why)
    } else if !shared.synced.load(Ordering::Relaxed) {
        let awaited = shared.database.awaited();
        Some(awaited.unwrap_or_else(|| "waiting for the first contact with the database".to_owned()))
    } else {
        None
    }
}

fn health(shared: &Shared) -> String {
    let now = shared.clock.mono_ms();
    let unwritable = shared.database.unwritable();
    serde_json::json!({
        "status": "ok",
        "timestamp": jiff::Timestamp::now().to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "ready": unready(shared).is_none(),
        "database_contact_age_ms": shared.clock.contact_age_ms(now),
        "database_stale": shared.clock.is_stale(now),
        "database_writable": unwritable.is_none(),
        "database_write_error": unwritable,
    })
    .to_string()
}

fn answer(status: StatusCode, content_type: HeaderValue, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

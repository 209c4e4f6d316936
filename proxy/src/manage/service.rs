//! A request's way through `/manage`: credentials by its head alone, then its body within bounds, then its handler within a deadline; and what
//! logs and audit learn of it. Runs on the control runtime.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode, request};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use store::{AuditOutcome, Fleet, HolderId};
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::act::{ACTOR, Context};
use super::auth::Gate;
use super::denials::Class;
use super::inbound::Caller;
use super::problem::{Code, Problem};
use super::router::{self, OPENAPI};
use super::settings::ManageSettings;

/// For a body to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// For a handler: longer than a busy database takes, shorter than a client waits.
const DEADLINE: Duration = Duration::from_secs(10);
/// For the one handler that reads a whole table.
const VERIFY_DEADLINE: Duration = Duration::from_secs(120);

/// The management side of a process.
pub(crate) struct Manage {
    gate: Gate,
    connected: OnceLock<Connected>,
}

/// What needs a database.
struct Connected {
    context: Arc<Context>,
    router: Router,
}

/// Whether a path belongs to `/manage`.
pub(crate) fn is_ours(path: &str) -> bool {
    path == "/manage" || path.starts_with("/manage/")
}

impl Manage {
    /// # Errors
    /// Why its token cannot be had, in one line.
    pub(crate) fn new(settings: &ManageSettings) -> Result<Self, String> {
        Ok(Self {
            gate: Gate::new(settings.token.clone())?,
            connected: OnceLock::new(),
        })
    }

    /// There is a database: until now every request was answered 503. Once; a second database would not be used.
    pub(crate) fn connect(&self, fleet: Fleet, holder: HolderId) -> Arc<Context> {
        let connected = self.connected.get_or_init(|| {
            let context = Arc::new(Context::new(fleet, holder));
            Connected {
                router: router::router(Arc::clone(&context)),
                context,
            }
        });
        Arc::clone(&connected.context)
    }

    /// Answers one request; never fails, because a failure is an answer. A body that was not read comes back.
    pub(crate) async fn serve(
        &self,
        head: request::Parts,
        body: Incoming,
        source: IpAddr,
        request_id: String,
    ) -> (Response<Bytes>, Option<Incoming>) {
        let began = Instant::now();
        let caller = Caller { source, request_id };
        let (method, template) = (head.method.clone(), router::template(head.uri.path()));
        let (answered, unread) = match self.admit(&head, &caller) {
            Ok(()) => self.admitted(head, body, &caller, template).await,
            Err(problem) => (problem.into_response(), Some(body)),
        };
        let (mut head, body) = answered.into_parts();
        head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        head.headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let code = head.extensions.remove::<Code>().map(|code| code.0);
        self.note(&method, template, head.status, code, &caller);
        tracing::info!(
            target: "access",
            request_id = caller.request_id,
            client = %caller.source,
            method = method.as_str(),
            endpoint = template,
            status = head.status.as_u16(),
            code,
            total_ms = began.elapsed().as_secs_f64() * 1e3,
            "management request"
        );
        // Handlers answer with whole bodies.
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        (Response::from_parts(head, body), unread)
    }

    fn admit(&self, head: &request::Parts, caller: &Caller) -> Result<(), Problem> {
        if head.uri.path() == OPENAPI && matches!(head.method, Method::GET | Method::HEAD) {
            return Ok(());
        }
        self.gate.admit(&head.headers, caller.source)
    }

    async fn admitted(
        &self,
        mut head: request::Parts,
        mut body: Incoming,
        caller: &Caller,
        template: &str,
    ) -> (axum::response::Response, Option<Incoming>) {
        let Some(Connected { router, .. }) = self.connected.get() else {
            return (Problem::database_unavailable().into_response(), Some(body));
        };
        let bytes = match read(&mut body).await {
            Ok(bytes) => bytes,
            Err(problem) => return (problem.into_response(), Some(body)),
        };
        head.extensions.insert(caller.clone());
        let request = Request::from_parts(head, Body::from(bytes));
        let deadline = if template.ends_with("/verify") { VERIFY_DEADLINE } else { DEADLINE };
        let answered = match timeout(deadline, router.clone().oneshot(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => Problem::database_unavailable().into_response(),
        };
        (answered, None)
    }

    /// What was refused goes into the audit; what was done has put itself there.
    fn note(&self, method: &Method, template: &str, status: StatusCode, code: Option<&'static str>, caller: &Caller) {
        let (Some(code), Some(Connected { context, .. })) = (code, self.connected.get()) else {
            return;
        };
        let authenticating = status == StatusCode::UNAUTHORIZED || code == "too_many_failures";
        let (action, actor) = if authenticating {
            ("management.authenticate", "anonymous")
        } else {
            match router::action(method, template) {
                Some(action) => (action, ACTOR),
                None => return,
            }
        };
        let outcome = match status.as_u16() {
            401 | 403 | 405 | 409 | 412 | 422 | 429 => AuditOutcome::Denied,
            _ => AuditOutcome::Failed,
        };
        let class = Class {
            action,
            code,
            actor,
            outcome,
        };
        context.denials.note(class, caller);
    }
}

async fn read(body: &mut Incoming) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > api::MAX_BODY_BYTES as u64 {
        return Err(Problem::too_large());
    }
    match timeout(BODY_DEADLINE, Limited::new(body, api::MAX_BODY_BYTES).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Problem::too_large()),
        Ok(Err(_)) => Err(Problem::bad_request("request_aborted", "The request body ended early.")),
        Err(_) => Err(Problem::late_body()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_under_manage_are_ours() {
        for path in ["/manage", "/manage/", "/manage/projects"] {
            assert!(is_ours(path), "{path}");
        }
        for path in ["/managed", "/v1/manage", "/", "/Manage"] {
            assert!(!is_ours(path), "{path}");
        }
    }
}

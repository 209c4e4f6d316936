//! The life of a request, step by step: accept → grant → body → permit → exchange → reply. Each stage is a value that only the stage before it
//! can make, so that none can be skipped.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use llm::{BodyKind, peek};

use crate::answer::{self, Reply};
use crate::body::{self, Payload};
use crate::connection::{Connection, Running};
use crate::data_thread::DataThread;
use crate::dispatch::{self, Plan};
use crate::headers::X_REQUEST_ID;
use crate::inbound::{self, Inbound};
use crate::manage::{self, Manage};
use crate::outcome::Outcome;
use crate::refusal::Refusal;
use crate::reply::ReplyBody;
use crate::{admit, cors, rate_headers};

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Answers one request; never fails, because a failure is an answer.
pub(crate) async fn serve(thread: &Rc<DataThread>, connection: &Rc<Connection>, request: Request<Incoming>) -> Response<ReplyBody> {
    let (head, body) = request.into_parts();
    let running = Running::new(connection);
    let request_id = inbound::request_id(&head.headers, || thread.request_id());
    if let Some(manage) = thread.shared.manage.as_ref().filter(|_| manage::is_ours(head.uri.path())) {
        return administer(thread, connection, manage, head, body, request_id).await;
    }
    let mut response = match thread.operations.answer(thread, &head).await {
        // No CORS headers: without a token any page that somebody visits could read them.
        Some(answer) => answer,
        None => {
            let origin = cors::allowed_origin(&head.headers, &thread.shared.settings.allowed_origins);
            if head.method == Method::OPTIONS {
                answer::preflight(&head.headers, origin.as_ref())
            } else {
                let outcome = Outcome::begin(thread, running, request_id.clone(), head.method.clone());
                let mut response = forward(thread, head, body, outcome).await;
                cors::apply(response.headers_mut(), origin.as_ref());
                response
            }
        }
    };
    response.headers_mut().insert(X_REQUEST_ID, request_id);
    if thread.shared.draining.load(Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, CLOSE);
    }
    response
}

/// `/manage`, where it shares the port. It gets no CORS headers, and the data thread only waits.
async fn administer(
    thread: &Rc<DataThread>,
    connection: &Rc<Connection>,
    manage: &Arc<Manage>,
    head: request::Parts,
    body: Incoming,
    request_id: HeaderValue,
) -> Response<ReplyBody> {
    let running = Running::new(connection);
    let waits_for_100 = head.headers.contains_key(EXPECT);
    let (mut response, unread) = thread.operations.manage(manage, head, body, running.peer().ip(), &request_id).await;
    response.headers_mut().insert(X_REQUEST_ID, request_id);
    let endless = response.status() == StatusCode::PAYLOAD_TOO_LARGE || (unread.is_some() && waits_for_100);
    if endless || thread.shared.draining.load(Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, CLOSE);
    }
    if let Some(body) = unread {
        body::discard(body);
    }
    response
}

async fn forward(thread: &Rc<DataThread>, mut head: request::Parts, body: Incoming, mut outcome: Outcome) -> Response<ReplyBody> {
    let mut unread = Some(body);
    let ended = steps(thread, &mut head, &mut unread, &mut outcome).await;
    let rated = outcome.grant.clone().filter(|grant| grant.has_rates);
    let mut response = match ended {
        Ok(reply) => reply.into_response(thread, outcome),
        Err(refusal) => {
            let mut response = answer::refuse(&refusal, outcome);
            // Nobody can say where the next request of this connection would begin, or when: the body is too long or too slow, or it may
            // never be sent, because the client waits for a 100 that it did not get.
            let endless = matches!(refusal, Refusal::BodyTooLarge { .. } | Refusal::BodyTimeout | Refusal::BodyAborted);
            if endless || (unread.is_some() && head.headers.contains_key(EXPECT)) {
                response.headers_mut().insert(CONNECTION, CLOSE);
            }
            if let Some(body) = unread {
                body::discard(body);
            }
            response
        }
    };
    if let Some(grant) = rated {
        let clock = &thread.shared.clock;
        rate_headers::apply(response.headers_mut(), &grant, clock.db_time(clock.mono_ms()));
    }
    response
}

async fn steps(thread: &Rc<DataThread>, head: &mut request::Parts, unread: &mut Option<Incoming>, outcome: &mut Outcome) -> Result<Reply, Refusal> {
    // Who asks for what: the head alone.
    let Inbound { endpoint, digest } = inbound::accept(head)?;
    outcome.endpoint = Some(endpoint);
    let grant = admit::grant(thread, &digest).await?;
    outcome.grant = Some(grant.clone());
    let kind = endpoint.body_of(&head.method);
    inbound::check_media_type(kind, &head.headers)?;

    // Only now the body.
    let payload = Payload::take(&thread.shared, kind, unread).await?;
    let whole = payload.whole();
    let peeked = match kind {
        BodyKind::Json => {
            let peeked = peek::peek(&whole).map_err(|e| Refusal::InvalidBody(e.to_api_error()))?;
            if let Some(model) = peeked.model.as_deref() {
                outcome.asks_for(model);
            }
            endpoint.check_model(&peeked).map_err(Refusal::InvalidBody)?;
            Some(peeked)
        }
        BodyKind::Multipart | BodyKind::None => None,
    };

    let plan = Plan {
        endpoint,
        digest,
        whole: &whole,
        peeked: peeked.as_ref(),
    };
    dispatch::send(thread, head, &plan, grant, payload, outcome).await
}

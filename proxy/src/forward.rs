//! The life of a request, step by step: accept → grant → body → permit → plan → exchange → reply. Each stage is a value that only the stage
//! before it can make, so that none can be skipped.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request};
use http_body::Body;
use hyper::body::Incoming;
use llm::{BodyKind, EchoAnswer, Endpoint, Peek, UsageObserver, endpoint, peek};
use store::TokenDigest;

use crate::block::Permit;
use crate::body::{self, Held};
use crate::connection::{Connection, Running};
use crate::data_thread::DataThread;
use crate::grant::Grant;
use crate::headers::{X_REQUEST_ID, X_SHOULD_RETRY, to_client, to_upstream};
use crate::inbound::{self, Inbound};
use crate::outcome::{End, Outcome};
use crate::refusal::{Refusal, Retry};
use crate::reply::ReplyBody;
use crate::upstream::{Answered, ExchangeError, Target, Upstream, UpstreamBody, UpstreamKind, exchange};
use crate::{admit, cors};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const NOT_JSON: &str = "This endpoint takes JSON: send Content-Type: application/json.";
const ENCODED: &str = "Compressed request bodies are not taken: send the body without Content-Encoding.";
const NOT_MULTIPART: &str = "This endpoint takes a form: send Content-Type: multipart/form-data.";
/// How often a request whose grant changes under it is admitted anew.
const ADMISSIONS: usize = 4;

/// Answers one request; never fails, because a failure is an answer.
pub(crate) async fn serve(thread: &Rc<DataThread>, connection: &Rc<Connection>, request: Request<Incoming>) -> Response<ReplyBody> {
    let (head, body) = request.into_parts();
    if let Some(answer) = thread.operations.answer(thread, &head).await {
        return answer;
    }
    let origin = cors::allowed_origin(&head.headers, &thread.shared.settings.allowed_origins);
    let request_id = inbound::request_id(&head.headers, || thread.request_id());
    let mut response = if head.method == Method::OPTIONS {
        preflight(&head.headers, origin.as_ref())
    } else {
        let running = Running::new(connection);
        let outcome = Outcome::begin(thread, running, request_id.clone(), head.method.clone());
        let mut response = forward(thread, head, body, outcome).await;
        cors::apply(response.headers_mut(), origin.as_ref());
        response
    };
    response.headers_mut().entry(X_REQUEST_ID).or_insert(request_id);
    if thread.shared.draining.load(std::sync::atomic::Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn forward(thread: &Rc<DataThread>, head: request::Parts, body: Incoming, mut outcome: Outcome) -> Response<ReplyBody> {
    let mut unread = Some(body);
    match steps(thread, head, &mut unread, &mut outcome).await {
        Ok(reply) => reply.into_response(thread, outcome),
        Err(refusal) => {
            if let Some(body) = unread {
                body::discard(body);
            }
            refuse(&refusal, outcome)
        }
    }
}

/// What goes to the client, once the head of the answer is known.
enum Reply {
    Upstream {
        answered: Answered,
        origin: Arc<crate::upstream::Origin>,
    },
    EchoWhole {
        status: u16,
        body: Bytes,
    },
    EchoStream {
        chunks: Vec<Bytes>,
        pause: Duration,
    },
}

/// The body as admission needs it.
enum Payload {
    Whole(Held),
    Stream(Incoming),
    Empty,
}

async fn steps(thread: &Rc<DataThread>, head: request::Parts, unread: &mut Option<Incoming>, outcome: &mut Outcome) -> Result<Reply, Refusal> {
    // Who asks for what: the head alone.
    let Inbound { endpoint, digest } = inbound::accept(&head)?;
    outcome.endpoint = Some(endpoint);
    let grant = admit::grant(thread, &digest).await?;
    outcome.grant = Some(Arc::clone(&grant));
    let kind = endpoint.body_of(&head.method);
    check_media_type(kind, &head.headers)?;

    // Only now the body.
    let payload = read(thread, kind, unread).await?;
    let whole = match &payload {
        Payload::Whole(held) => held.bytes.clone(),
        Payload::Stream(_) | Payload::Empty => Bytes::new(),
    };
    let peeked = match kind {
        BodyKind::Json => {
            let peeked = peek::peek(&whole).map_err(|e| Refusal::InvalidBody(e.to_api_error()))?;
            outcome.model = peeked.model.as_deref().map(Into::into);
            endpoint.check_model(&peeked).map_err(Refusal::InvalidBody)?;
            Some(peeked)
        }
        BodyKind::Multipart | BodyKind::None => None,
    };

    let plan = Plan {
        endpoint,
        head,
        whole: &whole,
        peeked: peeked.as_ref(),
    };
    send(thread, plan, grant, &digest, payload, outcome).await
}

/// A request that has passed everything but its quota.
struct Plan<'a> {
    endpoint: &'static Endpoint,
    head: request::Parts,
    whole: &'a Bytes,
    peeked: Option<&'a Peek<'a>>,
}

/// Takes a permit and sends the request; a grant that changes meanwhile is admitted anew.
async fn send(
    thread: &Rc<DataThread>,
    plan: Plan<'_>,
    mut grant: Arc<Grant>,
    digest: &TokenDigest,
    payload: Payload,
    outcome: &mut Outcome,
) -> Result<Reply, Refusal> {
    let prompt_bytes = plan.whole.len();
    let (mut body, charge) = match payload {
        Payload::Whole(held) => (UpstreamBody::Whole(Some(held.bytes)), Some(held.charge)),
        Payload::Stream(body) => (
            UpstreamBody::Stream {
                body,
                left: thread.shared.settings.limits.max_body_bytes,
            },
            None,
        ),
        Payload::Empty => (UpstreamBody::Empty, None),
    };
    for _ in 0..ADMISSIONS {
        admit::check(thread, &grant)?;
        outcome.grant = Some(Arc::clone(&grant));
        let upstream = grant.upstream.clone().ok_or_else(|| Refusal::NoProvider {
            project: grant.project_name.clone(),
        })?;
        let mut permit = admit::permit(thread, &grant).await?;
        match &upstream.kind {
            UpstreamKind::Echo => {
                if grant.is_stale() {
                    grant = admit::grant(thread, digest).await?;
                    continue;
                }
                let reply = echo(&plan, permit)?;
                outcome.status = StatusCode::OK;
                outcome.meter(observer_of(plan.endpoint, matches!(reply, Reply::EchoStream { .. })), prompt_bytes);
                return Ok(reply);
            }
            UpstreamKind::Http(target) => {
                let request = outbound(&plan, target, body)?;
                let shared = &thread.shared;
                let current = || !grant.is_stale();
                match exchange(
                    &thread.pool,
                    &shared.egress,
                    &shared.settings.limits,
                    &target.origin,
                    request,
                    &mut permit,
                    current,
                )
                .await
                {
                    Ok(answered) => {
                        drop(charge);
                        outcome.status = answered.response.status();
                        outcome.meter(observer_of(plan.endpoint, is_event_stream(answered.response.headers())), prompt_bytes);
                        if outcome.status == StatusCode::UNAUTHORIZED {
                            return Err(Refusal::UpstreamAuth {
                                provider: upstream.provider.clone(),
                            });
                        }
                        return Ok(Reply::Upstream {
                            answered,
                            origin: Arc::clone(&target.origin),
                        });
                    }
                    Err(ExchangeError::Stale(request)) => {
                        body = request.into_body();
                        drop(permit);
                        grant = admit::grant(thread, digest).await?;
                    }
                    Err(error) => return Err(exchange_refusal(error, &upstream, outcome, prompt_bytes)),
                }
            }
        }
    }
    Err(Refusal::Overloaded)
}

fn check_media_type(kind: BodyKind, headers: &HeaderMap) -> Result<(), Refusal> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let essence = content_type.split(';').next().unwrap_or("").trim();
    match kind {
        BodyKind::None => Ok(()),
        BodyKind::Json if !essence.eq_ignore_ascii_case("application/json") => Err(Refusal::UnsupportedMediaType { what: NOT_JSON }),
        BodyKind::Multipart if !essence.eq_ignore_ascii_case("multipart/form-data") => Err(Refusal::UnsupportedMediaType { what: NOT_MULTIPART }),
        _ if headers.contains_key(CONTENT_ENCODING) => Err(Refusal::UnsupportedMediaType { what: ENCODED }),
        BodyKind::Json | BodyKind::Multipart => Ok(()),
    }
}

async fn read(thread: &DataThread, kind: BodyKind, unread: &mut Option<Incoming>) -> Result<Payload, Refusal> {
    Ok(match kind {
        BodyKind::Json => {
            let Some(body) = unread.as_mut() else { return Ok(Payload::Empty) };
            let held = body::read(&thread.shared, body).await?;
            *unread = None;
            Payload::Whole(held)
        }
        BodyKind::Multipart => match unread.take() {
            Some(body) if body.size_hint().lower() > thread.shared.settings.limits.max_body_bytes as u64 => {
                *unread = Some(body);
                return Err(Refusal::BodyTooLarge {
                    limit: thread.shared.settings.limits.max_body_bytes,
                });
            }
            Some(body) => Payload::Stream(body),
            None => Payload::Empty,
        },
        BodyKind::None => Payload::Empty,
    })
}

/// The answer's own form decides, not what was asked for: forms that stream through unread may ask for a stream, too.
fn observer_of(endpoint: &Endpoint, events: bool) -> Option<UsageObserver> {
    endpoint.metered.then(|| {
        if events {
            UsageObserver::stream(endpoint.kind)
        } else {
            UsageObserver::whole()
        }
    })
}

/// The request as the provider gets it: same bytes, its own host, path prefix and credential.
fn outbound(plan: &Plan<'_>, target: &Target, body: UpstreamBody) -> Result<Request<UpstreamBody>, Refusal> {
    let path = endpoint::upstream_path(&target.base_path, plan.head.uri.path());
    let path_and_query = match plan.head.uri.query() {
        Some(query) => Cow::Owned(format!("{path}?{query}")),
        None => path,
    };
    let uri = match &target.origin.route {
        crate::upstream::Route::Proxy { .. } if !target.origin.tls => {
            format!("http://{}{path_and_query}", target.origin.authority.to_str().unwrap_or_default()).parse::<Uri>()
        }
        _ => path_and_query.parse::<Uri>(),
    };
    let mut request = Request::new(body);
    *request.uri_mut() = uri.map_err(|_| Refusal::EndpointNotFound)?;
    *request.method_mut() = plan.head.method.clone();
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = plan.head.headers.clone();
    to_upstream(
        request.headers_mut(),
        &target.origin.authority,
        target.authorization.as_ref(),
        plan.endpoint.metered,
    );
    if let crate::upstream::Route::Proxy {
        authorization: Some(value), ..
    } = &target.origin.route
        && !target.origin.tls
    {
        request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, value.clone());
    }
    debug_assert!(request.headers().contains_key(HOST));
    Ok(request)
}

fn echo(plan: &Plan<'_>, permit: Option<Permit>) -> Result<Reply, Refusal> {
    let empty = Peek::default();
    let answer = llm::echo::answer(plan.endpoint, plan.head.uri.path(), plan.peeked.unwrap_or(&empty), plan.whole);
    let reply = match answer {
        EchoAnswer::Whole { status, body } => Reply::EchoWhole { status, body },
        EchoAnswer::Stream { chunks, pause_ms } => Reply::EchoStream {
            chunks,
            pause: Duration::from_millis(u64::from(pause_ms)),
        },
        EchoAnswer::Error(error) => return Err(Refusal::InvalidBody(error)),
    };
    // The request counts when the answer starts.
    if let Some(permit) = permit {
        permit.spend();
    }
    Ok(reply)
}

fn exchange_refusal(error: ExchangeError, upstream: &Upstream, outcome: &mut Outcome, prompt_bytes: usize) -> Refusal {
    let provider = upstream.provider.clone();
    match error {
        ExchangeError::Unreachable(why) => {
            tracing::warn!(provider = &*provider, why, "a provider cannot be reached");
            return Refusal::UpstreamUnreachable { provider };
        }
        ExchangeError::Stale(_) => return Refusal::Overloaded,
        ExchangeError::TimedOut | ExchangeError::Broken(_) => {}
    }
    // The head went upstream: the request counts, though nothing came back.
    outcome.status = StatusCode::BAD_GATEWAY;
    outcome.meter(None, prompt_bytes);
    match error {
        ExchangeError::TimedOut => Refusal::UpstreamTimeout { provider },
        ExchangeError::Broken(error) => {
            let cause = std::error::Error::source(&error);
            if cause.is_some_and(|c| c.is::<crate::upstream::StreamedBodyError>()) {
                return Refusal::BodyAborted;
            }
            tracing::warn!(provider = &*provider, %error, "a provider broke off before its answer");
            Refusal::UpstreamBroken { provider }
        }
        ExchangeError::Unreachable(_) | ExchangeError::Stale(_) => Refusal::UpstreamUnreachable { provider },
    }
}

impl Reply {
    fn into_response(self, thread: &Rc<DataThread>, mut outcome: Outcome) -> Response<ReplyBody> {
        outcome.head_after = outcome.started.elapsed();
        match self {
            Self::Upstream {
                answered: Answered { response, sender },
                origin,
            } => {
                let (mut head, body) = response.into_parts();
                let events = is_event_stream(&head.headers) && body.size_hint().exact().is_none();
                to_client(&mut head.headers, &outcome.request_id);
                head.version = Version::HTTP_11;
                head.extensions = http::Extensions::new();
                Response::from_parts(head, ReplyBody::upstream(thread, body, (origin, sender), outcome, events))
            }
            Self::EchoWhole { status, body } => {
                outcome.status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
                outcome.observe(&body);
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = outcome.status;
                response.headers_mut().insert(CONTENT_TYPE, JSON);
                response.map(|_| ReplyBody::ours(body, Some(outcome)))
            }
            Self::EchoStream { chunks, pause } => {
                let mut response = Response::new(ReplyBody::echo(thread, chunks, pause, outcome));
                response.headers_mut().insert(CONTENT_TYPE, EVENT_STREAM);
                response
                    .headers_mut()
                    .insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                response
            }
        }
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"text/event-stream"))
}

fn refuse(refusal: &Refusal, mut outcome: Outcome) -> Response<ReplyBody> {
    let answer = refusal.answer();
    outcome.status = answer.error.status;
    outcome.refusal = Some(answer.error.code);
    outcome.head_after = outcome.started.elapsed();
    outcome.end = End::Complete;
    let body = answer.error.to_body();
    outcome.bytes_out = body.len() as u64;
    let mut response = Response::new(ReplyBody::ours(body, Some(outcome)));
    *response.status_mut() = answer.error.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    if let Refusal::MethodNotAllowed { allow } = refusal {
        headers.insert(http::header::ALLOW, HeaderValue::from_static(allow));
    }
    match answer.retry {
        Retry::Unsaid => {}
        Retry::After(seconds) => drop(headers.insert(RETRY_AFTER, HeaderValue::from(seconds))),
        Retry::Never => drop(headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"))),
    }
    response
}

fn preflight(request: &HeaderMap, origin: Option<&HeaderValue>) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::ours(Bytes::new(), None));
    *response.status_mut() = StatusCode::NO_CONTENT;
    cors::apply_preflight(response.headers_mut(), origin, request);
    response
}

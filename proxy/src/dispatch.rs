//! From an admitted request to the head of its answer: a permit, a connection, and the one moment in which the request starts.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, request};
use llm::{Endpoint, EndpointKind, Peek, UsageObserver, estimate_prompt_tokens};
use store::TokenDigest;

use crate::admit;
use crate::answer::{Reply, is_event_stream};
use crate::body::Payload;
use crate::data_thread::DataThread;
use crate::grant::Grant;
use crate::outbound;
use crate::outcome::Outcome;
use crate::permit::Demand;
use crate::refusal::Refusal;
use crate::upstream::{Answered, Link, SendError, StreamedBodyError, Target, Upstream, UpstreamBody, UpstreamKind};

/// How often a request whose grant changes under it is admitted anew.
const ADMISSIONS: usize = 4;
/// Connections from the pool that may turn out to be closed before a fresh one is made.
const MAX_POOLED_TRIES: usize = 3;

/// A request that has passed everything but its quota.
pub(crate) struct Plan<'a> {
    pub(crate) endpoint: &'static Endpoint,
    pub(crate) digest: TokenDigest,
    pub(crate) whole: &'a Bytes,
    pub(crate) peeked: Option<&'a Peek<'a>>,
}

/// What one admission came to.
enum Attempt {
    Answered(Answered),
    /// A change came before the request started: admit it anew.
    Outdated(Request<UpstreamBody>),
}

/// Takes a share of each limit and sends the request; a grant that changes meanwhile is admitted anew.
pub(crate) async fn send(
    thread: &Rc<DataThread>,
    head: &mut request::Parts,
    plan: &Plan<'_>,
    mut grant: Arc<Grant>,
    payload: Payload,
    outcome: &mut Outcome,
) -> Result<Reply, Refusal> {
    // Charged until the provider has answered: by then it has read the body, or it does not want to.
    let (mut body, _charge) = payload.into_upstream(&thread.shared);
    for admission in 0..ADMISSIONS {
        if admission > 0 || grant.is_stale() {
            grant = admit::grant(thread, &plan.digest).await?;
        }
        outcome.grant = Some(Arc::clone(&grant));
        let upstream = grant.upstream.as_deref().ok_or_else(|| Refusal::NoProvider {
            project: grant.project_name.clone(),
        })?;
        let demand = demand(plan, &grant, upstream);
        outcome.price = demand.price;
        outcome.permit = Some(admit::permit(thread, &grant, &demand).await?);
        match &upstream.kind {
            UpstreamKind::Echo => {
                if admit::may_start(thread, &grant)? {
                    return echo(head, plan, outcome);
                }
            }
            UpstreamKind::Http(target) => {
                let request = outbound::request(head, plan.endpoint, target, body)?;
                match exchange(thread, plan, &grant, target, request, outcome).await? {
                    Attempt::Answered(answered) => {
                        let (status, headers) = (answered.response.status(), answered.response.headers());
                        outcome.answered(status, observer_of(plan.endpoint, is_event_stream(headers)));
                        if status == StatusCode::UNAUTHORIZED {
                            return Err(Refusal::UpstreamAuth { provider: provider(&grant) });
                        }
                        return Ok(Reply::Upstream(answered));
                    }
                    Attempt::Outdated(request) => {
                        let (parts, unsent) = request.into_parts();
                        head.headers = parts.headers;
                        body = unsent;
                    }
                }
            }
        }
    }
    Err(Refusal::Overloaded)
}

/// One admission's way to the head of an answer. A retry happens only while not a byte of the request has been written.
async fn exchange(
    thread: &DataThread,
    plan: &Plan<'_>,
    grant: &Grant,
    target: &Target,
    mut request: Request<UpstreamBody>,
    outcome: &mut Outcome,
) -> Result<Attempt, Refusal> {
    let limits = &thread.shared.settings.limits;
    let mut tries = 0;
    loop {
        let idle = if tries < MAX_POOLED_TRIES {
            Link::idle(&thread.pool, &target.origin)
        } else {
            None
        };
        tries += 1;
        let link = match idle {
            Some(link) => link,
            None => Link::dial(&target.origin, &thread.shared.egress, limits.connect_deadline)
                .await
                .map_err(|why| unreachable(grant, &why))?,
        };
        let pooled = link.pooled;
        // From here until the request is handed over nothing yields: a take-away that was acknowledged before is never followed by a request on
        // what was before.
        let may_start = admit::may_start(thread, grant);
        if !matches!(may_start, Ok(true)) {
            link.release(&thread.pool);
            return may_start.map(|_| Attempt::Outdated(request));
        }
        outcome.dispatched(plan.whole.len());
        let failed = match link.send(request, limits.first_byte_deadline, thread.aborting()).await {
            Ok(answered) => {
                outcome.sent();
                return Ok(Attempt::Answered(answered));
            }
            Err(failed) => failed,
        };
        // Anything but an untouched request counts, though nothing came back: dropping a dispatched permit spends it.
        match failed {
            SendError::Untouched(untouched, error) => {
                outcome.not_dispatched();
                if !pooled {
                    return Err(unreachable(grant, &error.to_string()));
                }
                request = *untouched;
            }
            SendError::Broken(error) => return Err(broken(grant, &error, limits.max_body_bytes)),
            SendError::Switched => return Err(Refusal::UpstreamBroken { provider: provider(grant) }),
            SendError::TimedOut => return Err(Refusal::UpstreamTimeout { provider: provider(grant) }),
            SendError::Aborted => return Err(Refusal::Draining),
        }
    }
}

/// What the request may use, as far as a limit or the usage table asks.
fn demand(plan: &Plan<'_>, grant: &Grant, upstream: &Upstream) -> Demand {
    if !plan.endpoint.metered {
        return Demand::default();
    }
    let model = plan.peeked.and_then(|peeked| peeked.model.as_deref());
    let price = model.and_then(|model| upstream.prices.price_of(model));
    if !grant.needs_estimate {
        return Demand { price, ..Demand::default() };
    }
    Demand {
        metered: true,
        input: estimate_prompt_tokens(plan.whole.len()),
        output: match plan.endpoint.kind {
            EndpointKind::Embeddings => Some(0),
            _ => plan.peeked.and_then(|peeked| peeked.max_tokens),
        },
        price,
    }
}

fn provider(grant: &Grant) -> Box<str> {
    grant.upstream.as_ref().map_or_else(Box::default, |upstream| upstream.provider.clone())
}

fn unreachable(grant: &Grant, why: &str) -> Refusal {
    let provider = provider(grant);
    tracing::warn!(provider = &*provider, why, "a provider cannot be reached");
    Refusal::UpstreamUnreachable { provider }
}

fn broken(grant: &Grant, error: &hyper::Error, max_body_bytes: usize) -> Refusal {
    match StreamedBodyError::behind(error) {
        Some(StreamedBodyError::TooLarge) => Refusal::BodyTooLarge { limit: max_body_bytes },
        Some(StreamedBodyError::Stalled) => Refusal::BodyTimeout,
        Some(StreamedBodyError::Client(_)) => Refusal::BodyAborted,
        None => {
            let provider = provider(grant);
            tracing::warn!(provider = &*provider, %error, "a provider broke off before its answer");
            Refusal::UpstreamBroken { provider }
        }
    }
}

/// The request counts when the answer starts, which is now.
fn echo(head: &request::Parts, plan: &Plan<'_>, outcome: &mut Outcome) -> Result<Reply, Refusal> {
    let empty = Peek::default();
    let answer = llm::echo::answer(plan.endpoint, head.uri.path(), plan.peeked.unwrap_or(&empty), plan.whole);
    let reply = Reply::echo(answer)?;
    outcome.dispatched(plan.whole.len());
    outcome.sent();
    outcome.answered(reply.status(), observer_of(plan.endpoint, matches!(reply, Reply::EchoStream { .. })));
    Ok(reply)
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

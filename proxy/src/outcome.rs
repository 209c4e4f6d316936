//! What became of a request: recorded once, at the end of its reply, however it ended; and the per-thread sums that the control side collects.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, StatusCode};
use llm::{Endpoint, Price, Usage, UsageObserver, estimate_prompt_tokens};
use store::{DbTime, ProjectId, TokenId, UsageDelta};

use crate::access;
use crate::connection::Running;
use crate::data_thread::DataThread;
use crate::grant::Grant;
use crate::permit::Permit;

const DAY_MS: i64 = 86_400_000;
/// A model's name comes from the client: bounded in length and, per token and flush, in number.
const MAX_MODEL_NAME: usize = 128;
const MAX_MODELS_PER_FLUSH: usize = 64;
const OTHER_MODELS: &str = "(other)";
/// What is recorded of a client that left before its answer began: nginx's number, which dashboards know.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// How a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Complete,
    /// The client left before the end.
    ClientGone,
    /// The provider broke off or fell silent.
    UpstreamBroke,
    /// The drain's grace period ended.
    Drained,
}

/// A request's story, filled in as it goes; dropping it records it.
pub(crate) struct Outcome {
    thread: Rc<DataThread>,
    pub(crate) running: Running,
    pub(crate) started: Instant,
    pub(crate) request_id: HeaderValue,
    pub(crate) method: Method,
    pub(crate) endpoint: Option<&'static Endpoint>,
    pub(crate) grant: Option<Arc<Grant>>,
    pub(crate) model: Option<Box<str>>,
    pub(crate) status: StatusCode,
    /// The refusal's code, if the answer was ours.
    pub(crate) refusal: Option<&'static str>,
    /// From the request to the head of its answer, if there is one.
    pub(crate) head_after: Option<Duration>,
    pub(crate) bytes_out: u64,
    pub(crate) end: End,
    /// What it has taken of its limits; settled when this is dropped.
    pub(crate) permit: Option<Permit>,
    /// What its model costs, if anybody has said.
    pub(crate) price: Option<Price>,
    metering: Option<Metering>,
}

/// A request whose head went upstream: it counts, and its tokens are watched.
struct Metering {
    prompt_bytes: usize,
    /// Whether the provider's answer was a success, once there is one.
    succeeded: Option<bool>,
    observer: Option<UsageObserver>,
}

/// What the access line and the metrics say of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) input: u64,
    pub(crate) cached: u64,
    pub(crate) output: u64,
    pub(crate) reasoning: u64,
    pub(crate) estimated: bool,
}

impl Tokens {
    fn as_usage(self) -> Usage {
        Usage {
            input: self.input,
            cached: self.cached,
            output: self.output,
            reasoning: self.reasoning,
        }
    }
}

impl Outcome {
    pub(crate) fn begin(thread: &Rc<DataThread>, running: Running, request_id: HeaderValue, method: Method) -> Self {
        thread.counters.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            thread: Rc::clone(thread),
            running,
            started: Instant::now(),
            request_id,
            method,
            endpoint: None,
            grant: None,
            model: None,
            status: StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST),
            refusal: None,
            head_after: None,
            bytes_out: 0,
            // Whoever drops the reply before its end is the connection: the client has left.
            end: End::ClientGone,
            permit: None,
            price: None,
            metering: None,
        }
    }

    /// Notes the model that was asked for: the client's word, so it is cut.
    pub(crate) fn asks_for(&mut self, model: &str) {
        self.model = Some(bounded(model).into());
    }

    /// The head goes upstream now: from here on the request counts, whatever becomes of it.
    pub(crate) fn dispatched(&mut self, prompt_bytes: usize) {
        if let Some(permit) = &mut self.permit {
            permit.dispatch();
        }
        self.metering = Some(Metering {
            prompt_bytes,
            succeeded: None,
            observer: None,
        });
    }

    /// It did not go after all: not a byte was written.
    pub(crate) fn not_dispatched(&mut self) {
        if let Some(permit) = &mut self.permit {
            permit.not_sent();
        }
        self.metering = None;
    }

    /// The head went upstream for certain.
    pub(crate) fn sent(&mut self) {
        if let Some(permit) = &mut self.permit {
            permit.sent();
        }
    }

    /// The provider has answered.
    pub(crate) fn answered(&mut self, status: StatusCode, observer: Option<UsageObserver>) {
        self.status = status;
        if let Some(metering) = &mut self.metering {
            metering.succeeded = Some(status.is_success());
            metering.observer = observer;
        }
    }

    /// The head of the answer is known and goes to the client.
    pub(crate) fn head_is_ready(&mut self) {
        self.head_after = Some(self.started.elapsed());
    }

    /// Looks at a piece of the answer, which may be known to be the last.
    pub(crate) fn observe(&mut self, piece: &[u8], last: bool) {
        self.bytes_out += piece.len() as u64;
        if let Some(Metering {
            observer: Some(observer), ..
        }) = &mut self.metering
        {
            if last {
                observer.observe_last(piece);
            } else {
                observer.observe(piece);
            }
        }
    }

    /// Events that the client has received, for the number of a final error event.
    pub(crate) fn events_seen(&self) -> u64 {
        match &self.metering {
            Some(Metering {
                observer: Some(observer), ..
            }) => observer.finish().events,
            _ => 0,
        }
    }

    fn tokens(&self) -> Tokens {
        let Some(metering) = &self.metering else { return Tokens::default() };
        let estimate = |output| Tokens {
            input: estimate_prompt_tokens(metering.prompt_bytes),
            output,
            estimated: true,
            ..Tokens::default()
        };
        let Some(observer) = &metering.observer else {
            // Whoever leaves before the answer has had the provider read the prompt all the same.
            let left = metering.succeeded.is_none() && matches!(self.end, End::ClientGone | End::Drained);
            let metered = self.endpoint.is_some_and(|endpoint| endpoint.metered);
            return if left && metered { estimate(0) } else { Tokens::default() };
        };
        let observed = observer.finish();
        match observed.usage {
            Some(usage) => Tokens {
                input: usage.input,
                cached: usage.cached,
                output: usage.output,
                reasoning: usage.reasoning,
                estimated: false,
            },
            None if metering.succeeded == Some(true) => estimate(observed.delta_chunks),
            None => Tokens::default(),
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if self.head_after.is_none() && std::thread::panicking() {
            self.status = StatusCode::INTERNAL_SERVER_ERROR;
        }
        if self.end == End::ClientGone && self.thread.is_aborting() {
            self.end = End::Drained;
        }
        let tokens = self.tokens();
        let cost = self.price.map_or(0, |price| price.of(&tokens.as_usage()));
        if let Some(permit) = self.permit.take() {
            permit.settle(tokens, cost);
        }
        let total = self.started.elapsed();
        let counters = &self.thread.counters;
        counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        counters.record(self.status, self.refusal, self.head_after, total, self.end, tokens);
        if self.metering.is_some()
            && let Some(grant) = &self.grant
        {
            let now = self.thread.shared.clock.db_time(self.thread.shared.clock.mono_ms());
            let provider = grant.upstream.as_ref().map_or("", |u| &u.provider);
            self.thread.usage.add(
                now,
                grant.project,
                grant.token,
                self.model.as_deref().unwrap_or(""),
                provider,
                (tokens, cost),
            );
        }
        access::log(self, tokens, total);
    }
}

fn bounded(model: &str) -> &str {
    &model[..model.floor_char_boundary(MAX_MODEL_NAME)]
}

/// One thread's sums since the last collection.
#[derive(Default)]
pub(crate) struct UsageSink(Mutex<HashMap<TokenId, Vec<UsageDelta>>>);

impl UsageSink {
    fn add(&self, now: DbTime, project: ProjectId, token: TokenId, model: &str, provider: &str, (tokens, cost): (Tokens, u64)) {
        let day = i32::try_from(now.0.div_euclid(DAY_MS)).unwrap_or(i32::MAX);
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = sums.entry(token).or_default();
        let find = |rows: &[UsageDelta], model: &str| rows.iter().position(|r| r.model == model && r.provider == provider && r.day == day);
        let at = find(rows, model).or_else(|| {
            if rows.len() < MAX_MODELS_PER_FLUSH {
                None
            } else {
                find(rows, OTHER_MODELS)
            }
        });
        let row = match at {
            Some(at) => &mut rows[at],
            None => {
                let model = if rows.len() < MAX_MODELS_PER_FLUSH { model } else { OTHER_MODELS };
                rows.push(UsageDelta {
                    day,
                    project: Some(project),
                    token: Some(token),
                    model: model.to_owned(),
                    provider: provider.to_owned(),
                    ..UsageDelta::default()
                });
                let last = rows.len() - 1;
                &mut rows[last]
            }
        };
        row.last_at = row.last_at.max(now);
        row.requests += 1;
        row.input_tokens += tokens.input;
        row.cached_tokens += tokens.cached;
        row.output_tokens += tokens.output;
        row.reasoning_tokens += tokens.reasoning;
        row.estimated += u64::from(tokens.estimated);
        row.cost = row.cost.saturating_add(i64::try_from(cost).unwrap_or(i64::MAX));
    }

    /// Takes all sums out.
    pub(crate) fn collect(&self) -> Vec<UsageDelta> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
            .into_values()
            .flatten()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_model_add_up_and_are_collected_once() {
        let (sink, project, token) = (UsageSink::default(), ProjectId::new(), TokenId::new());
        let tokens = Tokens {
            input: 3,
            output: 2,
            ..Tokens::default()
        };
        sink.add(DbTime(DAY_MS), project, token, "gpt-4o", "openai", (tokens, 5));
        sink.add(
            DbTime(DAY_MS),
            project,
            token,
            "gpt-4o",
            "openai",
            (Tokens { estimated: true, ..tokens }, 2),
        );
        let rows = sink.collect();
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (
                rows[0].requests,
                rows[0].input_tokens,
                rows[0].output_tokens,
                rows[0].estimated,
                rows[0].cost
            ),
            (2, 6, 4, 1, 7)
        );
        assert!(sink.collect().is_empty());
    }

    #[test]
    fn invented_model_names_are_cut_and_counted_together_beyond_a_bound() {
        let (sink, project, token) = (UsageSink::default(), ProjectId::new(), TokenId::new());
        for n in 0..1_000 {
            sink.add(DbTime(DAY_MS), project, token, &format!("m{n}"), "p", (Tokens::default(), 0));
        }
        let rows = sink.collect();
        assert!(rows.len() <= MAX_MODELS_PER_FLUSH + 1);
        assert_eq!(rows.iter().map(|r| r.requests).sum::<u64>(), 1_000);
        assert_eq!(bounded(&"ü".repeat(500)).len(), MAX_MODEL_NAME);
        assert_eq!(bounded("gpt-4o"), "gpt-4o");
    }
}

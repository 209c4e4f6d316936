//! The head of an answer: a provider's made fit for the client, Echo's, or our own refusal.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body::Body;
use llm::EchoAnswer;

use crate::cors;
use crate::data_thread::DataThread;
use crate::headers::{X_SHOULD_RETRY, to_client};
use crate::outcome::{End, Outcome};
use crate::refusal::{Refusal, Retry};
use crate::reply::ReplyBody;
use crate::upstream::Answered;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

/// What goes to the client, once the head of the answer is known.
pub(crate) enum Reply {
    Upstream(Answered),
    EchoWhole { status: StatusCode, body: Bytes },
    EchoStream { chunks: Vec<Bytes>, pause: Duration },
}

impl Reply {
    pub(crate) fn echo(answer: EchoAnswer) -> Result<Self, Refusal> {
        match answer {
            EchoAnswer::Whole { status, body } => Ok(Self::EchoWhole {
                status: StatusCode::from_u16(status).unwrap_or(StatusCode::OK),
                body,
            }),
            EchoAnswer::Stream { chunks, pause_ms } => Ok(Self::EchoStream {
                chunks,
                pause: Duration::from_millis(u64::from(pause_ms)),
            }),
            EchoAnswer::Error(error) => Err(Refusal::InvalidBody(error)),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Upstream(answered) => answered.response.status(),
            Self::EchoWhole { status, .. } => *status,
            Self::EchoStream { .. } => StatusCode::OK,
        }
    }

    pub(crate) fn into_response(self, thread: &Rc<DataThread>, mut outcome: Outcome) -> Response<ReplyBody> {
        outcome.head_is_ready();
        match self {
            Self::Upstream(Answered { response, link }) => {
                let (mut head, body) = response.into_parts();
                let events = takes_a_final_event(&head.headers, &body);
                to_client(&mut head.headers);
                head.version = Version::HTTP_11;
                head.extensions = Extensions::new();
                Response::from_parts(head, ReplyBody::upstream(thread, body, link, outcome, events))
            }
            Self::EchoWhole { status, body } => {
                outcome.observe(&body, true);
                let mut response = Response::new(ReplyBody::ours(body, Some(outcome)));
                *response.status_mut() = status;
                response.headers_mut().insert(CONTENT_TYPE, JSON);
                response
            }
            Self::EchoStream { chunks, pause } => {
                let mut response = Response::new(ReplyBody::echo(thread, chunks, pause, outcome));
                response.headers_mut().insert(CONTENT_TYPE, EVENT_STREAM);
                response.headers_mut().insert(CACHE_CONTROL, NO_CACHE);
                response
            }
        }
    }
}

pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let essence = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    })
}

/// Whether an error can be told as one more event: not within a promised length, nor within a compression.
fn takes_a_final_event(headers: &HeaderMap, body: &impl Body) -> bool {
    is_event_stream(headers) && body.size_hint().exact().is_none() && !headers.contains_key(CONTENT_ENCODING)
}

/// Our own answer instead of a provider's.
pub(crate) fn refuse(refusal: &Refusal, mut outcome: Outcome) -> Response<ReplyBody> {
    let answer = refusal.answer();
    outcome.status = answer.error.status;
    outcome.refusal = Some(answer.error.code);
    outcome.head_is_ready();
    outcome.end = if *refusal == Refusal::Draining { End::Drained } else { End::Complete };
    let body = answer.error.to_body();
    outcome.bytes_out = body.len() as u64;
    let mut response = Response::new(ReplyBody::ours(body, Some(outcome)));
    *response.status_mut() = answer.error.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    if let Refusal::MethodNotAllowed { allow } = refusal {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    match answer.retry {
        Retry::Unsaid => {}
        Retry::After(seconds) => drop(headers.insert(RETRY_AFTER, HeaderValue::from(seconds))),
        Retry::Later(seconds) => {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        Retry::Never => drop(headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"))),
    }
    response
}

/// The answer to a browser that asks before it asks.
pub(crate) fn preflight(request: &HeaderMap, origin: Option<&HeaderValue>) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::ours(Bytes::new(), None));
    *response.status_mut() = StatusCode::NO_CONTENT;
    cors::apply_preflight(response.headers_mut(), origin, request);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stream_is_known_by_its_type_alone() {
        let with = |value: &'static str| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
        assert!(is_event_stream(&with("text/event-stream")));
        assert!(is_event_stream(&with("Text/Event-Stream ; charset=utf-8")));
        assert!(!is_event_stream(&with("text/event-stream2")));
        assert!(!is_event_stream(&with("application/json")));
        assert!(!is_event_stream(&HeaderMap::new()));
    }
}

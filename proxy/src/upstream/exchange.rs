//! One request and the head of its answer over one connection. Whether a byte of the request may have left is told exactly; what that means for
//! limits and retries is not decided here.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use super::answer_body::AnswerBody;
use super::answer_head::{AnswerHead, BadHead, HeadEnd};
use super::body::{BodyLength, StreamedBodyError, UpstreamBody};
use super::connect::connect;
use super::sending::{SendFault, Sending};
use super::wire::Wire;
use super::{Egress, Origin, Pool};
use crate::clock;

/// Interim answers (1xx) before the final one; more are no conversation.
const MAX_INTERIM: usize = 16;

/// A connection that can take a request at once.
pub(crate) struct Link {
    wire: Box<Wire>,
    /// It has been idle, so the provider may have closed it without our knowing yet.
    pub(crate) pooled: bool,
}

/// A provider's answer.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    /// Fit for the client.
    pub(crate) headers: HeaderMap,
    pub(crate) body: AnswerBody,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The connection broke before it took anything: not a byte was written.
    Untouched(UpstreamBody, io::Error),
    /// The head did not come in time.
    TimedOut,
    /// The connection broke, or the answer is not HTTP.
    Broken(BrokenAnswer),
    /// The client's body broke off.
    Body(StreamedBodyError),
    /// The provider switched to another protocol, which nobody asked for.
    Switched,
    /// The drain ended while the head was awaited.
    Aborted,
}

/// Why the head of an answer did not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenAnswer {
    #[error("the connection broke: {0}")]
    Broke(io::Error),
    #[error("the connection closed without an answer")]
    Closed,
    #[error("{0}")]
    NoHead(BadHead),
    #[error("more than {MAX_INTERIM} interim answers came")]
    Interim,
}

impl Link {
    /// An idle connection; `None` if there is none.
    pub(crate) fn idle(pool: &Pool, origin: &Arc<Origin>) -> Option<Self> {
        pool.take(origin).map(|wire| Self { wire, pooled: true })
    }

    /// A new connection.
    ///
    /// # Errors
    /// Why there is none, for the log.
    pub(crate) async fn dial(origin: &Arc<Origin>, egress: &Egress, deadline: Duration) -> Result<Self, String> {
        match tokio::time::timeout(deadline, connect(origin, egress, deadline)).await {
            Ok(Ok(io)) => Ok(Self {
                wire: Box::new(Wire::new(Arc::clone(origin), io)),
                pooled: false,
            }),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err(format!("no connection within {} ms", deadline.as_millis())),
        }
    }

    /// Sends the request, whose head `write_head` writes, in the first poll; then waits for the head of the answer.
    pub(crate) async fn send(
        mut self,
        method: &Method,
        write_head: impl FnOnce(BodyLength, &mut Vec<u8>),
        body: UpstreamBody,
        deadline: Duration,
        aborted: impl Future<Output = ()>,
    ) -> Result<Answered, SendError> {
        let length = body.length(method);
        write_head(length, &mut self.wire.output);
        let mut sending = Sending::new(&mut self.wire, body, length);
        let due = Instant::from_std(clock::now()) + deadline;
        let (mut awaited, mut aborted) = (Awaited::default(), pin!(aborted));
        let answer = poll_fn(|cx| {
            match sending.poll(cx, &mut self.wire) {
                Poll::Ready(Err(SendFault::Untouched(error))) => return Poll::Ready(Err(Fault::Untouched(error))),
                Poll::Ready(Err(SendFault::Body(error))) => return Poll::Ready(Err(Fault::Sent(SendError::Body(error)))),
                // A provider that does not want the rest of the request may have said why.
                Poll::Ready(Ok(()) | Err(SendFault::Wire)) | Poll::Pending => {}
            }
            if let Poll::Ready(answer) = awaited.poll(cx, &mut self.wire, method) {
                return Poll::Ready(answer.map_err(Fault::Sent));
            }
            if self.wire.patience.poll(cx, due).is_ready() {
                return Poll::Ready(Err(Fault::Sent(SendError::TimedOut)));
            }
            aborted.as_mut().poll(cx).map(|()| Err(Fault::Sent(SendError::Aborted)))
        });
        match answer.await {
            Ok(head) => Ok(Answered {
                status: head.status,
                headers: head.headers,
                body: AnswerBody::new(self.wire, head.framing, head.persistent, sending),
            }),
            Err(Fault::Untouched(error)) => Err(SendError::Untouched(sending.into_body(), error)),
            Err(Fault::Sent(error)) => Err(error),
        }
    }

    /// Nothing was sent: the connection may be used by another request.
    pub(crate) fn release(self, pool: &Rc<Pool>) {
        pool.put(self.wire);
    }
}

enum Fault {
    Untouched(io::Error),
    Sent(SendError),
}

/// The head that is waited for.
#[derive(Default)]
struct Awaited {
    end: HeadEnd,
    interim: usize,
}

impl Awaited {
    /// The final answer's head; interim ones are passed over.
    fn poll(&mut self, cx: &mut Context<'_>, wire: &mut Wire, method: &Method) -> Poll<Result<AnswerHead, SendError>> {
        let broken = |why| Poll::Ready(Err(SendError::Broken(why)));
        loop {
            match self.end.find(&wire.input) {
                Ok(Some(length)) => {
                    self.end = HeadEnd::default();
                    match AnswerHead::take(&mut wire.input, length, method) {
                        Ok(head) if head.status == StatusCode::SWITCHING_PROTOCOLS => return Poll::Ready(Err(SendError::Switched)),
                        Ok(head) if !head.status.is_informational() => return Poll::Ready(Ok(head)),
                        Ok(_) if self.interim == MAX_INTERIM => return broken(BrokenAnswer::Interim),
                        Ok(_) => self.interim += 1,
                        Err(bad) => return broken(BrokenAnswer::NoHead(bad)),
                    }
                    continue;
                }
                Ok(None) => {}
                Err(bad) => return broken(BrokenAnswer::NoHead(bad)),
            }
            match ready!(wire.poll_fill(cx)) {
                Ok(0) => return broken(BrokenAnswer::Closed),
                Ok(_) => {}
                Err(error) => return broken(BrokenAnswer::Broke(error)),
            }
        }
    }
}

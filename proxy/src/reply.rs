//! The body of an answer: ours, a provider's as it streams through, or Echo's. It never buffers; it watches, and tells the outcome at the end.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::data_thread::DataThread;
use crate::idle::IdleTimer;
use crate::outcome::{End, Outcome};
use crate::refusal::Refusal;
use crate::upstream::AnswerBody;

/// An answer's body.
pub(crate) enum ReplyBody {
    /// Our own answer; the outcome is recorded when it is dropped.
    Ours {
        bytes: Option<Bytes>,
        outcome: Option<Box<Outcome>>,
    },
    Upstream(Box<UpstreamReply>),
    Echo(Box<EchoReply>),
}

/// A reply that breaks off: the connection must not look as if it had ended well.
#[derive(Debug, thiserror::Error)]
#[error("the reply broke off")]
pub(crate) struct BrokenOff;

impl From<Infallible> for BrokenOff {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// A provider's answer on its way to the client.
pub(crate) struct UpstreamReply {
    body: AnswerBody,
    thread: Rc<DataThread>,
    outcome: Outcome,
    /// A stream of events ends with an error event; anything else breaks off.
    events: bool,
    idle: IdleTimer,
    ended: bool,
}

/// Echo's stream of chunks.
pub(crate) struct EchoReply {
    chunks: VecDeque<Bytes>,
    /// The pause before a chunk; none if the chunks may go at once.
    pause: Option<IdleTimer>,
    thread: Rc<DataThread>,
    outcome: Outcome,
}

impl ReplyBody {
    /// An answer of our own.
    pub(crate) fn ours(bytes: Bytes, outcome: Option<Outcome>) -> Self {
        Self::Ours {
            bytes: (!bytes.is_empty()).then_some(bytes),
            outcome: outcome.map(Box::new),
        }
    }

    /// A provider's answer; its connection goes back to the pool when it has been read to the end.
    pub(crate) fn upstream(thread: &Rc<DataThread>, body: AnswerBody, outcome: Outcome, events: bool) -> Self {
        Self::Upstream(Box::new(UpstreamReply {
            body,
            thread: Rc::clone(thread),
            outcome,
            events,
            idle: IdleTimer::new(thread.shared.settings.limits.reply_idle),
            ended: false,
        }))
    }

    /// Echo's chunks, `pause` before each.
    pub(crate) fn echo(thread: &Rc<DataThread>, chunks: Vec<Bytes>, pause: Duration, outcome: Outcome) -> Self {
        Self::Echo(Box::new(EchoReply {
            chunks: chunks.into(),
            pause: (!pause.is_zero()).then(|| IdleTimer::new(pause)),
            thread: Rc::clone(thread),
            outcome,
        }))
    }
}

impl UpstreamReply {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.body.poll_piece(cx) {
            Poll::Ready(Some(Ok(piece))) => {
                self.idle.touch();
                let last = self.body.is_end_stream();
                self.outcome.observe(&piece, last);
                if last {
                    self.complete();
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "a provider broke off in its answer");
                self.fail(End::UpstreamBroke)
            }
            Poll::Ready(None) => {
                self.complete();
                Poll::Ready(None)
            }
            Poll::Pending if self.thread.is_aborting() => self.fail(End::Drained),
            Poll::Pending => {
                ready!(self.idle.poll(cx));
                self.fail(End::UpstreamBroke)
            }
        }
    }

    fn complete(&mut self) {
        self.ended = true;
        self.outcome.end = End::Complete;
        self.body.release(&self.thread.pool);
    }

    fn fail(&mut self, end: End) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.ended = true;
        self.outcome.end = end;
        // Without its end the answer's connection is of no more use.
        self.body.give_up();
        if self.events {
            Poll::Ready(Some(Ok(Frame::data(final_event(&self.outcome, end)))))
        } else {
            Poll::Ready(Some(Err(BrokenOff)))
        }
    }
}

impl Drop for UpstreamReply {
    fn drop(&mut self) {
        // An answer without a body is not asked for any.
        if !self.ended && self.body.is_end_stream() {
            self.complete();
        }
    }
}

impl EchoReply {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if self.chunks.is_empty() {
            return Poll::Ready(None);
        }
        if self.thread.is_aborting() {
            self.chunks.clear();
            self.outcome.end = End::Drained;
            return Poll::Ready(Some(Frame::data(final_event(&self.outcome, End::Drained))));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.poll(cx));
        }
        let piece = self.chunks.pop_front();
        if let Some(piece) = &piece {
            self.outcome.observe(piece, false);
        }
        if self.chunks.is_empty() {
            self.outcome.end = End::Complete;
        }
        Poll::Ready(piece.map(Frame::data))
    }
}

/// After the first byte an error is the stream's final event.
fn final_event(outcome: &Outcome, end: End) -> Bytes {
    let refusal = match end {
        End::Drained => Refusal::Draining,
        End::Complete | End::ClientGone | End::UpstreamBroke => {
            let provider = outcome
                .grant
                .as_ref()
                .and_then(|g| g.upstream.as_ref())
                .map_or_else(|| "".into(), |u| u.provider.clone());
            Refusal::UpstreamBroken { provider }
        }
    };
    let kind = outcome.endpoint.map_or(llm::EndpointKind::ChatCompletions, |e| e.kind);
    refusal.answer().error.to_event(kind, outcome.events_seen())
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            Self::Ours { bytes, outcome } => {
                if let Some(outcome) = outcome
                    && outcome.end == End::ClientGone
                {
                    outcome.end = End::Complete;
                }
                Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b))))
            }
            Self::Upstream(reply) => reply.poll_frame(cx),
            Self::Echo(reply) => reply.poll_frame(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Ours { bytes, .. } => bytes.is_none(),
            Self::Upstream(reply) => reply.ended || reply.body.is_end_stream(),
            Self::Echo(reply) => reply.chunks.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ours { bytes, .. } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            // A stream's final error event would not fit into a promised length; providers do not promise one for streams.
            Self::Upstream(reply) => reply.body.size_hint(),
            Self::Echo(_) => SizeHint::default(),
        }
    }
}

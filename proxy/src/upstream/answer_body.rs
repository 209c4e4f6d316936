//! The body of a provider's answer, passed on as it is read, with the connection that it comes over. A connection is used again only if it is
//! clean: everything read, everything sent, nothing behind it.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::SizeHint;

use super::Pool;
use super::chunked::{BadChunk, Chunked, Next};
use super::sending::{SendFault, Sending};
use super::wire::Wire;

/// A connection whose answer has been read may still be sending its request, if the provider answered before it had read all of it.
/// It is of use again once it has sent it, which is waited for this long.
const SETTLING: Duration = Duration::from_secs(5);

/// Where a body ends.
#[derive(Debug)]
pub(super) enum Framing {
    /// After so many further bytes.
    Length(u64),
    Chunked(Chunked),
    /// With the connection.
    UntilClose,
}

/// A body that is being read.
pub(crate) struct AnswerBody {
    /// Nothing once it has been given back or given up.
    wire: Option<Box<Wire>>,
    framing: Framing,
    persistent: bool,
    /// The rest of the request, if the answer came before all of it was sent.
    sending: Option<Box<Sending>>,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerCut {
    #[error("the connection broke: {0}")]
    Broke(io::Error),
    #[error("the connection closed before the end of the answer")]
    Closed,
    #[error("{0}")]
    Garbled(BadChunk),
    #[error("the client's body broke off under the answer")]
    Request,
}

impl Framing {
    /// The next piece in `input`.
    fn next(&mut self, input: &mut BytesMut) -> Result<Next, BadChunk> {
        match self {
            Self::Length(0) => Ok(Next::End),
            Self::Chunked(chunked) => chunked.next(input),
            _ if input.is_empty() => Ok(Next::More),
            Self::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= here as u64;
                Ok(Next::Piece(input.split_to(here).freeze()))
            }
            Self::UntilClose => Ok(Next::Piece(input.split().freeze())),
        }
    }

    fn is_at_end(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_at_end(),
            Self::UntilClose => false,
        }
    }
}

impl AnswerBody {
    pub(super) fn new(wire: Box<Wire>, framing: Framing, persistent: bool, sending: Sending) -> Self {
        Self {
            wire: Some(wire),
            framing,
            persistent,
            sending: (!sending.is_sent()).then(|| Box::new(sending)),
        }
    }

    /// The next piece, as soon as there is one. Nothing: it has ended as its framing announced.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, AnswerCut>>> {
        let Some(wire) = &mut self.wire else { return Poll::Ready(None) };
        loop {
            match self.framing.next(&mut wire.input) {
                Ok(Next::Piece(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(Next::End) => return Poll::Ready(None),
                Ok(Next::More) => {}
                Err(garbled) => return Poll::Ready(Some(Err(AnswerCut::Garbled(garbled)))),
            }
            if let Some(sending) = &mut self.sending {
                match sending.poll(cx, wire) {
                    // The provider may have said all that it wants to say before it stopped reading.
                    Poll::Ready(Ok(()) | Err(SendFault::Wire | SendFault::Untouched(_))) | Poll::Pending => {}
                    Poll::Ready(Err(SendFault::Body(_))) => return Poll::Ready(Some(Err(AnswerCut::Request))),
                }
            }
            match ready!(wire.poll_fill(cx)) {
                Ok(0) if matches!(self.framing, Framing::UntilClose) => return Poll::Ready(None),
                Ok(0) => return Poll::Ready(Some(Err(AnswerCut::Closed))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(AnswerCut::Broke(error)))),
            }
        }
    }

    /// Whether nothing more will come.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.framing.is_at_end()
    }

    /// What is still to come, exactly if it was announced.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Length(left) => SizeHint::with_exact(left),
            Framing::Chunked(_) | Framing::UntilClose => SizeHint::default(),
        }
    }

    /// It has been read to its end: a connection that is clean may be used again.
    pub(crate) fn release(&mut self, pool: &Rc<Pool>) {
        let Some(mut wire) = self.wire.take() else { return };
        if !self.persistent || !wire.input.is_empty() {
            return;
        }
        match self.sending.take() {
            None => pool.put(wire),
            Some(sending) if sending.is_sent() => pool.put(wire),
            Some(sending) if sending.is_over() => {}
            Some(mut sending) => {
                let pool = Rc::clone(pool);
                tokio::task::spawn_local(async move {
                    let sent = poll_fn(|cx| sending.poll(cx, &mut wire));
                    // If nobody reads the rest of that request, the connection is closed.
                    if let Ok(Ok(())) = tokio::time::timeout(SETTLING, sent).await
                        && sending.is_sent()
                    {
                        pool.put(wire);
                    }
                });
            }
        }
    }

    /// It is not read to its end: its connection is of no more use.
    pub(crate) fn give_up(&mut self) {
        self.wire = None;
    }
}

//! A request on its way out: its head and a small body in one write, a large one behind it, a streamed one as it comes.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::body::{BodyLength, StreamedBodyError, UpstreamBody};
use super::wire::Wire;

/// A body up to this size is copied behind its head, which costs less than a write of two pieces.
const SMALL: usize = 4 << 10;

/// What is still to be sent.
pub(super) struct Sending {
    /// Kept until the first byte has left, so that it can be given back.
    body: UpstreamBody,
    /// Being written: what is left of a whole body, or a piece of a streamed one.
    piece: Bytes,
    chunked: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The head, which is in the output, and a whole body.
    Head,
    /// Pieces of a streamed body.
    Pieces,
    /// All pieces have been fetched.
    Last,
    Flush,
    Sent,
    /// The provider does not take it. It may have answered all the same.
    Failed,
}

/// Why it cannot be sent.
#[derive(Debug)]
pub(super) enum SendFault {
    /// Not a byte was written.
    Untouched(io::Error),
    /// The provider does not take the rest.
    Wire,
    /// The client's body broke off.
    Body(StreamedBodyError),
}

impl Sending {
    /// Of a request whose head is in the output of `wire`.
    pub(super) fn new(wire: &mut Wire, body: UpstreamBody, length: BodyLength) -> Self {
        let mut piece = Bytes::new();
        if let UpstreamBody::Whole(bytes) = &body {
            if bytes.len() <= SMALL {
                wire.output.extend_from_slice(bytes);
            } else {
                piece = bytes.clone();
            }
        }
        Self {
            body,
            piece,
            chunked: length == BodyLength::Chunked,
            state: State::Head,
        }
    }

    /// Goes on as far as the provider takes it and the client has sent it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<Result<(), SendFault>> {
        loop {
            match self.state {
                State::Sent | State::Failed => return Poll::Ready(Ok(())),
                State::Flush => {
                    ready!(wire.poll_flush(cx)).map_err(|error| self.failed(&error))?;
                    self.state = State::Sent;
                }
                State::Head | State::Pieces | State::Last => {
                    if let Err(error) = ready!(wire.poll_write(cx, &mut self.piece)) {
                        let untouched = self.state == State::Head && wire.is_untouched();
                        return Poll::Ready(Err(if untouched { SendFault::Untouched(error) } else { self.failed(&error) }));
                    }
                    self.state = match (self.state, &self.body) {
                        (State::Head, UpstreamBody::Stream(_)) | (State::Pieces, _) => {
                            let next = ready!(self.poll_next(cx, wire));
                            next.map_err(SendFault::Body)?
                        }
                        _ => {
                            // It may be large, and is needed no more.
                            self.body = UpstreamBody::Empty;
                            State::Flush
                        }
                    };
                }
            }
        }
    }

    /// Fetches the next piece of a streamed body.
    fn poll_next(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<Result<State, StreamedBodyError>> {
        // Asked again after a wait, the head is not there any more.
        self.state = State::Pieces;
        let state = match ready!(self.body.poll_piece(cx)).transpose()? {
            Some(piece) => {
                if self.chunked && !piece.is_empty() {
                    wire.output.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    // The line end behind a chunk leaves with it.
                    self.piece = [&piece[..], b"\r\n"].concat().into();
                } else {
                    self.piece = piece;
                }
                State::Pieces
            }
            None => {
                if self.chunked {
                    wire.output.extend_from_slice(b"0\r\n\r\n");
                }
                State::Last
            }
        };
        Poll::Ready(Ok(state))
    }

    fn failed(&mut self, error: &io::Error) -> SendFault {
        tracing::debug!(%error, "a provider does not take the rest of a request");
        self.state = State::Failed;
        self.body = UpstreamBody::Empty;
        self.piece = Bytes::new();
        SendFault::Wire
    }

    /// Whether the provider has been sent all of it.
    pub(super) fn is_sent(&self) -> bool {
        self.state == State::Sent
    }

    /// Whether nothing more will be sent.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Sent | State::Failed)
    }

    /// The body of a request that was not touched.
    pub(super) fn into_body(self) -> UpstreamBody {
        self.body
    }
}

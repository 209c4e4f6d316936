//! A request's body on its way upstream: held whole, or streamed through as it arrives.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Method;
use http_body::Body;
use hyper::body::Incoming;

use crate::body::discard;
use crate::idle::IdleTimer;

/// The body of an upstream request.
pub(crate) enum UpstreamBody {
    Empty,
    Whole(Bytes),
    Stream(Box<Streamed>),
}

/// Passed through frame by frame; `left` bytes may still come.
pub(crate) struct Streamed {
    pub(crate) body: Incoming,
    pub(crate) left: usize,
    /// For a client that stops sending.
    pub(crate) idle: IdleTimer,
}

/// How a request says where its body ends (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// No body, and nothing said about it.
    None,
    Known(u64),
    Chunked,
}

/// Why a streamed body ended early. The client is to blame, not the provider.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamedBodyError {
    #[error("the request body is larger than allowed")]
    TooLarge,
    #[error("the client stopped sending")]
    Stalled,
    #[error("the client's body broke off: {0}")]
    Client(hyper::Error),
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamBody(…)")
    }
}

impl UpstreamBody {
    /// Its length as the head announces it.
    pub(super) fn length(&self, method: &Method) -> BodyLength {
        match self {
            Self::Whole(bytes) if !bytes.is_empty() => BodyLength::Known(bytes.len() as u64),
            // Methods whose meaning is a body say that there is none (RFC 9110 §8.6).
            Self::Empty | Self::Whole(_) if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => BodyLength::Known(0),
            Self::Empty | Self::Whole(_) => BodyLength::None,
            Self::Stream(streamed) => streamed.body.size_hint().exact().map_or(BodyLength::Chunked, BodyLength::Known),
        }
    }

    /// The next piece of a streamed body; nothing of the other ones. A body that is too large is read on aside, since the client is still sending
    /// and must be able to read why it should stop.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamedBodyError>>> {
        let Self::Stream(streamed) = self else { return Poll::Ready(None) };
        let piece = ready!(streamed.poll_piece(cx));
        if let Some(Err(StreamedBodyError::TooLarge)) = &piece
            && let Self::Stream(streamed) = std::mem::replace(self, Self::Empty)
        {
            discard(streamed.body);
        }
        Poll::Ready(piece)
    }
}

impl Streamed {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamedBodyError>>> {
        loop {
            return match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.idle.touch();
                    // Trailers belong to the client's hop.
                    let Ok(piece) = frame.into_data() else { continue };
                    match self.left.checked_sub(piece.len()) {
                        Some(left) => self.left = left,
                        None => return Poll::Ready(Some(Err(StreamedBodyError::TooLarge))),
                    }
                    Poll::Ready(Some(Ok(piece)))
                }
                Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(StreamedBodyError::Client(error)))),
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => {
                    ready!(self.idle.poll(cx));
                    Poll::Ready(Some(Err(StreamedBodyError::Stalled)))
                }
            };
        }
    }
}

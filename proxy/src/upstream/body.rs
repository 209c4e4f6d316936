//! A request's body on its way upstream: held whole, or streamed through as it arrives.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::body::discard;
use crate::idle::IdleTimer;

/// A held body is handed on in pieces of this many bytes: the connection copies each behind what it has not written yet, and keeps that buffer.
const SLICE: usize = 64 << 10;

/// The body of an upstream request.
pub(crate) enum UpstreamBody {
    Empty,
    Whole(Option<Bytes>),
    Stream(Box<Streamed>),
}

/// Passed through frame by frame; `left` bytes may still come.
pub(crate) struct Streamed {
    pub(crate) body: Incoming,
    pub(crate) left: usize,
    /// For a client that stops sending.
    pub(crate) idle: IdleTimer,
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

impl StreamedBodyError {
    /// The reason behind an error of the connection that the body was sent over, if it was one of ours.
    pub(crate) fn behind(error: &hyper::Error) -> Option<&Self> {
        std::error::Error::source(error).and_then(|source| source.downcast_ref())
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamBody(…)")
    }
}

impl Streamed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamedBodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.idle.touch();
                let size = frame.data_ref().map_or(0, Bytes::len);
                match self.left.checked_sub(size) {
                    Some(left) => self.left = left,
                    None => return Poll::Ready(Some(Err(StreamedBodyError::TooLarge))),
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(StreamedBodyError::Client(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                std::task::ready!(self.idle.poll(cx));
                Poll::Ready(Some(Err(StreamedBodyError::Stalled)))
            }
        }
    }
}

/// The next piece of a held body, without a copy.
fn next_slice(rest: &mut Option<Bytes>) -> Option<Bytes> {
    let mut whole = rest.take()?;
    if whole.len() <= SLICE {
        return Some(whole);
    }
    let slice = whole.split_to(SLICE);
    *rest = Some(whole);
    Some(slice)
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = StreamedBodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamedBodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(rest) => Poll::Ready(next_slice(rest).map(|slice| Ok(Frame::data(slice)))),
            Self::Stream(streamed) => {
                let frame = std::task::ready!(streamed.poll_frame(cx));
                if let Some(Err(StreamedBodyError::TooLarge)) = &frame
                    && let Self::Stream(streamed) = std::mem::replace(&mut *self, Self::Empty)
                {
                    // The client is still sending: it must be able to read why it should stop.
                    discard(streamed.body);
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(None) => true,
            Self::Whole(Some(bytes)) => bytes.is_empty(),
            Self::Stream(streamed) => streamed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Whole(None) => SizeHint::with_exact(0),
            Self::Whole(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(streamed) => streamed.body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_leaves_in_slices_and_whole() {
        let whole = Bytes::from((0..SLICE * 2 + 7).map(|n| (n % 251) as u8).collect::<Vec<_>>());
        let mut rest = Some(whole.clone());
        let slices: Vec<Bytes> = std::iter::from_fn(|| next_slice(&mut rest)).collect();
        assert_eq!(slices.iter().map(Bytes::len).collect::<Vec<_>>(), [SLICE, SLICE, 7]);
        assert_eq!(slices.concat(), whole);
    }
}

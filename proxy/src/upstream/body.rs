//! A request's body on its way upstream: held whole, or streamed through as it arrives.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// The body of an upstream request.
pub(crate) enum UpstreamBody {
    Empty,
    Whole(Option<Bytes>),
    /// Passed through frame by frame; `left` bytes may still come.
    Stream {
        body: Incoming,
        left: usize,
    },
}

/// Why a streamed body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamedBodyError {
    #[error("the request body is larger than allowed")]
    TooLarge,
    #[error("the client's body broke off: {0}")]
    Client(hyper::Error),
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamBody(…)")
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = StreamedBodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamedBodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Stream { body, left } => {
                let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| {
                    let frame = frame.map_err(StreamedBodyError::Client)?;
                    let size = frame.data_ref().map_or(0, Bytes::len);
                    *left = left.checked_sub(size).ok_or(StreamedBodyError::TooLarge)?;
                    Ok(frame)
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(None) => true,
            Self::Whole(Some(bytes)) => bytes.is_empty(),
            Self::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Whole(None) => SizeHint::with_exact(0),
            Self::Whole(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream { body, .. } => body.size_hint(),
        }
    }
}

//! The byte stream to a provider, plain or TLS. It refuses to know HTTP.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// An open stream.
pub(super) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    /// Reads what is there into the spare capacity of `into`; 0 is the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        // The future holds nothing from one poll to the next.
        match self {
            Self::Plain(stream) => pin!(stream.read_buf(into)).poll(cx),
            Self::Tls(stream) => pin!(stream.read_buf(into)).poll(cx),
        }
    }

    /// Writes what fits of two pieces that follow each other.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => write_both(Pin::new(stream), cx, first, second),
            Self::Tls(stream) => write_both(Pin::new(&mut **stream), cx, first, second),
        }
    }

    /// What TLS has taken and not written yet is written.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    /// Whether a write that fails has certainly sent nothing.
    pub(super) fn fails_untouched(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Whether nothing has come, as far as the runtime has noticed. It makes no system call unless something has.
    pub(super) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        let stream = match self {
            Self::Plain(stream) => &*stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // Readiness alone decides nothing: TLS sends tickets after its handshake.
        stream.try_io(Interest::READABLE, || Ok(())).is_err() || self.poll_silence(cx)
    }

    /// The same, found out by a read; while it is quiet, the task of `cx` is woken by whatever comes.
    pub(super) fn poll_silence(&mut self, cx: &mut Context<'_>) -> bool {
        // Data and the end are the same here: neither is expected.
        let mut unexpected = [0];
        let mut unexpected = ReadBuf::new(&mut unexpected);
        let read = match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, &mut unexpected),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, &mut unexpected),
        };
        read.is_pending()
    }
}

fn write_both(stream: Pin<&mut impl AsyncWrite>, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
    match (first, second) {
        // One piece costs less to write than a list of one.
        (only, []) | ([], only) => stream.poll_write(cx, only),
        _ => stream.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)]),
    }
}

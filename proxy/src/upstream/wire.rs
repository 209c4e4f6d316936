//! One connection to a provider with its two buffers, which stay from request to request. It refuses to know what the bytes mean.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};

use super::Origin;
use super::io::Io;
use super::patience::Patience;

/// How much is read at once to begin with: most answers come whole.
const READ: usize = 8 << 10;
/// How much is read at once of an answer that fills what was read before.
const READ_MUCH: usize = 128 << 10;
/// Less room than this is not worth a read.
const ROOM: usize = 1 << 10;
/// Buffers larger than this do not stay with an idle connection.
const KEPT: usize = 16 << 10;

/// An open connection.
pub(crate) struct Wire {
    pub(super) origin: Arc<Origin>,
    io: Io,
    /// Read and not yet taken.
    pub(super) input: BytesMut,
    read_size: usize,
    /// To be written: a head, the size of a chunk.
    pub(super) output: Vec<u8>,
    written: usize,
    /// For the head of an answer.
    pub(super) patience: Patience,
}

impl Wire {
    pub(super) fn new(origin: Arc<Origin>, io: Io) -> Self {
        Self {
            origin,
            io,
            input: BytesMut::new(),
            read_size: READ,
            output: Vec::new(),
            written: 0,
            patience: Patience::default(),
        }
    }

    /// Reads more input; 0 bytes are the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = self.input.capacity() - self.input.len();
        if room < ROOM || self.input.is_empty() {
            self.input.reserve(self.read_size);
        }
        let read = ready!(self.io.poll_read(cx, &mut self.input))?;
        if read >= self.read_size {
            self.read_size = (self.read_size * 4).min(READ_MUCH);
        }
        Poll::Ready(Ok(read))
    }

    /// Writes all output and `body` behind it; what has been written is taken off both.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, body: &mut Bytes) -> Poll<io::Result<()>> {
        loop {
            let rest = &self.output[self.written..];
            if rest.is_empty() && body.is_empty() {
                self.output.clear();
                self.written = 0;
                return Poll::Ready(Ok(()));
            }
            let ahead = rest.len();
            match ready!(self.io.poll_write(cx, rest, body))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                wrote if wrote <= ahead => self.written += wrote,
                wrote => {
                    self.written += ahead;
                    body.advance(wrote - ahead);
                }
            }
        }
    }

    /// Whether not a byte of the output has been written, however it failed.
    pub(super) fn is_untouched(&self) -> bool {
        self.written == 0 && !self.output.is_empty() && self.io.fails_untouched()
    }

    /// Nothing is left in the way of what was written.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_flush(cx)
    }

    /// Whether it is still open and clean, as far as is known without asking the system.
    pub(super) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        self.io.is_quiet(cx)
    }

    /// Makes it ready for the next request, as far as it can be: false if something lies unread, or comes, or the connection has ended. Otherwise
    /// the task of `cx` is woken as soon as something of the kind happens.
    pub(super) fn rest(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.input.is_empty() || !self.output.is_empty() {
            return false;
        }
        if self.input.capacity() > KEPT {
            self.input = BytesMut::new();
        }
        if self.output.capacity() > KEPT {
            self.output = Vec::new();
        }
        self.read_size = READ;
        self.io.poll_silence(cx)
    }
}

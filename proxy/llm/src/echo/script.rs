//! The chunks of a stream, in one allocation.

use bytes::Bytes;
use serde::Serialize;

use super::{Call, EchoAnswer};
use crate::json::json;
use crate::sse::write_event;

/// Events in the making.
#[derive(Default)]
pub(super) struct Script {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Script {
    /// Adds an event without a name, as a chunk of its own.
    pub(super) fn data(&mut self, data: &impl Serialize) {
        write_event(&mut self.bytes, None, &json(data));
        self.ends.push(self.bytes.len());
    }

    /// Adds a named event, as a chunk of its own.
    pub(super) fn event(&mut self, name: &str, data: &impl Serialize) {
        write_event(&mut self.bytes, Some(name), &json(data));
        self.ends.push(self.bytes.len());
    }

    /// Adds `[DONE]` to the last chunk.
    pub(super) fn done(&mut self) {
        write_event(&mut self.bytes, None, b"[DONE]");
        if let Some(end) = self.ends.last_mut() {
            *end = self.bytes.len();
        }
    }

    pub(super) fn play(self, call: &Call<'_>) -> EchoAnswer {
        let bytes = Bytes::from(self.bytes);
        let mut start = 0;
        let chunks = self
            .ends
            .into_iter()
            .map(|end| bytes.slice(std::mem::replace(&mut start, end)..end))
            .collect();
        EchoAnswer::Stream {
            chunks,
            pause_ms: call.pause_ms,
        }
    }
}

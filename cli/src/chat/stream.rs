//! The deltas of a streamed chat completion.

use std::collections::VecDeque;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use llm::sse::{Piece, Scanner};
use serde_json::Value;

use crate::client::{message_of, printable};
use crate::exit::{Failure, Kind};

/// The longest event that is read.
const MAX_EVENT: usize = 1 << 20;

/// What a stream brings next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delta {
    /// A piece of the answer.
    Text(String),
    /// The answer is whole.
    End,
    /// The provider or the proxy gave up.
    Error {
        /// Why.
        message: String,
        /// The code of it.
        code: Option<String>,
    },
    /// The stream ended and the answer did not.
    Cut,
}

/// A stream of events, read piece by piece.
pub(super) struct Deltas {
    body: Incoming,
    events: Events,
}

impl Deltas {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, events: Events::new() }
    }

    /// Waits for the next one. After anything but a text there is none.
    pub(super) async fn next(&mut self) -> Delta {
        loop {
            if let Some(delta) = self.events.ready.pop_front() {
                return delta;
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.events.read(data);
                    }
                }
                Some(Err(_)) => return Delta::Cut,
                None => return self.events.end(),
            }
        }
    }
}

/// The events of the bytes so far.
struct Events {
    scanner: Scanner,
    ready: VecDeque<Delta>,
    /// Whether a chunk said that the answer is whole: some servers leave out the last event.
    finished: bool,
}

impl Events {
    fn new() -> Self {
        Self {
            scanner: Scanner::new(MAX_EVENT),
            ready: VecDeque::new(),
            finished: false,
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        let Self { scanner, ready, finished } = self;
        scanner.scan(bytes, |piece| {
            if let Piece::Event { data, .. } = piece {
                ready.extend(delta(data, finished));
            }
        });
    }

    fn end(&self) -> Delta {
        if self.finished { Delta::End } else { Delta::Cut }
    }
}

/// What one event says; what is not understood says nothing.
fn delta(data: &[u8], finished: &mut bool) -> Option<Delta> {
    if data == b"[DONE]" {
        return Some(Delta::End);
    }
    let event: Value = serde_json::from_slice(data).ok()?;
    if let Some((message, code)) = message_of(&event) {
        return Some(Delta::Error { message, code });
    }
    let choice = &event["choices"][0];
    *finished |= choice["finish_reason"].is_string();
    text_of(&choice["delta"]).map(|text| Delta::Text(text.to_owned()))
}

/// What a message or a part of one says, be it that the model refuses.
pub(super) fn text_of(message: &Value) -> Option<&str> {
    message["content"].as_str().or_else(|| message["refusal"].as_str())
}

/// The line for an error within a stream.
pub(super) fn failure(message: &str, code: Option<&str>) -> Failure {
    let kind = if code == Some("timeout") { Kind::Timeout } else { Kind::Other };
    let code = code.map(|code| format!(" ({})", printable(code))).unwrap_or_default();
    Failure::of(kind, format_args!("the answer broke off: {message}{code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&str]) -> (Vec<Delta>, Delta) {
        let mut events = Events::new();
        chunks.iter().for_each(|chunk| events.read(chunk.as_bytes()));
        let end = events.end();
        (events.ready.into(), end)
    }

    fn text(text: &str) -> Delta {
        Delta::Text(text.to_owned())
    }

    #[test]
    fn texts_come_as_they_are_however_the_bytes_are_cut() {
        let stream = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n\
                      data: {\"choices\":[{\"delta\":{\"content\":\"Hé\"}}]}\n\n: ping\n\n\
                      data: {\"choices\":[],\"usage\":{}}\n\ndata: [DONE]\n\n";
        let whole = vec![text("Hé"), Delta::End];
        assert_eq!(read(&[stream]).0, whole);
        for cut in (0..stream.len()).filter(|cut| stream.is_char_boundary(*cut)) {
            assert_eq!(read(&[&stream[..cut], &stream[cut..]]).0, whole, "{cut}");
        }
    }

    #[test]
    fn a_stream_without_its_last_event_is_whole_only_if_a_chunk_said_so() {
        let content = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
        assert_eq!(read(&[content]), (vec![text("a")], Delta::Cut));
        let last = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
        assert_eq!(read(&[content, last]), (vec![text("a")], Delta::End));
    }

    #[test]
    fn an_error_event_ends_the_answer_with_its_message() {
        let event = "event: error\ndata: {\"error\":{\"message\":\"too slow\",\"code\":\"timeout\"}}\n\n";
        let expected = Delta::Error {
            message: "too slow".to_owned(),
            code: Some("timeout".to_owned()),
        };
        assert_eq!(read(&[event]).0, [expected]);
        assert_eq!(failure("too slow", Some("timeout")).kind(), Kind::Timeout);
    }
}

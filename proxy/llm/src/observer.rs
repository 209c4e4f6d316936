//! Watches an answer on its way to the client: the usage it reports, and how much of it has passed if it reports none.
//! It holds a bounded few kilobytes, changes nothing, and never fails: what it cannot read is not there.

use std::sync::LazyLock;

use memchr::memmem;

use crate::finder::Finder;
use crate::scan::{Cursor, Fault};
use crate::sse::{Piece, Scanner};
use crate::{EndpointKind, Usage, whole};

/// The data of an event that is held if it arrives in pieces. Longer events are searched as they pass.
const EVENT_BYTES: usize = 16 * 1024;

static USAGE_NAME: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("\"usage\""));
static DELTA_NAME: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("\"delta\""));
static TEXT_NAME: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("\"text\""));
static TYPE_NAME: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("\"type\""));

/// What has been seen of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The provider's own count; of several the last.
    pub usage: Option<Usage>,
    /// Events of a stream that brought generated content: where `usage` is missing, each is taken for one output token.
    pub delta_chunks: u64,
    /// Events of a stream that have passed whole.
    pub events: u64,
    /// Whether the answer came to its proper end: `[DONE]` or a final event, or the end of the JSON object.
    pub done: bool,
}

/// Watches one answer, chunk by chunk.
#[derive(Debug)]
pub struct UsageObserver(Watch);

#[derive(Debug)]
enum Watch {
    Whole(Finder),
    /// The usage of an answer that came in one piece.
    Read(Usage),
    Stream(Box<Stream>),
}

#[derive(Debug)]
struct Stream {
    shape: Shape,
    scanner: Scanner,
    /// Searches the event that is passing in parts.
    parts: Option<Finder>,
    observed: Observed,
}

/// How the events of an endpoint look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `choices[].delta`; usage at the top of a chunk; `[DONE]`.
    Chat,
    /// `choices[].text`; the rest as chat.
    Text,
    /// Named events; usage within `response` of the final one.
    Responses,
    /// Named events of images and audio; usage at the top of the final one.
    Media,
}

/// What one event says.
#[derive(Clone, Copy, Default)]
struct Reading {
    usage: Option<Usage>,
    delta: bool,
    done: bool,
}

impl UsageObserver {
    /// For an answer that is one JSON object with `usage` at its top.
    #[must_use]
    pub fn whole() -> Self {
        Self(Watch::Whole(Finder::new(&["usage"])))
    }

    /// For an answer that is a stream of events.
    #[must_use]
    pub fn stream(kind: EndpointKind) -> Self {
        let shape = match kind {
            EndpointKind::ChatCompletions => Shape::Chat,
            EndpointKind::Completions => Shape::Text,
            EndpointKind::Responses | EndpointKind::ResponsesStored => Shape::Responses,
            _ => Shape::Media,
        };
        let scanner = Scanner::new(EVENT_BYTES);
        Self(Watch::Stream(Box::new(Stream {
            shape,
            scanner,
            parts: None,
            observed: Observed::default(),
        })))
    }

    /// Looks at the next bytes of the body.
    pub fn observe(&mut self, chunk: &[u8]) {
        match &mut self.0 {
            Watch::Whole(finder) => finder.feed(chunk),
            Watch::Read(_) => {}
            Watch::Stream(stream) => stream.observe(chunk),
        }
    }

    /// Looks at the last bytes of the body, known to be the last. It finds what [`Self::observe`] would, in less time if they are all of it.
    pub fn observe_last(&mut self, chunk: &[u8]) {
        if let Watch::Whole(finder) = &self.0
            && finder.is_untouched()
            && let Some(usage) = whole::usage(chunk)
        {
            self.0 = Watch::Read(usage);
        } else {
            self.observe(chunk);
        }
    }

    /// What has been seen so far: at the end of the body, or at any time before, when a side hangs up. The last event of a stream counts for
    /// usage and end even if the empty line behind it is missing.
    #[must_use]
    pub fn finish(&self) -> Observed {
        match &self.0 {
            Watch::Whole(finder) => Observed {
                usage: finder.usage(),
                done: finder.is_complete(),
                ..Observed::default()
            },
            Watch::Read(usage) => Observed {
                usage: Some(*usage),
                done: true,
                ..Observed::default()
            },
            Watch::Stream(stream) => {
                let mut observed = stream.observed;
                if let Some((name, data)) = stream.scanner.pending() {
                    let reading = stream.shape.read(name, data);
                    observed.usage = reading.usage.or(observed.usage);
                    observed.done |= reading.done;
                }
                observed
            }
        }
    }
}

impl Stream {
    fn observe(&mut self, chunk: &[u8]) {
        let Self {
            shape,
            scanner,
            parts,
            observed,
        } = self;
        scanner.scan(chunk, |piece| {
            let reading = match piece {
                Piece::Event { name, data } => shape.read(name, data),
                Piece::Part(part) => {
                    parts.get_or_insert_with(|| Finder::new(shape.path())).feed(part);
                    return;
                }
                Piece::End { name } => shape.read_long(name, parts.take()),
            };
            observed.events += 1;
            observed.usage = reading.usage.or(observed.usage);
            observed.delta_chunks += u64::from(reading.delta);
            observed.done |= reading.done;
        });
    }
}

impl Shape {
    fn path(self) -> &'static [&'static str] {
        match self {
            Self::Chat | Self::Text | Self::Media => &["usage"],
            Self::Responses => &["response", "usage"],
        }
    }

    /// Reads an event: searches for bytes, and parses only what is near a find.
    fn read(self, name: &[u8], data: &[u8]) -> Reading {
        if data.starts_with(b"[DONE]") {
            return Reading {
                done: true,
                ..Reading::default()
            };
        }
        let usage = if reports_usage(data) { Finder::find(self.path(), data) } else { None };
        let (delta, done) = match self {
            Self::Chat => (behind(&DELTA_NAME, data).is_some_and(brings_content), false),
            Self::Text => (
                behind(&TEXT_NAME, data).is_some_and(|text| text.starts_with(b"\"") && !text.starts_with(b"\"\"")),
                false,
            ),
            Self::Responses | Self::Media if !name.is_empty() => (name.ends_with(b".delta"), self.is_final(name)),
            Self::Responses | Self::Media => {
                let kind = behind(&TYPE_NAME, data).and_then(|text| text.strip_prefix(b"\"")).unwrap_or_default();
                let kind = &kind[..memchr::memchr(b'"', kind).unwrap_or(kind.len())];
                (kind.ends_with(b".delta"), self.is_final(kind))
            }
        };
        Reading { usage, delta, done }
    }

    /// Reads an event that has passed in parts. In a stream of choices it is taken for content: nothing else grows so long.
    fn read_long(self, name: &[u8], parts: Option<Finder>) -> Reading {
        let usage = parts.and_then(|finder| finder.usage());
        match self {
            Self::Chat | Self::Text => Reading {
                usage,
                delta: usage.is_none(),
                done: false,
            },
            // Only the final event of a Responses stream has usage, so that it is known even without a name.
            Self::Responses => Reading {
                usage,
                delta: name.ends_with(b".delta"),
                done: usage.is_some() || self.is_final(name),
            },
            Self::Media => Reading {
                usage,
                delta: name.ends_with(b".delta"),
                done: self.is_final(name),
            },
        }
    }

    fn is_final(self, name: &[u8]) -> bool {
        match self {
            Self::Chat | Self::Text => false,
            Self::Responses => matches!(name, b"response.completed" | b"response.incomplete" | b"response.failed"),
            Self::Media => name.ends_with(b".completed") || matches!(name, b"speech.audio.done" | b"transcript.text.done"),
        }
    }
}

/// Whether a member `usage` with an object for a value stands anywhere in the data. Most chunks of a stream have none, or `"usage":null`.
fn reports_usage(data: &[u8]) -> bool {
    let mut rest = data;
    while let Some(value) = behind(&USAGE_NAME, rest) {
        if value.first() == Some(&b'{') {
            return true;
        }
        rest = value;
    }
    false
}

/// The data from the value of the first member of this name on.
fn behind<'d>(name: &memmem::Finder<'_>, data: &'d [u8]) -> Option<&'d [u8]> {
    let mut rest = data;
    while let Some(found) = name.find(rest) {
        rest = &rest[found + name.needle().len()..];
        if let Some(value) = rest.trim_ascii_start().strip_prefix(b":") {
            return Some(value.trim_ascii_start());
        }
    }
    None
}

/// Whether a `delta` object, which the data begins with, has anything in it besides a role.
fn brings_content(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else { return false };
    let mut content = false;
    let walked: Result<(), Fault> = Cursor::new(text).object(|cursor, key| {
        let role = key.name()? == "role";
        let value = cursor.value(2)?;
        content |= !role && !matches!(cursor.slice(&value), "null" | "\"\"" | "[]" | "{}");
        Ok(())
    });
    walked.is_ok() && content
}

#[cfg(test)]
mod tests;

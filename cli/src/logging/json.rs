//! One event as one JSON object on one line: timestamp, level, the event's own fields, target. The general formatter writes through several layers
//! and costs a third of a proxied request; this one appends to a text. It refuses to know spans: nothing here opens any.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::{self, Debug, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How long most lines are.
const USUAL: usize = 512;
/// What libraries that log through the `log` crate say of themselves; only their target is kept.
const FOREIGN: &str = "log.";
const FOREIGN_TARGET: &str = "log.target";

/// The format of `--log-format json`.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::with_capacity(USUAL);
        line.push_str("{\"timestamp\":\"");
        push_now(&mut line)?;
        line.push_str("\",\"level\":\"");
        line.push_str(event.metadata().level().as_str());
        line.push('"');
        let mut members = Members { line, target: None };
        event.record(&mut members);
        let Members { mut line, target } = members;
        line.push_str(",\"target\":\"");
        push_escaped(&mut line, target.as_deref().unwrap_or_else(|| event.metadata().target()));
        line.push_str("\"}\n");
        writer.write_str(&line)
    }
}

/// The time in UTC with microseconds. Its first part is made once a second on each thread.
fn push_now(line: &mut String) -> fmt::Result {
    thread_local! {
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != now.as_secs() {
            let stamp = i64::try_from(now.as_secs())
                .ok()
                .and_then(|second| jiff::Timestamp::from_second(second).ok());
            *text = stamp.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S").to_string();
            *second = now.as_secs();
        }
        line.push_str(text);
    });
    write!(line, ".{:06}Z", now.subsec_micros())
}

/// The fields of an event, each appended as one more member.
struct Members {
    line: String,
    target: Option<String>,
}

impl Members {
    fn name(&mut self, field: &Field) {
        self.line.push_str(",\"");
        push_escaped(&mut self.line, field.name());
        self.line.push_str("\":");
    }

    /// Numbers, booleans and what else is JSON as it prints.
    fn plain(&mut self, field: &Field, value: impl Debug) {
        self.name(field);
        // A String takes everything.
        let _ = write!(self.line, "{value:?}");
    }
}

impl Visit for Members {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field, value);
        } else {
            self.name(field);
            self.line.push_str("null");
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name().starts_with(FOREIGN) {
            if field.name() == FOREIGN_TARGET {
                self.target = Some(value.to_owned());
            }
            return;
        }
        self.name(field);
        self.line.push('"');
        push_escaped(&mut self.line, value);
        self.line.push('"');
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name().starts_with(FOREIGN) {
            return;
        }
        self.name(field);
        self.line.push('"');
        let _ = write!(Escaping(&mut self.line), "{value:?}");
        self.line.push('"');
    }
}

/// Escapes what is written through it.
struct Escaping<'l>(&'l mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        push_escaped(self.0, text);
        Ok(())
    }
}

/// Appends the content of a JSON string (RFC 8259 §7).
fn push_escaped(line: &mut String, text: &str) {
    let strange = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    // Without an early exit this is done many bytes at once, and nearly every text is plain.
    if !text.bytes().fold(false, |found, byte| found | strange(byte)) {
        return line.push_str(text);
    }
    let mut rest = text;
    while let Some(at) = rest.bytes().position(strange) {
        line.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => line.push_str("\\\""),
            b'\\' => line.push_str("\\\\"),
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            control => {
                let _ = write!(line, "\\u{control:04x}");
            }
        }
        rest = &rest[at + 1..];
    }
    line.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_as_a_json_parser_reads_it() {
        for text in ["", "plain", "\"quoted\" \\ back", "line\nfeed\r\ttab", "\u{0}\u{1f}\u{7f}", "ünï 😀"] {
            let mut line = String::from("\"");
            push_escaped(&mut line, text);
            line.push('"');
            assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text, "{line}");
        }
    }

    #[test]
    fn the_time_is_now_in_utc() {
        let mut text = String::new();
        push_now(&mut text).unwrap();
        assert_eq!(text.len(), "2026-01-01T00:00:00.000000Z".len());
        let read: jiff::Timestamp = text.parse().unwrap();
        let passed = jiff::Timestamp::now().duration_since(read).as_secs();
        assert!((0..=60).contains(&passed), "{text}");
    }
}

//! Sets the process's log up: format, filter, destination. Lines go to standard error or a rotated file, never to standard
//! output. It refuses to know what is logged; secrets stay out by their types (`SecretString`, `TokenValue`), not by a search here.

mod json;
mod queue;
mod rotate;

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::args::{LogArgs, LogFormat};
use crate::exit::Failure;
use json::JsonLines;
use queue::{Queue, Sink};
use rotate::RotatedFile;

/// The log is written while this lives; dropping it writes what is still queued.
#[derive(Debug)]
pub(crate) struct LogGuard {
    _queue: queue::Flush,
}

/// Starts the log as the flags say. Once per process.
pub(crate) fn start(args: &LogArgs) -> Result<LogGuard, Failure> {
    let file = args.log_file.as_ref().and_then(|path| path.0.as_deref());
    let terminal = file.is_none() && io::stderr().is_terminal();
    let format = args.log_format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let sink: Box<dyn Sink> = match file {
        None => Box::new(io::stderr()),
        Some(path) => Box::new(
            RotatedFile::open(path, args.log_max_size_mb << 20, args.log_max_backups).map_err(|error| {
                Failure::new(format_args!(
                    "cannot open log file {}: {error}: give --log-file a path that this user can write",
                    path.display()
                ))
            })?,
        ),
    };
    let (queue, flush) = queue::start(sink).map_err(|error| Failure::new(format_args!("cannot start the log's thread: {error}")))?;
    tracing_subscriber::registry()
        .with(layer(format, terminal, args.log_level.filter(), queue))
        .try_init()
        .map_err(|error| Failure::new(format_args!("cannot start the log: {error}")))?;
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        let at = panic.location().map(ToString::to_string);
        tracing::error!(at, "panic, a fault of ours: {message}");
    }));
    Ok(LogGuard { _queue: flush })
}

/// The module of kube's client that writes a body which it cannot read into the log, a Secret's too. What it could not do comes back as an error.
const SPILLS_BODIES: &str = "kube_client::client";

fn layer(format: LogFormat, colours: bool, filter: EnvFilter, queue: Queue) -> Box<dyn Layer<Registry> + Send + Sync> {
    let quiet = filter_fn(|of| of.target() != SPILLS_BODIES).with_max_level_hint(LevelFilter::TRACE);
    let filter = filter.and(quiet);
    // A line that cannot be written must not bring a request down: the layer would print to standard error and panic if that is closed.
    let lines = fmt::layer().with_writer(queue).log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(colours).with_filter(filter).boxed(),
        LogFormat::Json => lines.event_format(JsonLines).with_filter(filter).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::SecretString;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Sink for Memory {}

    fn logged(format: LogFormat, act: impl FnOnce()) -> String {
        let memory = Memory::default();
        let (queue, flush) = queue::start(Box::new(memory.clone())).unwrap();
        let subscriber = tracing_subscriber::registry().with(layer(format, false, EnvFilter::new("info"), queue));
        tracing::subscriber::with_default(subscriber, act);
        drop(flush);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_has_its_fields_at_the_top() {
        let text = logged(LogFormat::Json, || tracing::info!(status = 200, "served"));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["status"]),
            (&"INFO".into(), &"served".into(), &200.into())
        );
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn every_kind_of_field_is_the_json_that_it_should_be() {
        let text = logged(LogFormat::Json, || {
            let (none, error) = (None::<&str>, io::Error::other("it \"broke\""));
            let fault: &dyn std::error::Error = &error;
            tracing::warn!(target: "place", yes = true, n = -3, m = u64::MAX, x = 1.5, whole = 2.0, nan = f64::NAN, none, %error, debug = ?"a\nb", fault, "said {}", 1);
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "timestamp": line["timestamp"], "level": "WARN", "target": "place", "message": "said 1", "yes": true, "n": -3, "m": u64::MAX, "x": 1.5,
            "whole": 2.0, "nan": null, "error": "it \"broke\"", "debug": "\"a\\nb\"", "fault": "it \"broke\"",
        });
        assert_eq!(line, expected);
        assert!(text.ends_with("}\n") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn secrets_redact_themselves_by_their_type() {
        for format in [LogFormat::Json, LogFormat::Text] {
            let token = store::TokenValue::mint();
            let key = SecretString::from("sk-canary");
            let text = logged(format, || tracing::info!(?token, ?key, "leak?"));
            assert!(
                text.contains("leak?") && !text.contains("sk-canary") && !text.contains(token.expose()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_body_that_kubes_client_cannot_read_is_not_written() {
        let text = logged(LogFormat::Text, || {
            tracing::warn!(target: "kube_client::client", "sk-canary, expected value");
            tracing::warn!(target: "kube_client::client::auth", "kept");
        });
        assert!(text.contains("kept") && !text.contains("sk-canary"), "{text}");
    }

    #[test]
    fn lines_below_the_filter_are_not_written() {
        assert_eq!(logged(LogFormat::Text, || tracing::debug!("quiet")), "");
    }
}

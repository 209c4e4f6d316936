//! The one place that writes to standard output and, outside the log, to standard error. A reader that has gone away
//! (`llm-proxy status | head -1`) is no error and never a panic.

use std::io::{self, Write};

use crate::exit::Failure;

/// Writes `text` as it is to standard output and flushes it.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(format_args!("cannot write to standard output: {error}"))),
        _ => Ok(()),
    }
}

/// Writes `text` as it is to standard error; there is nobody left to tell if that fails.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

//! The one place that writes to standard output and, outside the log, to standard error, and that reads a secret from standard input.
//! A reader that has gone away (`llm-proxy status | head -1`) is no error and never a panic.

use std::io::{self, IsTerminal, Read, Write};

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::exit::Failure;

/// The longest secret that is read.
const MAX_SECRET: u64 = 64 << 10;

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

/// Reads a secret from standard input: typed unseen on a terminal, else all of it without the white space around.
pub(crate) fn read_secret(what: &str) -> Result<SecretString, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::new(format_args!("cannot read {what} from standard input: {why}"));
    if io::stdin().is_terminal() {
        let typed = dialoguer::Password::new().with_prompt(what).allow_empty_password(true).interact();
        return typed
            .map(|typed| SecretString::from(Zeroizing::new(typed).trim()))
            .map_err(|error| failed(&error));
    }
    read_bounded(MAX_SECRET)
        .map(|text| SecretString::from(text.trim()))
        .map_err(|why| failed(&why))
}

/// Reads all of standard input, at most `max` bytes.
pub(crate) fn read_text(what: &str, max: u64) -> Result<String, Failure> {
    let text = read_bounded(max).map_err(|why| Failure::new(format_args!("cannot read {what} from standard input: {why}")))?;
    Ok(text.as_str().to_owned())
}

fn read_bounded(max: u64) -> Result<Zeroizing<String>, String> {
    let mut text = Zeroizing::new(String::new());
    match io::stdin().lock().take(max + 1).read_to_string(&mut text) {
        Err(error) => Err(error.to_string()),
        Ok(read) if read as u64 > max => Err(format!("it is longer than {} KiB", max >> 10)),
        Ok(_) => Ok(text),
    }
}

/// Asks a person; `None` if there is no terminal to ask at.
pub(crate) fn confirm(question: &str) -> Result<Option<bool>, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(None);
    }
    let answer = dialoguer::Confirm::new().with_prompt(question).default(false).interact();
    answer.map(Some).map_err(|error| Failure::new(format_args!("no answer: {error}")))
}

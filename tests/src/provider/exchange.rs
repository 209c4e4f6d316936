//! One request as the provider saw it: its bytes, and when what happened to it.

use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use super::locked;

/// How the provider's side of an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every step of the reply was done.
    Done,
    /// The peer closed or reset the connection first.
    PeerClosed,
}

/// A request and what became of it. Fields fill up while the exchange runs.
#[derive(Debug)]
pub struct Exchange {
    /// When the head was complete.
    pub at: Instant,
    /// Request line and headers as received, with the empty line.
    pub head: Vec<u8>,
    body: OnceLock<Vec<u8>>,
    writes: Mutex<Vec<Instant>>,
    ended: OnceLock<(Instant, Ending)>,
}

impl Exchange {
    pub(super) fn new(head: Vec<u8>) -> Self {
        Self {
            at: Instant::now(),
            head,
            body: OnceLock::new(),
            writes: Mutex::default(),
            ended: OnceLock::new(),
        }
    }

    fn line(&self) -> impl Iterator<Item = &str> {
        let line = self.head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        std::str::from_utf8(line).unwrap_or_default().split(' ')
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.line().next().unwrap_or_default()
    }

    /// The target as it stood in the request line, with its query.
    #[must_use]
    pub fn target(&self) -> &str {
        self.line().nth(1).unwrap_or_default()
    }

    /// All headers, in order, names as they came.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = std::str::from_utf8(&self.head).unwrap_or_default();
        text.split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
    }

    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The body, decoded; empty as long as it is not complete.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.body.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.body()).unwrap_or_default()
    }

    /// When each write of the reply began, in order: just before the system call, since the reader may wake before it returns.
    #[must_use]
    pub fn writes(&self) -> Vec<Instant> {
        locked(&self.writes).clone()
    }

    /// When the peer's close or reset was seen, if that is how it ended.
    #[must_use]
    pub fn peer_closed(&self) -> Option<Instant> {
        self.ended.get().filter(|(_, ending)| *ending == Ending::PeerClosed).map(|(at, _)| *at)
    }

    /// How it ended; `None` while it runs.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        self.ended.get().map(|(_, ending)| *ending)
    }

    pub(super) fn body_is(&self, body: Vec<u8>) {
        // Set once per exchange by the one task that owns it.
        let _ = self.body.set(body);
    }

    pub(super) fn writes_now(&self) {
        locked(&self.writes).push(Instant::now());
    }

    pub(super) fn end(&self, ending: Ending) {
        let _ = self.ended.set((Instant::now(), ending));
    }
}

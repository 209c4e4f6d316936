//! What a process knows of its database besides the time of the last contact: what it waits for before the first one, and whether it takes
//! writes. It refuses to know who writes what.

use std::sync::{Mutex, PoisonError};

use store::StoreError;

/// Who writes regularly, and therefore notices first when writing fails. Each of them tries again until it succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    Ledger,
    Usage,
    Heartbeat,
}

const WRITERS: usize = 3;

/// Shared by the control tasks, who know, and the operational endpoints, who tell.
#[derive(Default)]
pub(crate) struct DatabaseState {
    waits_for: Mutex<Option<String>>,
    failures: Mutex<[Option<&'static str>; WRITERS]>,
    outgrown: Mutex<Option<String>>,
}

impl DatabaseState {
    pub(crate) fn waits_for(&self, what: String) {
        *self.waits_for.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    /// What the process waits for until its first contact.
    pub(crate) fn awaited(&self) -> Option<String> {
        self.waits_for.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes whether a migration went beyond what this binary can use (contracts.md §5). Returns whether that is news.
    pub(crate) fn outgrew(&self, why: Option<String>) -> bool {
        let mut noted = self.outgrown.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *noted != why;
        *noted = why;
        news
    }

    /// Why this binary is too old for the schema, if it is.
    pub(crate) fn outgrown(&self) -> Option<String> {
        self.outgrown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how a write ended.
    pub(crate) fn wrote(&self, writer: Writer, failed: Option<&StoreError>) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)[writer as usize] = failed.map(reason);
    }

    /// Why the last write of one of the writers failed, in words that may be told to anybody; `None` if none failed.
    pub(crate) fn unwritable(&self) -> Option<&'static str> {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .flatten()
            .next()
            .copied()
    }
}

/// The error without its details: those are in the log, since they may name hosts and paths.
fn reason(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable(_) => "unavailable",
        StoreError::ReadOnly(_) => "read-only",
        StoreError::Full(_) => "full",
        _ => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_writable_again_only_when_everybody_who_failed_has_succeeded() {
        let state = DatabaseState::default();
        assert_eq!(state.unwritable(), None);
        let full = StoreError::Full("/secret/path".into());
        state.wrote(Writer::Ledger, Some(&full));
        state.wrote(Writer::Usage, Some(&full));
        state.wrote(Writer::Heartbeat, None);
        state.wrote(Writer::Usage, None);
        assert_eq!(state.unwritable(), Some("full"));
        state.wrote(Writer::Ledger, None);
        assert_eq!(state.unwritable(), None);
    }
}

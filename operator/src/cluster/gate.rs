//! The right to write: held while the Lease is. Asked before every write, so that a process that was paused past its Lease writes nothing.
//! It refuses to know how a Lease is won and kept.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// This process does not lead (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this process does not lead: nothing is written")]
pub(crate) struct NotLeading;

/// The right to write, until a moment of the monotonic clock that each renewal of the Lease moves on.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    open_until: Arc<Mutex<Option<Instant>>>,
}

impl Gate {
    /// A closed one.
    pub(crate) fn closed() -> Self {
        Self {
            open_until: Arc::new(Mutex::new(None)),
        }
    }

    /// Opens it until `until`.
    pub(crate) fn open_until(&self, until: Instant) {
        *self.open_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Closes it for good or until it is opened again.
    pub(crate) fn close(&self) {
        *self.open_until.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether this process may write at this moment.
    ///
    /// # Errors
    /// [`NotLeading`] if it may not.
    pub(crate) fn check(&self) -> Result<(), NotLeading> {
        let until = *self.open_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.filter(|until| Instant::now() < *until).map(|_| ()).ok_or(NotLeading)
    }
}

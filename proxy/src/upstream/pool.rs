//! Idle provider connections of one data thread: last in, first out, no lock.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;

use super::{Origin, UpstreamBody};

/// The sending half of a provider connection.
pub(crate) type Sender = SendRequest<UpstreamBody>;

struct Idle {
    sender: Sender,
    since: Instant,
}

/// One thread's idle connections per origin.
pub(crate) struct Pool {
    idle: RefCell<HashMap<*const Origin, Vec<Idle>>>,
    max_idle: Duration,
}

impl Pool {
    pub(crate) fn new(max_idle: Duration) -> Self {
        Self {
            idle: RefCell::default(),
            max_idle,
        }
    }

    /// The most recently used connection that is still open.
    pub(crate) fn take(&self, origin: &Arc<Origin>) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&Arc::as_ptr(origin))?;
        while let Some(found) = connections.pop() {
            if !found.sender.is_closed() && found.since.elapsed() < self.max_idle {
                return Some(found.sender);
            }
        }
        None
    }

    /// Takes a connection back after its answer was read to the end. Origins live as long as the process, so their address is a key.
    pub(crate) fn put(&self, origin: &Arc<Origin>, sender: Sender) {
        if !sender.is_closed() {
            self.idle.borrow_mut().entry(Arc::as_ptr(origin)).or_default().push(Idle {
                sender,
                since: Instant::now(),
            });
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn reap(&self) {
        for connections in self.idle.borrow_mut().values_mut() {
            connections.retain(|c| !c.sender.is_closed() && c.since.elapsed() < self.max_idle);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }
}

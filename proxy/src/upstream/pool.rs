//! Idle provider connections of one data thread: last in, first out, no lock.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;

use super::patience::Patience;
use super::{Origin, UpstreamBody};

/// Our half of a provider connection.
pub(crate) struct Sender {
    pub(super) requests: SendRequest<UpstreamBody>,
    /// The task that drives it.
    pub(super) driver: AbortHandle,
    /// For the head of an answer.
    pub(super) patience: Patience,
}

/// A connection whose answer has been read may still be sending its request, if the provider answered before it had read all of it.
/// It is of use again once it has sent it, which is waited for this long.
const SETTLING: Duration = Duration::from_secs(5);

struct Idle {
    sender: Sender,
    since: Instant,
}

/// One thread's idle connections per origin. Each of them can take a request at once.
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
            if found.sender.requests.is_ready() && found.since.elapsed() < self.max_idle {
                return Some(found.sender);
            }
        }
        None
    }

    /// Takes a connection back after its answer was read to the end, as soon as it is ready for another request.
    pub(crate) fn put(self: &Rc<Self>, origin: &Arc<Origin>, mut sender: Sender) {
        if sender.requests.is_ready() {
            return self.keep(origin, sender);
        }
        if sender.requests.is_closed() {
            return;
        }
        let (pool, origin) = (Rc::clone(self), Arc::clone(origin));
        tokio::task::spawn_local(async move {
            match tokio::time::timeout(SETTLING, sender.requests.ready()).await {
                Ok(Ok(())) => pool.keep(&origin, sender),
                Ok(Err(_closed)) => {}
                // Nobody reads the rest of that request.
                Err(_elapsed) => sender.driver.abort(),
            }
        });
    }

    /// Origins live as long as the process, so their address is a key.
    fn keep(&self, origin: &Arc<Origin>, sender: Sender) {
        self.idle.borrow_mut().entry(Arc::as_ptr(origin)).or_default().push(Idle {
            sender,
            since: Instant::now(),
        });
    }

    /// Closes what has been idle for too long.
    pub(crate) fn reap(&self) {
        for connections in self.idle.borrow_mut().values_mut() {
            connections.retain(|c| !c.sender.requests.is_closed() && c.since.elapsed() < self.max_idle);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }
}

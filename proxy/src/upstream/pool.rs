//! Idle provider connections of one data thread: last in, first out, no lock.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Origin;
use super::wire::Wire;

/// How often an idle connection's age is looked at in the course of its life.
const TICKS: u32 = 8;

struct Idle {
    wire: Box<Wire>,
    /// The tick in which it came.
    since: u32,
}

/// One thread's idle connections per origin. Each of them can take a request at once.
pub(crate) struct Pool {
    /// By the number of their origin.
    idle: RefCell<Vec<Vec<Idle>>>,
    tick: Duration,
    now: Cell<u32>,
    /// Of the task that closes what providers close.
    watch: RefCell<Waker>,
}

impl Pool {
    /// A pool whose connections are closed once they have been idle for `max_idle`, or an eighth of it longer.
    pub(crate) fn new(max_idle: Duration) -> Self {
        Self {
            idle: RefCell::default(),
            tick: (max_idle / TICKS).max(Duration::from_millis(1)),
            now: Cell::new(0),
            watch: RefCell::new(Waker::noop().clone()),
        }
    }

    /// The most recently used connection that is still open and clean.
    pub(super) fn take(&self, origin: &Arc<Origin>) -> Option<Box<Wire>> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(origin.number)?;
        let watch = self.watch.borrow();
        let mut cx = Context::from_waker(&watch);
        while let Some(mut found) = connections.pop() {
            if found.wire.is_quiet(&mut cx) {
                return Some(found.wire);
            }
        }
        None
    }

    /// Takes a connection whose answer was read to the end and whose request was sent to the end.
    pub(super) fn put(&self, mut wire: Box<Wire>) {
        let watch = self.watch.borrow();
        if !wire.rest(&mut Context::from_waker(&watch)) {
            return;
        }
        let (number, since) = (wire.origin.number, self.now.get());
        let mut idle = self.idle.borrow_mut();
        if idle.len() <= number {
            idle.resize_with(number + 1, Vec::new);
        }
        if let Some(connections) = idle.get_mut(number) {
            connections.push(Idle { wire, since });
        }
    }

    /// How often [`Pool::age`] is to be called.
    pub(crate) fn tick(&self) -> Duration {
        self.tick
    }

    /// A tick has passed: closes what has been idle for too long.
    pub(crate) fn age(&self) {
        let now = self.now.get().wrapping_add(1);
        self.now.set(now);
        self.retain(|idle, _| now.wrapping_sub(idle.since) <= TICKS);
    }

    /// Closes what providers close, as long as it is polled; never ready. The task that polls it is woken whenever something happens to an
    /// idle connection.
    pub(crate) fn poll_watch(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.borrow_mut().clone_from(cx.waker());
        self.retain(|idle, cx| idle.wire.is_quiet(cx));
        Poll::Pending
    }

    fn retain(&self, mut keep: impl FnMut(&mut Idle, &mut Context<'_>) -> bool) {
        let watch = self.watch.borrow();
        let mut cx = Context::from_waker(&watch);
        for connections in self.idle.borrow_mut().iter_mut() {
            connections.retain_mut(|idle| keep(idle, &mut cx));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.idle.borrow().iter().map(Vec::len).sum()
    }
}

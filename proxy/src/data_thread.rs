//! One data thread: a current_thread runtime, its listener, its connections, its upstream pool. A request never leaves it.

use std::cell::{Cell, RefCell};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;

use crate::connection;
use crate::drain::Phase;
use crate::metrics::ThreadCounters;
use crate::operations::Operations;
use crate::outcome::UsageSink;
use crate::shared::{ControlHandle, Shared};
use crate::upstream::Pool;

/// What the requests of one thread share.
pub(crate) struct DataThread {
    pub(crate) shared: Arc<Shared>,
    pub(crate) control: ControlHandle,
    pub(crate) counters: Arc<ThreadCounters>,
    pub(crate) usage: Arc<UsageSink>,
    pub(crate) pool: Rc<Pool>,
    pub(crate) operations: Operations,
    ids: RequestIds,
}

/// What a thread is started with.
pub(crate) struct Seed {
    pub(crate) index: usize,
    pub(crate) runtime: Runtime,
    pub(crate) shared: Arc<Shared>,
    pub(crate) control: ControlHandle,
    pub(crate) control_runtime: Handle,
    pub(crate) listener: TcpListener,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) fences: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    pub(crate) id_seed: u64,
}

/// Request ids: unique per process, unguessable enough to be told apart across processes, and made without a system call.
struct RequestIds {
    prefix: u64,
    next: Cell<u64>,
    /// The digits of the next ids: one allocation for many.
    made: RefCell<Bytes>,
}

/// How many ids are made at once.
const IDS: u64 = 32;
/// The hexadecimal digits of an id.
const DIGITS: usize = 32;

impl RequestIds {
    fn new(prefix: u64) -> Self {
        Self {
            prefix,
            next: Cell::new(0),
            made: RefCell::default(),
        }
    }

    fn next(&self) -> Bytes {
        let mut made = self.made.borrow_mut();
        if made.is_empty() {
            let first = self.next.get();
            self.next.set(first.wrapping_add(IDS));
            *made = (0..IDS).flat_map(|n| self.digits(first.wrapping_add(n))).collect::<Vec<_>>().into();
        }
        made.split_to(DIGITS)
    }

    fn digits(&self, n: u64) -> [u8; DIGITS] {
        // splitmix64's finalizer spreads the counter, so that ids do not look like a sequence.
        let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.prefix);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let id = (u128::from(self.prefix) << 64) | u128::from(z ^ (z >> 31));
        std::array::from_fn(|n| b"0123456789abcdef"[(id >> (124 - 4 * n)) as usize & 0xf])
    }
}

impl DataThread {
    /// A fresh request id: 32 hexadecimal digits.
    pub(crate) fn request_id(&self) -> HeaderValue {
        HeaderValue::from_maybe_shared(self.ids.next()).unwrap_or(HeaderValue::from_static("-"))
    }

    /// Whether running replies must end.
    pub(crate) fn is_aborting(&self) -> bool {
        self.shared.aborting.load(Ordering::Relaxed)
    }

    /// Completes once replies must end: see [`Shared::aborting`] for who wakes it.
    pub(crate) fn aborting(&self) -> impl Future<Output = ()> {
        std::future::poll_fn(|_| if self.is_aborting() { Poll::Ready(()) } else { Poll::Pending })
    }
}

/// A runtime for a data thread. Made before the thread, so that a failure stops the start and not a quarter of the service.
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The thread's whole life. Returns when the drain has ended.
pub(crate) fn run(seed: Seed) -> std::io::Result<()> {
    let Seed {
        index,
        runtime,
        shared,
        control,
        control_runtime,
        listener,
        phase,
        fences,
        id_seed,
    } = seed;
    let share = &shared.threads[index];
    let thread = Rc::new(DataThread {
        control,
        counters: Arc::clone(&share.counters),
        usage: Arc::clone(&share.usage),
        pool: Rc::new(Pool::new(shared.settings.limits.upstream_idle)),
        operations: Operations::new(control_runtime),
        ids: RequestIds::new(id_seed),
        shared: Arc::clone(&shared),
    });
    let local = LocalSet::new();
    let ended = local.block_on(&runtime, async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let housekeeping = tokio::task::spawn_local(housekeeping(Rc::clone(&thread), fences));
        connection::accept(&thread, listener, phase).await;
        housekeeping.abort();
        Ok(())
    });
    drop(local);
    // A look-up of a name that still runs must not hold up the end.
    runtime.shutdown_background();
    ended
}

/// Answers the feed's fences and closes connections that providers will close soon.
async fn housekeeping(thread: Rc<DataThread>, mut fences: mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    let mut age = tokio::time::interval(thread.pool.tick());
    loop {
        tokio::select! {
            fence = fences.recv() => match fence {
                // Between its last check of a grant and the write of its head a request does not yield, so whatever starts from now on saw the
                // change.
                Some(fence) => drop(fence.send(())),
                None => return,
            },
            _ = age.tick() => thread.pool.age(),
            // Never ready: it closes what providers close.
            () = std::future::poll_fn(|cx| thread.pool.poll_watch(cx)) => {}
            _ = tick.tick() => {
                thread.counters.idle_upstream.store(thread.pool.len() as u64, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_32_digits_and_never_the_same() {
        let ids = RequestIds::new(7);
        let made: HashSet<Bytes> = (0..10 * IDS).map(|_| ids.next()).collect();
        assert_eq!(made.len() as u64, 10 * IDS);
        assert!(made.iter().all(|id| id.len() == DIGITS && id.iter().all(u8::is_ascii_hexdigit)));
    }
}

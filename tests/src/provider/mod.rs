//! The scripted provider: a real TCP server that speaks HTTP/1.1 in OpenAI's wire formats and does exactly what a test says, byte by byte.
//! It owns what was received and when; it refuses to know who asks.

mod connection;
mod exchange;
mod reply;
pub mod wire;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use exchange::{Ending, Exchange};
pub use reply::{Reply, Step};

/// Decides what a request that no single script was queued for is answered with. It sees the whole body.
pub type Responder = Arc<dyn Fn(&Exchange) -> Reply + Send + Sync>;

/// A running provider. Dropping it closes every connection and frees the port.
#[derive(Debug)]
pub struct Provider {
    addr: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the server's thread and the tests share.
pub(crate) struct State {
    queue: Mutex<VecDeque<Reply>>,
    responder: Mutex<Responder>,
    journal: Option<Mutex<Vec<Arc<Exchange>>>>,
    heads: AtomicU64,
    connections: AtomicU64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("heads", &self.heads)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl Provider {
    /// Starts one that answers as OpenAI would ([`wire::answer`]) and keeps every request.
    #[must_use]
    pub fn start() -> Self {
        Self::launch(Arc::new(wire::answer), true)
    }

    /// Starts one that answers everything with `reply`, counts, and keeps nothing: for loads of millions of requests.
    #[must_use]
    pub fn start_counting(reply: Reply) -> Self {
        Self::launch(Arc::new(move |_: &Exchange| reply.clone()), false)
    }

    fn launch(responder: Responder, keep: bool) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on the loopback interface");
        listener.set_nonblocking(true).expect("a non-blocking listener");
        let addr = listener.local_addr().expect("the port that was bound");
        let state = Arc::new(State {
            queue: Mutex::default(),
            responder: Mutex::new(responder),
            journal: keep.then(Mutex::default),
            heads: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = connection::accept(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("provider".to_owned()).spawn(serve).expect("a thread");
        Self {
            addr,
            state,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What stands before `/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Answers the next request that has no answer yet with `reply`; several calls queue up.
    pub fn once(&self, reply: Reply) {
        locked(&self.state.queue).push_back(reply);
    }

    /// Answers every request beyond the queue with `reply`.
    pub fn always(&self, reply: Reply) {
        self.always_with(move |_| reply.clone());
    }

    /// Answers every request beyond the queue with what `responder` says.
    pub fn always_with(&self, responder: impl Fn(&Exchange) -> Reply + Send + Sync + 'static) {
        *locked(&self.state.responder) = Arc::new(responder);
    }

    /// Back to OpenAI's own answers; an unused queue is dropped.
    pub fn as_openai(&self) {
        locked(&self.state.queue).clear();
        self.always_with(wire::answer);
    }

    /// How many request heads arrived complete, since the start.
    #[must_use]
    pub fn heads(&self) -> u64 {
        self.state.heads.load(Ordering::SeqCst)
    }

    /// How many connections were accepted, since the start.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The requests so far, in the order of their heads (empty in a counting provider).
    #[must_use]
    pub fn exchanges(&self) -> Vec<Arc<Exchange>> {
        self.state.journal.as_ref().map(|journal| locked(journal).clone()).unwrap_or_default()
    }

    /// Waits for the request with this number, counted from 0 in the order of the heads.
    ///
    /// # Panics
    /// If it does not come.
    #[must_use]
    #[track_caller]
    pub fn request(&self, number: usize) -> Arc<Exchange> {
        crate::wait::some(&format!("request {number} at the provider"), crate::wait::SOON, || {
            self.exchanges().get(number).cloned()
        })
    }

    /// The newest request.
    ///
    /// # Panics
    /// If none has come.
    #[must_use]
    #[track_caller]
    pub fn last(&self) -> Arc<Exchange> {
        self.exchanges().pop().expect("a request at the provider")
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been printed already.
            let _ = thread.join();
        }
    }
}

/// A lock that a panicking test thread cannot poison for the others.
fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

//! Accepting connections and serving HTTP/1.1 on them, through to the drain.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::clock;
use crate::data_thread::DataThread;
use crate::drain::Phase;
use crate::forward;
use crate::metrics::ThreadCounters;
use crate::silence::Silence;
use crate::waking::Waking;

/// During a drain a connection must have been silent this long before it is closed: a request may be on its way.
const DRAIN_IDLE: Duration = Duration::from_secs(1);
const DRAIN_POLL: Duration = Duration::from_millis(50);
/// After a failed accept (out of descriptors) the next try waits, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// One client connection's state, shared by its requests.
pub(crate) struct Connection {
    peer: SocketAddr,
    running: Cell<u32>,
    last_used: Cell<Instant>,
}

impl Connection {
    /// Since when no request is running; nothing while one is.
    fn idle_since(&self) -> Option<Instant> {
        (self.running.get() == 0).then(|| self.last_used.get())
    }
}

/// Held by a request until its reply has ended.
pub(crate) struct Running(Rc<Connection>);

impl Running {
    pub(crate) fn new(connection: &Rc<Connection>) -> Self {
        connection.running.set(connection.running.get() + 1);
        Self(Rc::clone(connection))
    }
}

impl Running {
    pub(crate) fn peer(&self) -> SocketAddr {
        self.0.peer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get().saturating_sub(1));
        self.0.last_used.set(clock::now());
    }
}

/// Counts an open connection, however it ends.
struct Open(Arc<ThreadCounters>);

impl Open {
    fn new(counters: &Arc<ThreadCounters>) -> Self {
        counters.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts until the drain closes the listener, then waits for the last connection.
pub(crate) async fn accept(thread: &Rc<DataThread>, listener: TcpListener, phase: watch::Receiver<Phase>) {
    let mut moves = phase.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => spawn(&mut connections, thread, stream, peer, &phase),
                // The peer has left already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            // A sender that is gone means that the process is ending.
            () = reached(&mut moves, Phase::Closing) => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => note(ended),
        }
    }
    // Closing a listener resets what still waits in its queue: take it first.
    for (stream, peer) in queued(listener) {
        spawn(&mut connections, thread, stream, peer, &phase);
    }
    let aborting = async {
        reached(&mut moves, Phase::Aborting).await;
        // Replies end by themselves now; what a client does not read is cut.
        tokio::time::sleep(DRAIN_IDLE).await;
    };
    tokio::select! {
        () = async { while let Some(ended) = connections.join_next().await { note(ended) } } => {}
        () = aborting => connections.abort_all(),
    }
}

/// What the kernel has accepted and we have not. Asked of the system itself, because the runtime may not have noticed yet.
fn queued(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let mut queued = Vec::new();
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                queued.extend(stream.map(|stream| (stream, peer)));
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
            // Empty.
            Err(_) => return queued,
        }
    }
}

/// A panic takes one connection along and nothing else; it must not stay unseen.
fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection was given up after a fault of ours");
    }
}

fn spawn(connections: &mut JoinSet<()>, thread: &Rc<DataThread>, stream: TcpStream, peer: SocketAddr, phase: &watch::Receiver<Phase>) {
    connections.spawn_local(serve(Rc::clone(thread), stream, peer, phase.clone()));
}

/// Serves one connection to its end. A head that is no HTTP, or too large, hyper answers itself, with a 400 or 431 whose body is empty: it has no
/// way to put an error object there.
async fn serve(thread: Rc<DataThread>, stream: TcpStream, peer: SocketAddr, mut phase: watch::Receiver<Phase>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "the connection closed before it was served");
        return;
    }
    let _open = Open::new(&thread.counters);
    let limits = &thread.shared.settings.limits;
    let connection = Rc::new(Connection {
        peer,
        running: Cell::new(0),
        last_used: Cell::new(Instant::now()),
    });
    let service = service_fn(|request| {
        let (thread, connection) = (Rc::clone(&thread), Rc::clone(&connection));
        async move { Ok::<_, Infallible>(forward::serve(&thread, &connection, request).await) }
    });
    let mut http = pin!(
        http1::Builder::new()
            // Ours is [`Silence`], which is not armed anew for every request.
            .header_read_timeout(None)
            .max_header_size(limits.max_head_bytes)
            .half_close(false)
            // One write for head and a small body costs less than gathering them.
            .writev(false)
            .serve_connection(TokioIo::new(stream), service)
    );
    // Never marked as seen, so that it tells of every phase but the first, and of a composition root that is gone.
    let moves = phase.clone();
    let (mut silence, mut idle) = (Silence::new(limits.head_deadline), pin!(idle_in_drain(&connection, &mut phase)));
    let mut watching = false;
    let mut waking = Waking::new(Waker::noop());
    let ended = poll_fn(|cx| {
        let mut waked = waking.context(cx);
        if let Poll::Ready(served) = clock::one_look(|| http.as_mut().poll(&mut waked)) {
            return Poll::Ready(Ended::Served(served));
        }
        // A task's waker stays the same: until the process leaves, waiting for that once is enough.
        let leaving = !matches!(moves.has_changed(), Ok(false));
        if (leaving || !std::mem::replace(&mut watching, true)) && idle.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ended::IdleInDrain);
        }
        silence.poll(cx, || connection.idle_since()).map(|()| Ended::Silent)
    })
    .await;
    let served = match ended {
        Ended::Served(served) => served,
        Ended::IdleInDrain => {
            http.as_mut().graceful_shutdown();
            tokio::select! {
                served = http.as_mut() => served,
                () = unfinished(&connection) => Ok(()),
            }
        }
        Ended::Silent => {
            tracing::debug!(%peer, "a client connection brought no request for too long");
            Ok(())
        }
    };
    if let Err(error) = served {
        // A peer that leaves, times out or does not speak HTTP: its affair.
        tracing::debug!(%error, %peer, "a client connection ended");
    }
}

/// Why a connection is given up.
enum Ended {
    /// It has ended by itself.
    Served(hyper::Result<()>),
    IdleInDrain,
    /// No request's head came whole within its time.
    Silent,
}

/// Completes when the process no longer accepts and this connection has nothing to do.
async fn idle_in_drain(connection: &Connection, phase: &mut watch::Receiver<Phase>) {
    reached(phase, Phase::Closing).await;
    while connection.running.get() > 0 || connection.last_used.get().elapsed() < DRAIN_IDLE {
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

/// Completes when a connection that was told to close has begun a request and not finished its head for this long.
async fn unfinished(connection: &Connection) {
    loop {
        tokio::time::sleep(DRAIN_IDLE).await;
        if connection.running.get() == 0 {
            return;
        }
    }
}

/// Completes when the process has reached `phase`, or its composition root is gone.
async fn reached(phases: &mut watch::Receiver<Phase>, phase: Phase) {
    let _ = phases.wait_for(|p| *p >= phase).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_panics_is_counted_out_and_takes_nobody_along() {
        let counters = Arc::new(ThreadCounters::new());
        let local = tokio::task::LocalSet::new();
        let open = local
            .run_until(async {
                let mut connections = JoinSet::new();
                let (faulty, sound) = (Open::new(&counters), Open::new(&counters));
                connections.spawn_local(async move {
                    let _open = faulty;
                    panic!("a fault");
                });
                connections.spawn_local(async move { drop(sound) });
                let mut panics = 0;
                while let Some(ended) = connections.join_next().await {
                    panics += usize::from(ended.as_ref().is_err_and(JoinError::is_panic));
                    note(ended);
                }
                assert_eq!(panics, 1);
                counters.connections.load(Ordering::Relaxed)
            })
            .await;
        assert_eq!(open, 0);
    }
}

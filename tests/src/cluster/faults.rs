//! A door in front of the API server that a test can jam: chosen requests are answered with an error, delayed, or cut off; or all connections at once.
//! It refuses to know what passes: to its clients it is the API server, by plain HTTP on loopback.

mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderValue;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::{Cluster, User, users};

/// What happens to a request that a rule matches.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is answered with this status, as the API server would word it, and does not reach it. 429 carries `Retry-After: 1`.
    Answer(u16),
    /// A watch that opens and says at once that its resourceVersion is too old (`ERROR` with code 410).
    WatchExpired,
    /// It is passed on after so long.
    Delay(Duration),
    /// The connection breaks; the request does not reach the API server.
    CutBefore,
    /// The API server does what it is asked for; then the connection breaks instead of the answer.
    CutAfter,
}

/// Which requests a fault is for, and how many of them.
#[derive(Clone, Debug)]
struct Rule {
    id: usize,
    method: String,
    part: String,
    left: Option<u32>,
    fault: Fault,
    hits: u32,
}

/// A rule that stands until this is dropped or [`Injected::withdraw`] is called.
#[derive(Debug)]
pub struct Injected {
    id: usize,
    shared: Arc<Shared>,
}

impl Injected {
    /// How many requests met it so far.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn hits(&self) -> u32 {
        let rules = self.shared.rules.lock().expect("the rules");
        rules.iter().find(|rule| rule.id == self.id).map_or(0, |rule| rule.hits)
    }

    /// Takes the rule away.
    pub fn withdraw(self) {}
}

impl Drop for Injected {
    fn drop(&mut self) {
        self.shared.rules.lock().expect("the rules").retain(|rule| rule.id != self.id);
    }
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    authorization: HeaderValue,
    rules: Mutex<Vec<Rule>>,
    next: std::sync::atomic::AtomicUsize,
    refusing: AtomicBool,
    /// Moves on when all connections are to break.
    cuts: watch::Sender<u64>,
}

/// The door of one user. Dropping it closes it.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    kubeconfig: PathBuf,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Door {
    /// Lets a fault happen to requests of this HTTP method (any if empty) whose path and query contain `part`: the next `times`, or all.
    ///
    /// A status is written by `inject("PATCH", "/status", …)`; a watch is opened by `inject("GET", "watch=true", …)`.
    ///
    /// # Panics
    /// Never.
    #[must_use = "the rule goes with this value"]
    pub fn inject(&self, method: &str, part: &str, times: Option<u32>, fault: Fault) -> Injected {
        let id = self.shared.next.fetch_add(1, Ordering::SeqCst);
        self.shared.rules.lock().expect("the rules").push(Rule {
            id,
            method: method.to_owned(),
            part: part.to_owned(),
            left: times,
            fault,
            hits: 0,
        });
        Injected {
            id,
            shared: Arc::clone(&self.shared),
        }
    }

    /// Breaks all connections, watches among them; new ones are let through.
    pub fn cut_all(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Breaks all connections and closes new ones at once, or lets them through again.
    pub fn refuse(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::SeqCst);
        if refusing {
            self.cut_all();
        }
    }

    /// Where it listens, by HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig of its user that leads through it, for a process.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The same as a configuration, without the client's own retries.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut config = users::config_of(&self.kubeconfig);
        config.default_retry = false;
        config
    }

    /// A client that goes through it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::try_from(self.config()).expect("a client")
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Cluster {
    /// Opens a door for a user.
    ///
    /// # Panics
    /// On a foreign cluster, whose certificates are not at hand.
    #[must_use]
    pub fn door(&self, user: User) -> Door {
        let folder = self.own_folder("stands in front of the API server");
        let (shared, connector) = (self.shared_of(user), wire::connector(&folder.join("ca.crt")));
        let (stop, stopped) = oneshot::channel::<()>();
        let (listening, address) = std::sync::mpsc::channel();
        let state = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
                listening.send(listener.local_addr().expect("its address")).expect("somebody waits");
                tokio::select! {
                    () = wire::accept(listener, state, connector) => {}
                    _ = stopped => {}
                }
            });
        });
        let address = address.recv().expect("the door opens");
        let kubeconfig = folder.join(format!("door-{}.kubeconfig", address.port()));
        users::write_kubeconfig(&kubeconfig, &format!("http://{address}"), None, &self.token(user), "default");
        Door {
            address,
            kubeconfig,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn shared_of(&self, user: User) -> Arc<Shared> {
        let authorization = format!("Bearer {}", self.token(user)).parse().expect("a header");
        Arc::new(Shared {
            server: self.address(),
            authorization,
            rules: Mutex::default(),
            next: 0.into(),
            refusing: AtomicBool::new(false),
            cuts: watch::Sender::new(0),
        })
    }
}

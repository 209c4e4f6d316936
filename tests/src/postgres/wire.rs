//! A TCP wire between a process and its database that a test can cut: at once, for a while, or between a COMMIT and its answer.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A COMMIT as it passes: its text and its end. (`READ COMMITTED` is another thing.)
const COMMIT: &[u8] = b"COMMIT\0";

/// Passes bytes both ways until told otherwise. Without TLS only, for it looks for COMMIT in what passes (`sslmode=disable`).
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    server: SocketAddr,
    refusing: AtomicBool,
    /// Nothing passes, nothing breaks: the cable is out.
    silent: AtomicBool,
    /// So many of the next commits are cut off from their answers.
    cuts: AtomicU32,
    cut: AtomicU32,
    needle: Mutex<Vec<u8>>,
    open: Mutex<Vec<TcpStream>>,
    over: AtomicBool,
}

impl Wire {
    /// A wire to a server.
    ///
    /// # Panics
    /// If there is no free port.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        Self::from(Ipv4Addr::LOCALHOST, server)
    }

    /// The same from another address of this machine, for instance the one that a node's pods reach.
    ///
    /// # Panics
    /// As [`Wire::to`].
    #[must_use]
    pub fn from(address: Ipv4Addr, server: SocketAddr) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State {
            server,
            refusing: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            cuts: AtomicU32::new(0),
            cut: AtomicU32::new(0),
            needle: Mutex::new(COMMIT.to_vec()),
            open: Mutex::new(Vec::new()),
            over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                if !shared.refusing.load(Ordering::SeqCst) {
                    connect(client, &shared);
                }
            }
        });
        Self { address, state }
    }

    /// Where the process connects to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections; from now on new ones are closed at once, or let through again.
    pub fn refuse(&self, refusing: bool) {
        self.state.refusing.store(refusing, Ordering::SeqCst);
        if refusing {
            self.break_all();
        }
    }

    /// Breaks all connections; new ones are let through.
    pub fn break_all(&self) {
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Nothing passes and nothing breaks, or what was held back passes again.
    pub fn silence(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }

    /// The next `n` COMMITs reach the server; when its answer comes, the connection is broken instead, so that whoever asked never learns what
    /// became of it.
    pub fn cut_commits(&self, n: u32) {
        self.cut_answers_of(COMMIT, n);
    }

    /// As [`Wire::cut_commits`], for messages that contain `needle`. A statement that is prepared passes once as text and then by what is
    /// bound to it, so it is found by a bound value.
    pub fn cut_answers_of(&self, needle: &[u8], n: u32) {
        *self.state.needle.lock().unwrap() = needle.to_vec();
        self.state.cuts.store(n, Ordering::SeqCst);
    }

    /// How many answers were cut off so far.
    #[must_use]
    pub fn cut(&self) -> u32 {
        self.state.cut.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        self.break_all();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn connect(client: TcpStream, state: &Arc<State>) {
    let Ok(server) = TcpStream::connect(state.server) else { return };
    let pairs = (client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone());
    let (Ok(client_2), Ok(server_2), Ok(client_3), Ok(server_3)) = pairs else {
        return;
    };
    state.open.lock().unwrap().extend([client_3, server_3]);
    // Set by what goes up, read by what comes down.
    let doomed = Arc::new(AtomicBool::new(false));
    let (up, down) = ((Arc::clone(state), Arc::clone(&doomed)), (Arc::clone(state), doomed));
    std::thread::spawn(move || pass(client, server, |bytes| up.0.notice(bytes, &up.1), &up.0));
    std::thread::spawn(move || {
        let check = |_: &[u8]| !down.1.load(Ordering::SeqCst);
        if pass(server_2, client_2, check, &down.0) {
            down.0.cut.fetch_add(1, Ordering::SeqCst);
        }
    });
}

impl State {
    fn notice(&self, bytes: &[u8], doomed: &AtomicBool) -> bool {
        let needle = self.needle.lock().unwrap().clone();
        if bytes.windows(needle.len()).any(|window| window == needle) {
            let took = self.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if took.is_ok() {
                doomed.store(true, Ordering::SeqCst);
            }
        }
        true
    }
}

/// Copies until an end, or until `lets_through` says no: then both ends break, and it returns true.
fn pass(mut from: TcpStream, mut to: TcpStream, lets_through: impl Fn(&[u8]) -> bool, state: &State) -> bool {
    let mut buffer = vec![0; 65_536];
    let broken = loop {
        let read = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break false,
            Ok(read) => read,
        };
        while state.silent.load(Ordering::SeqCst) && !state.over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if !lets_through(&buffer[..read]) {
            break true;
        }
        if to.write_all(&buffer[..read]).is_err() {
            break false;
        }
    };
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    broken
}

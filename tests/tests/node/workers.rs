//! Clients that stream all the time, one answer after the other, and what became of every one of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use testkit::client::Connection;

use crate::stage::{is_whole, stream};

/// So many of them, each on a thread and with a new connection for every stream.
pub(crate) struct Workers {
    over: Arc<AtomicBool>,
    whole: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Workers {
    /// Starts them; each stream has so many words, 20 ms each.
    pub(crate) fn start(count: usize, address: SocketAddr, key: &str, words: usize) -> Self {
        let (over, whole) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let work = |_| {
            let (over, whole, key) = (Arc::clone(&over), Arc::clone(&whole), key.to_owned());
            std::thread::spawn(move || {
                let mut broken = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    match Connection::open(address).and_then(|mut connection| connection.send(&stream(&key, words))) {
                        Ok(answer) if is_whole(&answer, words) => {
                            whole.fetch_add(1, Ordering::SeqCst);
                        }
                        Ok(answer) => broken.push(format!("{} {:?} {}", answer.status, answer.end, answer.text())),
                        Err(error) => broken.push(error.to_string()),
                    }
                }
                broken
            })
        };
        let threads = (0..count).map(work).collect();
        Self { over, whole, threads }
    }

    /// How many streams came whole so far.
    pub(crate) fn whole(&self) -> usize {
        self.whole.load(Ordering::SeqCst)
    }

    /// Lets each finish the stream it is in; returns how many came whole, and what became of the others.
    pub(crate) fn stop(self) -> (usize, Vec<String>) {
        self.over.store(true, Ordering::SeqCst);
        let broken = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (self.whole.load(Ordering::SeqCst), broken)
    }
}

//! The load: connections that each send the same request again as soon as its answer is complete. One thread, no parsing beyond what framing needs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A load that runs until it is stopped.
pub(crate) struct Load {
    done: Arc<AtomicU64>,
    reads: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    measuring: Arc<AtomicBool>,
    thread: JoinHandle<Vec<f64>>,
}

impl Load {
    /// Starts `connections` of them with these request bytes.
    pub(crate) fn start(addr: SocketAddr, connections: usize, request: &[u8]) -> Self {
        let (done, reads, stop, measuring) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let request: Arc<[u8]> = Arc::from(request);
        let shared = (Arc::clone(&done), Arc::clone(&reads), Arc::clone(&stop), Arc::clone(&measuring));
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let (done, reads, stop, measuring) = shared;
                let clients = (0..connections).map(|_| {
                    let (request, done, reads) = (Arc::clone(&request), Arc::clone(&done), Arc::clone(&reads));
                    let (stop, measuring) = (Arc::clone(&stop), Arc::clone(&measuring));
                    tokio::spawn(async move { client(addr, &request, (&done, &reads), &stop, &measuring).await })
                });
                let mut latencies = Vec::new();
                for client in clients.collect::<Vec<_>>() {
                    latencies.extend(client.await.expect("a client ends"));
                }
                latencies
            })
        };
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(run).expect("a thread");
        Self {
            done,
            reads,
            stop,
            measuring,
            thread,
        }
    }

    /// How many answers have come.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// How many reads have brought something: one per event of a stream whose events are apart.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// From now on latencies are kept.
    pub(crate) fn keep_latencies(&self) {
        self.measuring.store(true, Ordering::Relaxed);
    }

    /// Ends it; the kept latencies in µs.
    pub(crate) fn stop(self) -> Vec<f64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load ends")
    }
}

async fn client(addr: SocketAddr, request: &[u8], (done, reads): (&AtomicU64, &AtomicU64), stop: &AtomicBool, measuring: &AtomicBool) -> Vec<f64> {
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let (mut buffer, mut latencies) = (Vec::with_capacity(16 * 1024), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        stream.write_all(request).await.expect("a request is sent");
        answer(&mut stream, &mut buffer, reads).await;
        done.fetch_add(1, Ordering::Relaxed);
        if measuring.load(Ordering::Relaxed) {
            latencies.push(sent.elapsed().as_secs_f64() * 1e6);
        }
    }
    latencies
}

/// Reads one answer, which must be a 200 with a content-length or chunked.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>, reads: &AtomicU64) {
    buffer.clear();
    loop {
        let read = stream.read_buf(buffer).await.expect("an answer");
        assert!(read > 0, "the connection was closed: {:?}", String::from_utf8_lossy(buffer));
        reads.fetch_add(1, Ordering::Relaxed);
        let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&buffer[..head]).expect("an ASCII head");
        assert!(text.starts_with("HTTP/1.1 200 "), "not a 200: {}", String::from_utf8_lossy(buffer));
        let header = |name: &str| {
            text.split("\r\n")
                .filter_map(|line| line.split_once(':'))
                .find(|(found, _)| found.eq_ignore_ascii_case(name))
        };
        let complete = match header("content-length") {
            Some((_, length)) => buffer.len() >= head + 4 + length.trim().parse::<usize>().expect("a content-length"),
            None => buffer.ends_with(b"\r\n0\r\n\r\n"),
        };
        if complete {
            return;
        }
    }
}

//! Hands log lines to a thread of their own, so that a slow terminal or disk never holds a request up. When the queue is
//! full, lines are dropped and counted, and the log says how many.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Lines waiting at most; at 300 bytes a line about 5 MB.
const CAPACITY: usize = 16 * 1024;
/// Bytes gathered before one write; a write is made earlier whenever the queue is empty.
const BATCH: usize = 64 * 1024;

/// How long the end of the process waits for a destination that does not take its lines.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where whole lines go.
pub(crate) trait Sink: Write + Send {}

impl Sink for io::Stderr {}

/// The sending side: the log's writer.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    Stop,
}

/// Writes what is queued when it is dropped, and waits for that at most [`PATIENCE`].
#[derive(Debug)]
pub(crate) struct Flush {
    lines: SyncSender<Message>,
    done: Receiver<()>,
}

/// Starts the thread that writes to `sink`.
pub(crate) fn start(sink: Box<dyn Sink>) -> io::Result<(Queue, Flush)> {
    let (lines, received) = sync_channel(CAPACITY);
    let dropped = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&dropped);
    let (finished, done) = sync_channel(1);
    Builder::new().name("log".to_owned()).spawn(move || {
        write_lines(sink, &received, &seen);
        let _ = finished.send(());
    })?;
    Ok((
        Queue {
            lines: lines.clone(),
            dropped,
        },
        Flush { lines, done },
    ))
}

impl Drop for Flush {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        // The receiver reads until it meets this, so that everything queued before is written.
        while let Err(TrySendError::Full(_)) = self.lines.try_send(Message::Stop) {
            if Instant::now() >= deadline {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        let _ = self.done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// One event's line while it is being formatted; it is queued when dropped.
pub(crate) struct Line<'a> {
    queue: &'a Queue,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            queue: self,
            bytes: Vec::new(),
        }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(_)) = self.queue.lines.try_send(Message::Line(std::mem::take(&mut self.bytes))) {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_lines(mut sink: Box<dyn Sink>, received: &Receiver<Message>, dropped: &AtomicU64) {
    let mut batch = Vec::with_capacity(BATCH);
    while let Ok(Message::Line(first)) = received.recv() {
        batch.extend_from_slice(&first);
        let mut stop = false;
        while batch.len() < BATCH {
            match received.try_recv() {
                Ok(Message::Line(line)) => batch.extend_from_slice(&line),
                Ok(Message::Stop) => {
                    stop = true;
                    break;
                }
                Err(_) => break,
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            // Both formats' readers pass over a line that they cannot parse, and people read this one.
            let _ = writeln!(
                batch,
                "{{\"level\":\"WARN\",\"message\":\"log lines dropped: the log's destination is too slow\",\"dropped\":{lost}}}"
            );
        }
        // A full disk or a closed terminal: there is nowhere left to say so, and serving goes on.
        let _ = sink.write_all(&batch).and_then(|()| sink.flush());
        batch.clear();
        if stop {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Condvar, Mutex};

    /// Holds every write until it is opened.
    #[derive(Clone, Default)]
    struct Gate(Arc<State>);

    #[derive(Default)]
    struct State {
        open: Mutex<bool>,
        opened: Condvar,
        written: Mutex<Vec<u8>>,
    }

    impl Gate {
        fn open(&self) {
            *self.0.open.lock().unwrap() = true;
            self.0.opened.notify_all();
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let open = self.0.opened.wait_while(self.0.open.lock().unwrap(), |open| !*open).unwrap();
            drop(open);
            self.0.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Sink for Gate {}

    #[test]
    fn a_stuck_destination_drops_lines_counts_them_and_never_blocks() {
        let gate = Gate::default();
        let (queue, flush) = start(Box::new(gate.clone())).unwrap();
        let sent = CAPACITY + BATCH / 4;
        for _ in 0..sent {
            queue.make_writer().write_all(b"line\n").unwrap();
        }
        gate.open();
        drop(flush);
        let text = String::from_utf8(gate.0.written.lock().unwrap().clone()).unwrap();
        let written = text.lines().filter(|line| *line == "line").count();
        let counted: usize = text
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter_map(|line| line["dropped"].as_u64())
            .map(|lost| usize::try_from(lost).unwrap())
            .sum();
        assert!(counted > 0);
        assert_eq!(written + counted, sent);
    }

    #[test]
    fn what_was_queued_is_written_before_the_end() {
        let gate = Gate::default();
        gate.open();
        let (queue, flush) = start(Box::new(gate.clone())).unwrap();
        for _ in 0..100 {
            queue.make_writer().write_all(b"x\n").unwrap();
        }
        drop(flush);
        assert_eq!(gate.0.written.lock().unwrap().len(), 200);
    }
}

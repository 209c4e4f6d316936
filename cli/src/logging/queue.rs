//! Hands log lines to a thread of their own, so that a slow terminal or disk never holds a request up. When the queue is
//! full, lines are dropped and counted, and the log says how many.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait; some ten thousand lines.
const CAPACITY: usize = 4 << 20;
/// From this many on they are written at once.
const BATCH: usize = 64 << 10;
/// How long an access line may wait for others: waking a thread for each costs more than the rest of a request's line.
const GATHER: Duration = Duration::from_millis(25);
/// How long the end of the process waits for a destination that does not take its lines.
const PATIENCE: Duration = Duration::from_secs(2);
/// The target of the lines that may wait: one per request. Everything else is rare, and somebody may be looking at it.
const PATIENT_TARGET: &str = "access";

/// Where whole lines go.
pub(crate) trait Sink: Write + Send {}

impl Sink for io::Stderr {}

/// The sending side: the log's writer.
#[derive(Clone, Debug)]
pub(crate) struct Queue(Arc<Waiting>);

/// What is between the threads that log and the one that writes.
#[derive(Debug, Default)]
struct Waiting {
    lines: Mutex<Lines>,
    /// Rung for the first line of a batch, and for what must not wait.
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Lines that found no room since the last batch.
    dropped: u64,
    /// Do not gather any longer.
    urgent: bool,
    stop: bool,
}

/// Writes what is queued when it is dropped, and waits for that at most [`PATIENCE`].
#[derive(Debug)]
pub(crate) struct Flush {
    waiting: Arc<Waiting>,
    done: Receiver<()>,
}

/// Starts the thread that writes to `sink`.
pub(crate) fn start(sink: Box<dyn Sink>) -> io::Result<(Queue, Flush)> {
    let waiting = Arc::new(Waiting::default());
    let seen = Arc::clone(&waiting);
    let (finished, done) = sync_channel(1);
    Builder::new().name("log".to_owned()).spawn(move || {
        write_lines(sink, &seen);
        let _ = finished.send(());
    })?;
    Ok((Queue(Arc::clone(&waiting)), Flush { waiting, done }))
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8], urgent: bool) {
        let mut lines = self.lock();
        if lines.bytes.len() + line.len() > CAPACITY {
            lines.dropped += 1;
            return;
        }
        let first = lines.bytes.is_empty();
        lines.bytes.extend_from_slice(line);
        let hurry = (urgent || lines.bytes.len() >= BATCH) && !lines.urgent;
        lines.urgent |= hurry;
        drop(lines);
        if first || hurry {
            self.bell.notify_one();
        }
    }

    /// Waits for a batch and takes it: its bytes in place of `empty`, how many lines were dropped before it, and whether it is the last.
    fn take(&self, empty: Vec<u8>) -> (Vec<u8>, u64, bool) {
        let some = self.bell.wait_while(self.lock(), |lines| lines.bytes.is_empty() && !lines.stop);
        let lines = some.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.bell.wait_timeout_while(lines, GATHER, |lines| !lines.urgent && !lines.stop);
        let (mut lines, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        lines.urgent = false;
        (std::mem::replace(&mut lines.bytes, empty), std::mem::take(&mut lines.dropped), lines.stop)
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        self.waiting.lock().stop = true;
        self.waiting.bell.notify_one();
        let _ = self.done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Takes one event's line, which comes whole with one write.
pub(crate) struct Line<'a> {
    waiting: &'a Waiting,
    urgent: bool,
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            waiting: &self.0,
            urgent: true,
        }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Line<'a> {
        Line {
            waiting: &self.0,
            urgent: about.target() != PATIENT_TARGET,
        }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.waiting.push(line, self.urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(mut sink: Box<dyn Sink>, waiting: &Waiting) {
    let mut batch = Vec::new();
    loop {
        let (taken, lost, stop) = waiting.take(batch);
        batch = taken;
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
        // A burst's room is given back.
        batch.shrink_to(2 * BATCH);
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
        // One queue may have been taken already when the gate holds it.
        let sent = 2 * CAPACITY / "line\n".len() + 1;
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
    fn access_lines_wait_for_each_other_and_others_wake_the_writer() {
        let gate = Gate::default();
        gate.open();
        let (queue, flush) = start(Box::new(gate.clone())).unwrap();
        let waiting = Arc::clone(&queue.0);
        let push = |line: &[u8], urgent| waiting.push(line, urgent);
        push(b"a\n", false);
        push(b"b\n", false);
        assert!(!waiting.lock().urgent, "nobody is in a hurry");
        push(b"c\n", true);
        let deadline = Instant::now() + PATIENCE;
        while gate.0.written.lock().unwrap().len() < 6 {
            assert!(Instant::now() < deadline, "what is urgent is written at once");
            std::thread::yield_now();
        }
        drop(flush);
        assert_eq!(gate.0.written.lock().unwrap().as_slice(), b"a\nb\nc\n");
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

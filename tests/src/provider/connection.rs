//! The provider's side of a connection: read a head, note it, read the body, do the steps; and see at once when the peer has gone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::exchange::{Ending, Exchange};
use super::reply::{Reply, Step};
use super::{State, locked};

/// Whether the connection can carry another request.
enum Next {
    Read,
    Gone,
}

pub(super) async fn accept(listener: std::net::TcpListener, state: Arc<State>) {
    let listener = TcpListener::from_std(listener).expect("the listener joins the runtime");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        state.connections.fetch_add(1, Ordering::SeqCst);
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let mut connection = Connection {
                stream,
                buffer: Vec::with_capacity(16 * 1024),
            };
            // An I/O error means that the peer has gone, which the exchange has noted.
            while let Ok(Next::Read) = connection.exchange(&state).await {}
        });
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn exchange(&mut self, state: &State) -> io::Result<Next> {
        let Some(head_len) = self.head().await? else { return Ok(Next::Gone) };
        let exchange = Arc::new(Exchange::new(self.buffer[..head_len].to_vec()));
        self.buffer.drain(..head_len);
        // Noted before the count rises: whoever sees the count finds the request.
        if let Some(journal) = &state.journal {
            locked(journal).push(Arc::clone(&exchange));
        }
        state.heads.fetch_add(1, Ordering::SeqCst);
        let queued = locked(&state.queue).pop_front();
        let next = self.answer(state, &exchange, queued).await;
        match next {
            Ok(Next::Read) => exchange.end(Ending::Done),
            Ok(Next::Gone) if exchange.ending().is_some() => {}
            Ok(Next::Gone) | Err(_) => exchange.end(Ending::PeerClosed),
        }
        next
    }

    async fn answer(&mut self, state: &State, exchange: &Exchange, queued: Option<Reply>) -> io::Result<Next> {
        if !queued.as_ref().is_some_and(|reply| reply.before_body) {
            let Some(body) = self.body(exchange).await? else { return Ok(Next::Gone) };
            exchange.body_is(body);
        }
        let reply = queued.unwrap_or_else(|| {
            let responder = Arc::clone(&locked(&state.responder));
            responder(exchange)
        });
        for step in reply.steps.iter() {
            match step {
                Step::Write(bytes) => {
                    exchange.writes_now();
                    self.stream.write_all(bytes).await?;
                }
                Step::Wait(pause) => tokio::select! {
                    biased;
                    () = peer_closes(&mut self.stream, &mut self.buffer) => return Ok(Next::Gone),
                    () = tokio::time::sleep(*pause) => {}
                },
                Step::Silence => {
                    peer_closes(&mut self.stream, &mut self.buffer).await;
                    return Ok(Next::Gone);
                }
                Step::Finish => {
                    self.stream.shutdown().await?;
                    peer_closes(&mut self.stream, &mut self.buffer).await;
                    return Ok(Next::Gone);
                }
                Step::Reset => {
                    self.stream.set_zero_linger()?;
                    exchange.end(Ending::Done);
                    return Ok(Next::Gone);
                }
                Step::Close => {
                    exchange.end(Ending::Done);
                    return Ok(Next::Gone);
                }
            }
        }
        Ok(Next::Read)
    }

    /// Reads until the buffer begins with a whole head; its length, or `None` if the peer closed first.
    async fn head(&mut self) -> io::Result<Option<usize>> {
        let mut seen = 0;
        loop {
            if let Some(at) = find(&self.buffer[seen..], b"\r\n\r\n") {
                return Ok(Some(seen + at + 4));
            }
            seen = self.buffer.len().saturating_sub(3);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads the body that the head announces, decoded; `None` if the peer closed before its end.
    async fn body(&mut self, exchange: &Exchange) -> io::Result<Option<Vec<u8>>> {
        if exchange.header("expect").is_some() {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if exchange.header("transfer-encoding").is_some() {
            let mut body = Vec::new();
            loop {
                let Some(line) = self.until(b"\r\n").await? else { return Ok(None) };
                let size = std::str::from_utf8(&line)
                    .ok()
                    .and_then(|line| usize::from_str_radix(line.split(';').next()?.trim(), 16).ok());
                let size = size.ok_or(io::ErrorKind::InvalidData)?;
                let Some(chunk) = self.exactly(size + 2).await? else { return Ok(None) };
                if size == 0 {
                    return Ok(Some(body));
                }
                body.extend_from_slice(&chunk[..size]);
            }
        }
        let length = exchange
            .header("content-length")
            .map_or(Ok(0), str::parse)
            .map_err(|_| io::ErrorKind::InvalidData)?;
        self.exactly(length).await
    }

    async fn until(&mut self, end: &[u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = find(&self.buffer, end) {
                let line = self.buffer[..at].to_vec();
                self.buffer.drain(..at + end.len());
                return Ok(Some(line));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Option<Vec<u8>>> {
        while self.buffer.len() < length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
        let rest = self.buffer.split_off(length);
        Ok(Some(std::mem::replace(&mut self.buffer, rest)))
    }
}

/// Ends when the peer has closed or reset; what it sends meanwhile is kept for the next request.
async fn peer_closes(stream: &mut TcpStream, buffer: &mut Vec<u8>) {
    while matches!(stream.read_buf(buffer).await, Ok(read) if read > 0) {}
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

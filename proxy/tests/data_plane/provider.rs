//! A provider whose every byte is the test's: it hands out connections, and the test reads and writes on them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{find, header};
use crate::wait::soon;

/// The JSON answer of a provider that is well.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 71\r\n\r\n{\"id\":\"1\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2},\"x\":\"yyyy\"}";
/// The head of a stream of events.
pub(crate) const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// Frames one chunk.
pub(crate) fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A listening provider.
pub(crate) struct Provider {
    listener: TcpListener,
}

impl Provider {
    pub(crate) async fn start() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection.
    #[track_caller]
    pub(crate) fn accept(&self) -> impl Future<Output = Peer> {
        let accepted = soon("a connection at the provider", self.listener.accept());
        async move {
            let (stream, _) = accepted.await.unwrap();
            stream.set_nodelay(true).unwrap();
            Peer::new(stream)
        }
    }

    /// The next connection, however late.
    pub(crate) async fn accept_whenever(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        Peer::new(stream)
    }

    /// Whether nobody is waiting to be accepted.
    pub(crate) async fn is_left_alone(&self) -> bool {
        tokio::time::timeout(std::time::Duration::from_millis(1), self.listener.accept())
            .await
            .is_err()
    }

    /// Answers every request with the same bytes; counts the heads.
    pub(crate) fn always(self, answer: &'static str) -> Arc<AtomicUsize> {
        let heads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = self.listener.accept().await {
                let heads = Arc::clone(&counted);
                let mut peer = Peer::new(stream);
                tokio::spawn(async move {
                    while peer.try_request().await.is_some() {
                        heads.fetch_add(1, Ordering::SeqCst);
                        if peer.stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        heads
    }
}

/// The provider's side of one connection.
pub(crate) struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The piece that is being written, by number, and how much of it has gone.
    piece: (usize, usize),
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            piece: (0, 0),
        }
    }

    /// Writes a piece; if it is dropped on the way, the next call with the same number goes on where it was.
    pub(crate) async fn write_on(&mut self, text: &str, number: usize) {
        if self.piece.0 != number {
            self.piece = (number, 0);
        }
        while self.piece.1 < text.len() {
            self.piece.1 += self.stream.write(&text.as_bytes()[self.piece.1..]).await.unwrap();
        }
    }

    /// The next request's head; its body, if it has a length, is read and dropped.
    pub(crate) async fn request(&mut self) -> String {
        soon("a request at the provider", self.try_request())
            .await
            .expect("a request before the close")
    }

    /// The next request's head alone.
    pub(crate) async fn head(&mut self) -> String {
        soon("a head at the provider", self.try_head()).await.expect("a head before the close")
    }

    /// The same, and `None` if the proxy closes first.
    pub(crate) async fn try_request(&mut self) -> Option<String> {
        let head = self.try_head().await?;
        let length: usize = header(&head, "content-length").map_or(0, |v| v.parse().expect("a length"));
        while self.buffer.len() < length {
            if !self.fill().await {
                return None;
            }
        }
        self.buffer.drain(..length);
        Some(head)
    }

    async fn try_head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head = self.buffer.drain(..end + 4).collect::<Vec<_>>();
                return Some(String::from_utf8_lossy(&head[..end]).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Writes; false if the proxy has closed.
    pub(crate) async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Waits for the proxy's close; what it sends until then is dropped.
    #[track_caller]
    pub(crate) fn closed(&mut self) -> impl Future<Output = ()> {
        soon("the proxy's close at the provider", async { while self.fill().await {} })
    }

    /// Waits until the next bytes of the proxy are these, and takes them.
    pub(crate) async fn sees(&mut self, text: &str) {
        soon(text, async { while self.buffer.len() < text.len() && self.fill().await {} }).await;
        let seen: Vec<u8> = self.buffer.drain(..text.len().min(self.buffer.len())).collect();
        assert_eq!(String::from_utf8_lossy(&seen), text);
    }

    /// Closes its own half.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Closes with RST.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(n) if n > 0)
    }
}

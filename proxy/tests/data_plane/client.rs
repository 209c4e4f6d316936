//! A client that writes exactly what a test says and reads answers as they are framed.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait::soon;

/// How an answer's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As its framing announced.
    Complete,
    /// The connection closed before that.
    Cut,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Status line and headers, as they came.
    pub(crate) head: String,
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) end: End,
}

impl Answer {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// `error.code`, empty if there is none.
    pub(crate) fn code(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        json["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and code, for one comparison.
    pub(crate) fn verdict(&self) -> (u16, String) {
        (self.status, self.code())
    }
}

/// The first header of this name in a head.
pub(crate) fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// A connection to the proxy.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = soon("a connection to the proxy", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn send(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.write(request).await;
        self.answer().await
    }

    /// The next status line and headers, interim or not.
    pub(crate) async fn head(&mut self) -> String {
        soon("a head", async {
            loop {
                if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                    let head = self.buffer.drain(..end + 4).collect::<Vec<_>>();
                    return String::from_utf8_lossy(&head[..end]).into_owned();
                }
                assert!(self.fill().await, "closed before a head: {:?}", String::from_utf8_lossy(&self.buffer));
            }
        })
        .await
    }

    /// A whole answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        self.rest_of(head).await
    }

    /// A whole answer, or nothing if the connection closes before its head.
    pub(crate) async fn until_closed_or_answered(&mut self) -> Option<Answer> {
        soon("a head or a close", async {
            while find(&self.buffer, b"\r\n\r\n").is_none() {
                if !self.fill().await {
                    return;
                }
            }
        })
        .await;
        find(&self.buffer, b"\r\n\r\n")?;
        Some(self.answer().await)
    }

    /// The rest of the answer that began with `head`.
    pub(crate) async fn rest_of(&mut self, head: String) -> Answer {
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let (body, end) = soon("the end of an answer", self.body(&head, status)).await;
        Answer {
            head,
            status,
            body: String::from_utf8_lossy(&body).into_owned(),
            end,
        }
    }

    async fn body(&mut self, head: &str, status: u16) -> (Vec<u8>, End) {
        if matches!(status, 204 | 304) {
            return (Vec::new(), End::Complete);
        }
        if header(head, "transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            return self.chunks().await;
        }
        if let Some(length) = header(head, "content-length") {
            return match self.exactly(length.parse().expect("a length")).await {
                Some(body) => (body, End::Complete),
                None => (std::mem::take(&mut self.buffer), End::Cut),
            };
        }
        while self.fill().await {}
        (std::mem::take(&mut self.buffer), End::Complete)
    }

    async fn chunks(&mut self) -> (Vec<u8>, End) {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.line().await else { return (body, End::Cut) };
            let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16).expect("a chunk's size");
            if size == 0 {
                loop {
                    match self.line().await {
                        Some(line) if line.is_empty() => return (body, End::Complete),
                        Some(_trailer) => {}
                        None => return (body, End::Cut),
                    }
                }
            }
            let Some(chunk) = self.exactly(size + 2).await else {
                return (body, End::Cut);
            };
            body.extend_from_slice(&chunk[..size]);
        }
    }

    /// Waits until this stands in what has arrived and is not taken yet.
    pub(crate) async fn sees(&mut self, text: &str) {
        soon(text, async {
            while find(&self.buffer, text.as_bytes()).is_none() {
                assert!(self.fill().await, "closed before {text:?}: {:?}", String::from_utf8_lossy(&self.buffer));
            }
        })
        .await;
    }

    /// What has arrived and is not taken yet, up to the other side's close.
    pub(crate) async fn until_closed(&mut self) -> String {
        soon("the other side's close", async { while self.fill().await {} }).await;
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.drain(..end + 2).collect::<Vec<_>>();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    /// False: closed or reset.
    async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(n) if n > 0)
    }
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

//! A raw HTTP/1.1 client on a blocking socket: it sends what a test says, keeps every read apart with its time, and never retries.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a single read may take before the answer counts as stalled.
pub const READ_LIMIT: Duration = Duration::from_secs(30);

/// One request. Headers go out as given, after `host` and, with a body, `content-length`.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// A GET.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST of JSON.
    #[must_use]
    pub fn post(target: &str, body: &Value) -> Self {
        Self::new("POST", target)
            .header("content-type", "application/json")
            .body(body.to_string())
    }

    /// The smallest chat completion, whole or streamed.
    #[must_use]
    pub fn chat(stream: bool) -> Self {
        let messages = serde_json::json!([{"role": "user", "content": "Say the fox."}]);
        let mut body = serde_json::json!({"model": "gpt-4o-mini", "messages": messages});
        if stream {
            body["stream"] = true.into();
            body["stream_options"] = serde_json::json!({"include_usage": true});
        }
        Self::post("/v1/chat/completions", &body)
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// `Authorization: Bearer …`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// The body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Head and body as they go over the wire.
    #[must_use]
    pub fn bytes(&self, host: SocketAddr) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {host}\r\n", self.method, self.target);
        if let Some(body) = &self.body {
            text += &format!("content-length: {}\r\n", body.len());
        }
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As its framing announced.
    Complete,
    /// The connection was closed or reset before that.
    Cut,
    /// Nothing came for [`READ_LIMIT`].
    Stalled,
}

/// Body bytes that arrived with one read of the socket, without their chunk framing.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When the read returned.
    pub at: Instant,
    /// What it brought.
    pub bytes: Vec<u8>,
}

/// An answer, whole or as much as came.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// When the head was complete.
    pub head_at: Instant,
    /// Reads that brought something of the body.
    pub arrivals: Vec<Arrival>,
    /// How it ended.
    pub end: End,
}

impl Response {
    /// The first header of this (lower-case) name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The whole body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        self.arrivals.iter().flat_map(|arrival| arrival.bytes.iter().copied()).collect()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body()).into_owned()
    }

    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body()).unwrap_or_default()
    }

    /// `error.code` of an OpenAI error object, empty if there is none.
    #[must_use]
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A keep-alive connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    host: SocketAddr,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, READ_LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_LIMIT))?;
        Ok(Self {
            stream,
            host: addr,
            buffer: Vec::new(),
        })
    }

    /// Sends a request and reads its whole answer.
    ///
    /// # Errors
    /// If no complete head came; what happens after the head stands in [`Response::end`].
    pub fn send(&mut self, request: &Request) -> io::Result<Response> {
        self.write(&request.bytes(self.host))?;
        self.response()
    }

    /// Writes raw bytes.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will be written (FIN), and keeps reading.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn finish_writing(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Reads a whole answer; interim ones (1xx) are passed over.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn response(&mut self) -> io::Result<Response> {
        let mut response = self.response_head()?;
        response.end = self.read_body(&mut response, &mut |_| true)?;
        Ok(response)
    }

    /// Reads the next status line and headers, interim or not (the body, if there is one, stays unread); the status.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn interim(&mut self) -> io::Result<u16> {
        Ok(self.head()?.status)
    }

    /// Reads the head, then hands each arrival to `more` until that returns false or the answer ends.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn response_while(&mut self, mut more: impl FnMut(&Arrival) -> bool) -> io::Result<Response> {
        let mut response = self.response_head()?;
        response.end = self.read_body(&mut response, &mut more)?;
        Ok(response)
    }

    /// Whether the other side has closed, looking for at most `limit`.
    pub fn closes_within(&mut self, limit: Duration) -> bool {
        let _ = self.stream.set_read_timeout(Some(limit));
        let closed = match self.stream.read(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        };
        let _ = self.stream.set_read_timeout(Some(READ_LIMIT));
        closed
    }

    /// Hangs up, and says when: the moment before the system call.
    #[must_use]
    pub fn hang_up(self) -> Instant {
        let at = Instant::now();
        drop(self.stream);
        at
    }

    fn response_head(&mut self) -> io::Result<Response> {
        loop {
            let head = self.head()?;
            if head.status >= 200 {
                return Ok(head);
            }
        }
    }

    fn head(&mut self) -> io::Result<Response> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 4);
                return parse_head(&head);
            }
            if self.fill()? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("closed before a whole head: {:?}", self.buffer),
                ));
            }
        }
    }

    fn read_body(&mut self, response: &mut Response, more: &mut dyn FnMut(&Arrival) -> bool) -> io::Result<End> {
        let mut framing = if response
            .header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
        {
            Framing::Chunked(Chunk::Size)
        } else if let Some(length) = response.header("content-length") {
            Framing::Length(
                length
                    .parse()
                    .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "content-length is no number"))?,
            )
        } else if matches!(response.status, 204 | 304) {
            Framing::Length(0)
        } else {
            Framing::UntilClose
        };
        let mut at = response.head_at;
        loop {
            let (bytes, complete) = framing.take(&mut self.buffer)?;
            if !bytes.is_empty() {
                let arrival = Arrival { at, bytes };
                let goes_on = more(&arrival);
                response.arrivals.push(arrival);
                if !goes_on && !complete {
                    return Ok(End::Cut);
                }
            }
            if complete {
                return Ok(End::Complete);
            }
            match self.fill() {
                Ok(0) if matches!(framing, Framing::UntilClose) => return Ok(End::Complete),
                Ok(0) => return Ok(End::Cut),
                Ok(_) => at = Instant::now(),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(End::Stalled),
                Err(_) => return Ok(End::Cut),
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 64 * 1024];
        let read = self.stream.read(&mut bytes)?;
        self.buffer.extend_from_slice(&bytes[..read]);
        Ok(read)
    }
}

/// Sends one request over a connection of its own.
///
/// # Errors
/// As [`Connection::send`].
pub fn send(addr: SocketAddr, request: &Request) -> io::Result<Response> {
    Connection::open(addr)?.send(request)
}

fn parse_head(head: &str) -> io::Result<Response> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("not an HTTP/1.1 status line: {head:?}")))?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Ok(Response {
        status,
        headers: headers.collect(),
        head_at: Instant::now(),
        arrivals: Vec::new(),
        end: End::Cut,
    })
}

/// How the end of a body is known.
enum Framing {
    Length(usize),
    Chunked(Chunk),
    UntilClose,
}

/// Where a chunked body stands.
enum Chunk {
    /// A size line comes next.
    Size,
    /// So many bytes of the chunk, its CRLF included, are missing.
    Data(usize),
    /// The last chunk's closing line comes next.
    End,
}

impl Framing {
    /// Takes from the buffer what belongs to the body; true: that was the end.
    fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<(Vec<u8>, bool)> {
        match self {
            Self::Length(left) => {
                let taken = buffer.drain(..buffer.len().min(*left)).collect::<Vec<_>>();
                *left -= taken.len();
                Ok((taken, *left == 0))
            }
            Self::UntilClose => Ok((std::mem::take(buffer), false)),
            Self::Chunked(chunk) => {
                let mut taken = Vec::new();
                loop {
                    match chunk {
                        Chunk::Size => {
                            let Some(line) = take_line(buffer) else { return Ok((taken, false)) };
                            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
                            let size = size.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("not a chunk size: {line:?}")))?;
                            *chunk = if size == 0 { Chunk::End } else { Chunk::Data(size + 2) };
                        }
                        Chunk::Data(left) => {
                            let part: Vec<u8> = buffer.drain(..buffer.len().min(*left)).collect();
                            // The last two bytes of what is left are the chunk's CRLF.
                            let data = part.len().min(left.saturating_sub(2));
                            taken.extend_from_slice(&part[..data]);
                            *left -= part.len();
                            if *left > 0 {
                                return Ok((taken, false));
                            }
                            *chunk = Chunk::Size;
                        }
                        Chunk::End => match take_line(buffer) {
                            None => return Ok((taken, false)),
                            Some(line) if line.is_empty() => return Ok((taken, true)),
                            Some(_trailer) => {}
                        },
                    }
                }
            }
        }
    }
}

fn take_line(buffer: &mut Vec<u8>) -> Option<String> {
    let end = buffer.windows(2).position(|window| window == b"\r\n")?;
    let line = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 2);
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_comes_out_the_same_at_any_split() {
        let raw = b"4\r\nab\r\n\r\n1;x=y\r\nc\r\n0\r\ntrailer: t\r\n\r\n";
        for split in 0..raw.len() {
            let mut framing = Framing::Chunked(Chunk::Size);
            let mut buffer = raw[..split].to_vec();
            let (mut body, early) = framing.take(&mut buffer).unwrap();
            assert!(!early, "at {split}");
            buffer.extend_from_slice(&raw[split..]);
            let (rest, complete) = framing.take(&mut buffer).unwrap();
            body.extend(rest);
            assert!(complete, "at {split}");
            assert_eq!(body, b"ab\r\nc", "at {split}");
        }
    }

    #[test]
    fn a_request_is_written_as_it_was_said() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 80));
        let bytes = Request::new("POST", "/v1/x").header("A", "b").body("hi").bytes(addr);
        assert_eq!(bytes, b"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1:80\r\ncontent-length: 2\r\nA: b\r\n\r\nhi");
    }
}

//! What the provider does with one request: a list of steps, each exact.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

/// One act on the connection.
#[derive(Clone, Debug)]
pub enum Step {
    /// Hand these bytes to the kernel in one write.
    Write(Arc<[u8]>),
    /// Do nothing for so long (a close of the peer is seen all the same).
    Wait(Duration),
    /// Write nothing any more until the peer closes.
    Silence,
    /// Close with RST.
    Reset,
    /// Close with FIN.
    Close,
    /// Send FIN, and wait until the peer closes too.
    Finish,
}

/// The answer to one request. Without a last `Silence`, `Reset`, `Close` or `Finish` the connection is kept alive.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) steps: Arc<[Step]>,
    pub(super) before_body: bool,
}

impl Reply {
    /// A reply of no steps: the request is swallowed and the connection read on.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            steps: Arc::new([]),
            before_body: false,
        }
    }

    /// Nothing is ever written.
    #[must_use]
    pub fn silent() -> Self {
        Self::nothing().then(Step::Silence)
    }

    /// The connection is reset instead of an answer.
    #[must_use]
    pub fn reset() -> Self {
        Self::nothing().then(Step::Reset)
    }

    /// The connection is closed instead of an answer.
    #[must_use]
    pub fn closed() -> Self {
        Self::nothing().then(Step::Close)
    }

    /// Exactly these bytes in one write.
    #[must_use]
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::nothing().write(bytes)
    }

    /// A whole answer with `content-length`, head and body in one write. `headers` are complete lines, each ending in CRLF.
    #[must_use]
    pub fn whole(status: u16, headers: &str, content_type: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let reason = reason(status);
        let length = body.len();
        let mut bytes =
            format!("HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n{headers}\r\n").into_bytes();
        bytes.extend_from_slice(body);
        Self::raw(bytes)
    }

    /// A JSON answer.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::json_with(status, "", body)
    }

    /// A JSON answer with further header lines, each ending in CRLF.
    #[must_use]
    pub fn json_with(status: u16, headers: &str, body: &Value) -> Self {
        Self::whole(status, headers, "application/json", body.to_string())
    }

    /// The head of a chunked event stream, with nothing behind it yet.
    #[must_use]
    pub fn event_stream() -> Self {
        Self::raw(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n",
        )
    }

    /// A complete event stream: each event (with its own empty line) is one chunk and one write, `pause` before each.
    #[must_use]
    pub fn events<E: AsRef<[u8]>>(events: &[E], pause: Duration) -> Self {
        Self::event_stream().chunks(events, pause).last_chunk()
    }

    /// One more step.
    #[must_use]
    pub fn then(self, step: Step) -> Self {
        self.extended([step])
    }

    /// One more write.
    #[must_use]
    pub fn write(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Write(Arc::from(bytes.as_ref())))
    }

    /// One more pause.
    #[must_use]
    pub fn wait(self, pause: Duration) -> Self {
        self.then(Step::Wait(pause))
    }

    /// Further chunks of a chunked body, each one write, `pause` before each.
    #[must_use]
    pub fn chunks<E: AsRef<[u8]>>(self, chunks: &[E], pause: Duration) -> Self {
        let steps = chunks.iter().flat_map(|chunk| {
            let chunk = chunk.as_ref();
            let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
            let wait = (!pause.is_zero()).then_some(Step::Wait(pause));
            wait.into_iter().chain([Step::Write(Arc::from(framed))])
        });
        self.extended(steps)
    }

    /// The end of a chunked body.
    #[must_use]
    pub fn last_chunk(self) -> Self {
        self.write("0\r\n\r\n")
    }

    /// The same, begun as soon as the head is there, without reading the body.
    #[must_use]
    pub fn before_body(mut self) -> Self {
        self.before_body = true;
        self
    }

    fn extended(self, more: impl IntoIterator<Item = Step>) -> Self {
        let steps = self.steps.iter().cloned().chain(more).collect();
        Self { steps, ..self }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

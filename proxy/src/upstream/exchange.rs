//! One request and the head of its answer over one connection. Whether a byte of the request may have left is told exactly; what that means for
//! limits and retries is not decided here.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::connect::connect;
use super::{Egress, Origin, Pool, Sender, UpstreamBody};

/// A connection that can take a request at once.
pub(crate) struct Link {
    origin: Arc<Origin>,
    sender: Sender,
    /// It has been idle, so the provider may have closed it without our knowing yet.
    pub(crate) pooled: bool,
}

/// A provider's answer with the connection it came over.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) link: Link,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The connection closed before it took the request: not a byte was written.
    Untouched(Box<Request<UpstreamBody>>, hyper::Error),
    /// The head did not come in time.
    TimedOut,
    /// The connection broke, or the answer is not HTTP.
    Broken(hyper::Error),
    /// The provider switched to another protocol, which nobody asked for.
    Switched,
    /// The drain ended while the head was awaited.
    Aborted,
}

impl Link {
    /// An idle connection; `None` if there is none.
    pub(crate) fn idle(pool: &Pool, origin: &Arc<Origin>) -> Option<Self> {
        pool.take(origin).map(|sender| Self {
            origin: Arc::clone(origin),
            sender,
            pooled: true,
        })
    }

    /// A new connection.
    ///
    /// # Errors
    /// Why there is none, for the log.
    pub(crate) async fn dial(origin: &Arc<Origin>, egress: &Egress, deadline: Duration) -> Result<Self, String> {
        let connected = async {
            let mut sender = connect(origin, egress, deadline).await.map_err(|error| error.to_string())?;
            sender.requests.ready().await.map_err(|_| "the connection closed at once".to_owned())?;
            Ok(sender)
        };
        let sender = tokio::time::timeout(deadline, connected)
            .await
            .unwrap_or_else(|_| Err(format!("no connection within {} ms", deadline.as_millis())))?;
        Ok(Self {
            origin: Arc::clone(origin),
            sender,
            pooled: false,
        })
    }

    /// Hands the request to the connection in the first poll, and waits for the head of the answer.
    pub(crate) async fn send(
        mut self,
        request: Request<UpstreamBody>,
        deadline: Duration,
        aborted: impl Future<Output = ()>,
    ) -> Result<Answered, SendError> {
        let (due, patience) = (Instant::now() + deadline, &mut self.sender.patience);
        let mut answer = pin!(self.sender.requests.try_send_request(request));
        let mut aborted = pin!(aborted);
        let sent = poll_fn(|cx| {
            if let Poll::Ready(sent) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(sent));
            }
            if patience.poll(cx, due).is_ready() {
                return Poll::Ready(Err(SendError::TimedOut));
            }
            aborted.as_mut().poll(cx).map(|()| Err(SendError::Aborted))
        });
        match sent.await? {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => Err(SendError::Switched),
            Ok(response) => Ok(Answered { response, link: self }),
            Err(mut failed) => match failed.take_message() {
                Some(request) => Err(SendError::Untouched(Box::new(request), failed.into_error())),
                None => Err(SendError::Broken(failed.into_error())),
            },
        }
    }

    /// The answer has been read to its end, or nothing was sent: the connection may be used again.
    pub(crate) fn release(self, pool: &Rc<Pool>) {
        pool.put(&self.origin, self.sender);
    }
}

//! Notices that a connection brings no request. One timer for the connection's whole life: arming one for each request costs more than reading it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// The time that a client has for a request's head, which is also the time for which a connection may idle.
pub(crate) struct Silence {
    after: Duration,
    sleep: Pin<Box<Sleep>>,
    asked: bool,
}

impl Silence {
    pub(crate) fn new(after: Duration) -> Self {
        Self {
            after,
            sleep: Box::pin(tokio::time::sleep(after)),
            asked: false,
        }
    }

    /// Ready once the connection has been without a request for long enough. `idle_since` says since when it is; nothing while one is running.
    /// It is asked only when the timer has fired, and must always be polled by the same task.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, idle_since: impl Fn() -> Option<Instant>) -> Poll<()> {
        if self.asked && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        self.asked = true;
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let now = Instant::now();
            let due = idle_since().unwrap_or(now) + self.after;
            if due <= now {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(due.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_request_puts_it_off_without_touching_the_timer() {
        let after = Duration::from_millis(30);
        let (mut silence, began, asked) = (Silence::new(after), Instant::now(), Cell::new(0));
        let last = began + Duration::from_millis(20);
        poll_fn(|cx| {
            silence.poll(cx, || {
                asked.set(asked.get() + 1);
                // Running at first, then ended at `last`.
                (asked.get() > 1).then_some(last)
            })
        })
        .await;
        assert!(asked.get() >= 2);
        assert!(began.elapsed() >= 2 * after, "{:?}", began.elapsed());
    }
}

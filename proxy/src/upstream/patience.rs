//! The deadline of one request after another over one connection, with a timer that stays: it is set anew only when an earlier request's moment comes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// A timer that outlives the requests that it is for.
#[derive(Default)]
pub(super) struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    /// Ready from `due` on. From request to request it never moves back, because every request has the same time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn every_request_has_its_whole_time() {
        let (mut patience, after) = (Patience::default(), Duration::from_millis(20));
        let first = Instant::now() + after;
        poll_fn(|cx| {
            assert!(patience.poll(cx, first).is_pending());
            Poll::Ready(())
        })
        .await;
        let second = first + after;
        poll_fn(|cx| patience.poll(cx, second)).await;
        assert!(Instant::now() >= second);
        let third = Instant::now() + after;
        poll_fn(|cx| patience.poll(cx, third)).await;
        assert!(Instant::now() >= third);
    }
}

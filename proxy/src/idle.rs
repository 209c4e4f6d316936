//! Notices that nothing has come for a while. Made at the first wait, because most replies and bodies never wait.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Fires between one and two of its durations after the last piece: a piece only leaves a mark, so that a busy stream asks no clock.
pub(crate) struct IdleTimer {
    after: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// A piece has come since the timer was set.
    touched: bool,
}

impl IdleTimer {
    pub(crate) fn new(after: Duration) -> Self {
        Self {
            after,
            sleep: None,
            touched: false,
        }
    }

    /// A piece has come.
    pub(crate) fn touch(&mut self) {
        self.touched = true;
    }

    /// Ready once nothing has come for long enough; begins anew then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let after = self.after;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(after)));
        while sleep.as_mut().poll(cx).is_ready() {
            sleep.as_mut().reset(Instant::now() + after);
            if !std::mem::take(&mut self.touched) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_piece_puts_it_off_and_silence_fires_it_again_and_again() {
        let after = Duration::from_millis(20);
        let (mut timer, began) = (IdleTimer::new(after), Instant::now());
        poll_fn(|cx| {
            assert!(timer.poll(cx).is_pending());
            timer.touch();
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| timer.poll(cx)).await;
        assert!(began.elapsed() >= 2 * after, "{:?}", began.elapsed());
        let fired = Instant::now();
        poll_fn(|cx| timer.poll(cx)).await;
        assert!(fired.elapsed() >= after / 2, "{:?}", fired.elapsed());
    }
}

//! Waiting for a condition with a deadline, never for a duration.

use std::future::Future;
use std::time::{Duration, Instant};

/// Far longer than anything takes; only a failure waits this long.
pub(crate) const SOON: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(2);

/// The outcome of `what`, which must come soon.
#[track_caller]
pub(crate) fn soon<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(SOON, future).await {
            Ok(output) => output,
            Err(_) => panic!("{what} did not come ({place})"),
        }
    }
}

/// Asks again and again until the answer is yes.
#[track_caller]
pub(crate) fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        while !ask().await {
            assert!(began.elapsed() < SOON, "{what} did not come ({place})");
            tokio::time::sleep(POLL).await;
        }
    }
}

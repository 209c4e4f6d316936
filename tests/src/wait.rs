//! Waiting for a condition with a deadline, never for a duration.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// The deadline of conditions that have none of their own: generous, because a loaded machine is not a failure.
pub const SOON: Duration = Duration::from_secs(20);

/// Waits until `condition` is true.
///
/// # Panics
/// With `what` in the message, if the condition is still false after `limit`.
#[track_caller]
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    some(what, limit, || condition().then_some(()));
}

/// Waits until `probe` yields a value and returns it.
///
/// # Panics
/// With `what` in the message, if there is still none after `limit`.
#[track_caller]
pub fn some<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// Whether the long variants were asked for (`make test-long` sets LLM_PROXY_LONG=1). The short ones always run.
#[must_use]
pub fn long_variant() -> bool {
    std::env::var_os("LLM_PROXY_LONG").is_some_and(|value| value == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_turns_true_ends_the_wait() {
        let mut left = 3;
        until("three looks", SOON, || {
            left -= 1;
            left == 0
        });
    }

    #[test]
    #[should_panic(expected = "not within 10ms: the sky falls")]
    fn a_condition_that_stays_false_names_itself() {
        until("the sky falls", Duration::from_millis(10), || false);
    }
}

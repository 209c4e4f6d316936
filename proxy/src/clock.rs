//! The database's time without asking it: its last answer plus the monotonic time since that query was *sent*, so never late.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use store::DbTime;

thread_local! {
    static LOOKS: Cell<Looks> = const { Cell::new(Looks::EachTime) };
}

/// How this thread looks at the clock.
#[derive(Clone, Copy)]
enum Looks {
    EachTime,
    /// Once, and this is what it saw, if it has looked.
    Once(Option<Instant>),
}

/// The time. Within [`one_look`] it is always the same: of ten questions that a request asks nine are asked within microseconds of another.
pub(crate) fn now() -> Instant {
    match LOOKS.get() {
        Looks::EachTime => Instant::now(),
        Looks::Once(Some(seen)) => seen,
        Looks::Once(None) => {
            let seen = Instant::now();
            LOOKS.set(Looks::Once(Some(seen)));
            seen
        }
    }
}

/// Runs one poll, whose questions for the time are all answered by one look at the clock. What takes longer than a look is worth must ask
/// [`look_again`].
pub(crate) fn one_look<R>(poll: impl FnOnce() -> R) -> R {
    /// Also if the poll panics.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            LOOKS.set(Looks::EachTime);
        }
    }
    LOOKS.set(Looks::Once(None));
    let _end = End;
    poll()
}

/// What was seen is too old: something has taken long.
pub(crate) fn look_again() {
    if let Looks::Once(_) = LOOKS.get() {
        LOOKS.set(Looks::Once(None));
    }
}

/// Shared by all threads; written by the feed follower only.
pub(crate) struct SharedClock {
    started: Instant,
    /// Database time minus [`SharedClock::mono_ms`].
    offset_ms: AtomicI64,
    /// Monotonic ms until which known grants may be served.
    serve_until_ms: AtomicU64,
    stale_after_ms: u64,
}

impl SharedClock {
    pub(crate) fn new(stale_after: Duration) -> Self {
        let stale_after_ms = u64::try_from(stale_after.as_millis()).unwrap_or(u64::MAX / 2);
        Self {
            started: Instant::now(),
            offset_ms: AtomicI64::new(0),
            serve_until_ms: AtomicU64::new(0),
            stale_after_ms,
        }
    }

    /// Milliseconds since this process started.
    pub(crate) fn mono_ms(&self) -> u64 {
        u64::try_from(now().saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes that the database said `now` to a query sent at `sent_ms` ([`SharedClock::mono_ms`]).
    pub(crate) fn contact(&self, sent_ms: u64, now: DbTime) {
        self.offset_ms.store(now.0.saturating_sub(signed(sent_ms)), Ordering::Relaxed);
        self.serve_until_ms.store(sent_ms.saturating_add(self.stale_after_ms), Ordering::Relaxed);
    }

    /// The database's time at monotonic `mono_ms`.
    pub(crate) fn db_time(&self, mono_ms: u64) -> DbTime {
        DbTime(self.offset_ms.load(Ordering::Relaxed).saturating_add(signed(mono_ms)))
    }

    /// Whether the last good contact is too old to go on serving.
    pub(crate) fn is_stale(&self, mono_ms: u64) -> bool {
        mono_ms > self.serve_until_ms.load(Ordering::Relaxed)
    }

    /// Milliseconds since the last good contact.
    pub(crate) fn contact_age_ms(&self, mono_ms: u64) -> u64 {
        let last = self.serve_until_ms.load(Ordering::Relaxed).saturating_sub(self.stale_after_ms);
        mono_ms.saturating_sub(last)
    }

    pub(crate) fn stale_after_ms(&self) -> u64 {
        self.stale_after_ms
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time that can be told apart from none.
    fn let_time_pass() {
        let began = Instant::now();
        while Instant::now() == began {}
    }

    #[test]
    fn one_poll_looks_once_unless_something_took_long() {
        let first = one_look(|| {
            let first = now();
            let_time_pass();
            assert_eq!(now(), first);
            look_again();
            assert!(now() > first);
            first
        });
        assert!(one_look(now) > first);
        let outside = now();
        let_time_pass();
        assert!(now() > outside);
    }

    #[test]
    fn a_poll_that_panics_leaves_no_stopped_clock() {
        let panicked = std::panic::catch_unwind(|| {
            one_look(|| {
                now();
                panic!("a fault");
            })
        });
        assert!(panicked.is_err());
        let before = now();
        let_time_pass();
        assert!(now() > before);
    }

    #[test]
    fn database_time_counts_from_the_moment_the_query_was_sent() {
        let clock = SharedClock::new(Duration::from_secs(5));
        clock.contact(1_000, DbTime(50_000));
        assert_eq!(clock.db_time(1_000), DbTime(50_000));
        assert_eq!(clock.db_time(1_250), DbTime(50_250));
    }

    #[test]
    fn grants_are_served_until_the_stale_window_ends_and_not_longer() {
        let clock = SharedClock::new(Duration::from_secs(5));
        assert!(clock.is_stale(1), "before the first contact nothing is served");
        clock.contact(1_000, DbTime(50_000));
        assert!(!clock.is_stale(6_000));
        assert!(clock.is_stale(6_001));
        assert_eq!(clock.contact_age_ms(3_000), 2_000);
    }
}

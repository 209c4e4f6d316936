//! What this process remembers of each object between two looks: the core's memory, what it wrote last while the watch lags behind, and how often
//! looking failed. Lost with the process and with the Lease. It refuses to know what is decided from it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use store::ResourceUid;
use uuid::Uuid;

use crate::effect::Status;
use crate::memory::Memory;

/// The first pause after a failed look.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How early a look may come before its time and still be the one that was planned.
const TIMER_SLACK: Duration = Duration::from_millis(50);

/// The remembered facts of all objects, by uid. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memories {
    inner: Arc<Mutex<HashMap<ResourceUid, Remembered>>>,
}

#[derive(Debug, Default)]
struct Remembered {
    memory: Memory,
    written: Option<Written>,
    failures: u32,
    retry_at: Option<Instant>,
}

/// A status that was written and that the watch may not have shown yet.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The versions that it has replaced. While the watch shows one of these, what stands here is newer.
    superseded: Vec<String>,
    /// The version that it made.
    pub(crate) resource_version: String,
    /// The status.
    pub(crate) status: Status,
}

impl Memories {
    /// What the core remembers of an object.
    pub(crate) fn of(&self, uid: &ResourceUid) -> Memory {
        self.lock().get(uid).map(|remembered| remembered.memory.clone()).unwrap_or_default()
    }

    /// Changes what the core remembers of an object.
    pub(crate) fn change(&self, uid: &ResourceUid, change: impl FnOnce(&mut Memory)) {
        change(&mut self.lock().entry(uid.clone()).or_default().memory);
    }

    /// Notes that writing a status replaced version `from` by version `to`.
    pub(crate) fn wrote(&self, uid: &ResourceUid, from: &str, to: String, status: Status) {
        let mut inner = self.lock();
        let remembered = inner.entry(uid.clone()).or_default();
        let mut superseded = remembered.written.take().map(|written| written.superseded).unwrap_or_default();
        // An apply that changes nothing makes no new version.
        if from != to {
            superseded.push(from.to_owned());
        }
        remembered.written = Some(Written {
            superseded,
            resource_version: to,
            status,
        });
    }

    /// What was written last, if the watch still shows something older. Our write names the version that it replaces, so whatever is shown
    /// besides the replaced ones is that write or came after it.
    pub(crate) fn newer_than(&self, uid: &ResourceUid, shown: &str) -> Option<Written> {
        let mut inner = self.lock();
        let remembered = inner.get_mut(uid)?;
        remembered.written = remembered
            .written
            .take()
            .filter(|written| written.superseded.iter().any(|old| old == shown));
        remembered.written.clone()
    }

    /// A look begins. One that comes before the planned retry was caused by a change, and a change deserves fresh patience.
    pub(crate) fn begin(&self, uid: &ResourceUid, now: Instant) {
        if let Some(remembered) = self.lock().get_mut(uid)
            && remembered.retry_at.take().is_some_and(|planned| now + TIMER_SLACK < planned)
        {
            remembered.failures = 0;
        }
    }

    /// A look ended well.
    pub(crate) fn succeeded(&self, uid: &ResourceUid) {
        if let Some(remembered) = self.lock().get_mut(uid) {
            remembered.failures = 0;
        }
    }

    /// A look failed: how often in a row that happened.
    pub(crate) fn failures(&self, uid: &ResourceUid) -> u32 {
        self.lock().get(uid).map_or(0, |remembered| remembered.failures)
    }

    /// Plans the next look after a failed one: after a pause that doubles with each failure up to `longest`, with up to half of it added at
    /// random, so that those who failed together do not come back together; and not before the server wants to be asked again.
    pub(crate) fn plan_retry(&self, uid: &ResourceUid, now: Instant, longest: Duration, not_before: Option<Duration>) -> Duration {
        let mut inner = self.lock();
        let remembered = inner.entry(uid.clone()).or_default();
        remembered.failures = remembered.failures.saturating_add(1);
        let pause = pause(remembered.failures, longest).max(not_before.unwrap_or_default());
        remembered.retry_at = Some(now + pause);
        pause
    }

    /// Forgets an object that is gone.
    pub(crate) fn forget(&self, uid: &ResourceUid) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ResourceUid, Remembered>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pause(failures: u32, longest: Duration) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1_u32 << failures.saturating_sub(1).min(16)).min(longest);
    doubled.mul_f64(1.0 + jitter() / 2.0).min(longest.max(FIRST_PAUSE))
}

/// A random number from 0 to 1. The last bytes of a UUID of version 4 are random.
pub(crate) fn jitter() -> f64 {
    let bytes = Uuid::new_v4().into_bytes();
    f64::from(u16::from_be_bytes([bytes[14], bytes[15]])) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::WitheringTokenStatus;

    const LONGEST: Duration = Duration::from_secs(60);

    fn uid() -> ResourceUid {
        ResourceUid::new("u-1")
    }

    fn status(revision: i64) -> Status {
        Status::Token(WitheringTokenStatus {
            revision: Some(revision),
            ..WitheringTokenStatus::default()
        })
    }

    #[test]
    fn what_was_written_counts_until_the_watch_shows_it_or_something_newer() {
        let memories = Memories::default();
        memories.wrote(&uid(), "1", "5".to_owned(), status(1));
        assert_eq!(memories.newer_than(&uid(), "1").map(|written| written.status), Some(status(1)));
        memories.wrote(&uid(), "5", "7".to_owned(), status(2));
        for shown in ["1", "5"] {
            let written = memories.newer_than(&uid(), shown).unwrap();
            assert_eq!(
                (written.resource_version.as_str(), written.status),
                ("7", status(2)),
                "while {shown} is shown"
            );
        }
        assert!(memories.newer_than(&uid(), "7").is_none());
        assert!(memories.newer_than(&uid(), "1").is_none(), "it was dropped once it was shown");
    }

    #[test]
    fn a_write_that_changed_nothing_hides_nothing() {
        let memories = Memories::default();
        memories.wrote(&uid(), "1", "1".to_owned(), status(1));
        assert!(memories.newer_than(&uid(), "1").is_none());
    }

    #[test]
    fn the_pause_doubles_with_jitter_up_to_the_longest_and_is_as_long_as_the_server_asks() {
        let (memories, now) = (Memories::default(), Instant::now());
        for least in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = memories.plan_retry(&uid(), now, LONGEST, None);
            let least = Duration::from_secs(least);
            assert!(pause >= least && pause <= (least + least / 2).min(LONGEST), "{pause:?} beside {least:?}");
        }
        let asked = Duration::from_secs(90);
        assert_eq!(memories.plan_retry(&uid(), now, LONGEST, Some(asked)), asked);
    }

    #[test]
    fn a_look_that_a_change_caused_starts_the_pauses_anew() {
        let (memories, now) = (Memories::default(), Instant::now());
        for _ in 0..5 {
            memories.plan_retry(&uid(), now, LONGEST, None);
        }
        let pause = memories.plan_retry(&uid(), now, LONGEST, None);
        memories.begin(&uid(), now + pause);
        assert_eq!(memories.failures(&uid()), 6, "that was the planned one");
        memories.plan_retry(&uid(), now, LONGEST, None);
        memories.begin(&uid(), now + Duration::from_secs(1));
        assert_eq!(memories.failures(&uid()), 0);
    }
}

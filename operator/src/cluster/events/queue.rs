//! Which events are worth a write, and which go first where there is no room: repeats, a flood of one object, Normal ones before Warnings.
//! It refuses to know the API.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crds::events::Severity;

use crate::effect::Notice;
use crate::object::Object;

/// How many events may wait.
const ROOM: usize = 1_024;
/// How many Normal events may come at once, and how many a second after that.
const NORMAL_BURST: f64 = 100.0;
const NORMAL_PER_SECOND: f64 = 10.0;
/// For so long the same event of the same object is a repeat, and so many events of one object are enough.
const MEMORY: Duration = Duration::from_secs(600);
const PER_OBJECT: u32 = 25;
/// How many objects are remembered; beyond that the oldest memory goes at once.
const REMEMBERED: usize = 8_192;

/// An event that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Whose.
    pub(super) object: Object,
    /// What.
    pub(super) notice: Notice,
}

/// Why an event is not sent.
pub(super) type Why = &'static str;

/// The events that wait, and what was told before.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    tokens: f64,
    filled: Instant,
    told: HashMap<String, Told>,
}

/// What was told about one object.
#[derive(Debug)]
struct Told {
    since: Instant,
    count: u32,
    what: Vec<u64>,
}

impl Queue {
    /// An empty one.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            waiting: VecDeque::new(),
            tokens: NORMAL_BURST,
            filled: now,
            told: HashMap::new(),
        }
    }

    /// Takes an event in; what is dropped for it, and why.
    pub(super) fn push(&mut self, event: Waiting, now: Instant) -> Option<(Severity, Why)> {
        let severity = event.notice.reason.severity();
        if let Some(why) = self.told_enough(&event, now) {
            return Some((severity, why));
        }
        if severity == Severity::Normal && !self.normal_allowed(now) {
            return Some((severity, "rate"));
        }
        if self.waiting.len() < ROOM {
            self.waiting.push_back(event);
            return None;
        }
        if severity == Severity::Normal {
            return Some((severity, "full"));
        }
        let oldest_normal = self
            .waiting
            .iter()
            .position(|waiting| waiting.notice.reason.severity() == Severity::Normal);
        let Some(at) = oldest_normal else {
            return Some((severity, "full"));
        };
        self.waiting.remove(at);
        self.waiting.push_back(event);
        Some((Severity::Normal, "full"))
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.waiting.pop_front()
    }

    fn normal_allowed(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + passed * NORMAL_PER_SECOND).min(NORMAL_BURST);
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }

    fn told_enough(&mut self, event: &Waiting, now: Instant) -> Option<Why> {
        if self.told.len() >= REMEMBERED {
            self.told.retain(|_, told| now.saturating_duration_since(told.since) < MEMORY);
            if self.told.len() >= REMEMBERED {
                self.told.clear();
            }
        }
        let fresh = Told {
            since: now,
            count: 0,
            what: Vec::new(),
        };
        let told = self.told.entry(event.object.uid.as_str().to_owned()).or_insert(fresh);
        if now.saturating_duration_since(told.since) >= MEMORY {
            *told = Told {
                since: now,
                count: 0,
                what: Vec::new(),
            };
        }
        let mut hasher = DefaultHasher::new();
        (event.notice.reason.as_str(), &event.notice.note).hash(&mut hasher);
        let what = hasher.finish();
        if told.what.contains(&what) {
            return Some("repeat");
        }
        if told.count >= PER_OBJECT {
            return Some("flood");
        }
        told.count += 1;
        told.what.push(what);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::Kind;
    use crds::events::EventReason;
    use store::ResourceUid;

    fn event(object: usize, reason: EventReason, note: &str) -> Waiting {
        Waiting {
            object: Object {
                kind: Kind::WitheringToken,
                namespace: "a".to_owned(),
                name: format!("t{object}"),
                uid: ResourceUid::new(format!("u{object}")),
                generation: 1,
            },
            notice: Notice {
                reason,
                note: note.to_owned(),
            },
        }
    }

    #[test]
    fn a_repeat_is_told_once_in_ten_minutes() {
        let now = Instant::now();
        let mut queue = Queue::new(now);
        let warning = || event(1, EventReason::SecretConflict, "taken");
        assert_eq!(queue.push(warning(), now), None);
        assert_eq!(queue.push(warning(), now + MEMORY / 2), Some((Severity::Warning, "repeat")));
        assert_eq!(queue.push(event(1, EventReason::SecretConflict, "by another"), now), None);
        assert_eq!(queue.push(warning(), now + MEMORY), None);
    }

    #[test]
    fn normal_events_beyond_the_rate_are_dropped_and_warnings_are_not() {
        let now = Instant::now();
        let mut queue = Queue::new(now);
        let normal = |object| event(object, EventReason::TokenIssued, "issued");
        let dropped = (0..150).filter(|object| queue.push(normal(*object), now).is_some()).count();
        assert_eq!(dropped, 50);
        assert_eq!(queue.push(event(999, EventReason::RowMissing, "lost"), now), None);
        assert_eq!(queue.push(normal(500), now + Duration::from_secs(1)), None);
    }

    #[test]
    fn a_warning_takes_the_place_of_the_oldest_normal_event() {
        let now = Instant::now();
        let mut queue = Queue::new(now);
        queue.push(event(0, EventReason::TokenIssued, "issued"), now);
        for object in 1..ROOM {
            assert_eq!(queue.push(event(object, EventReason::RowMissing, "lost"), now), None);
        }
        assert_eq!(
            queue.push(event(7_000, EventReason::TokenIssued, "issued"), now),
            Some((Severity::Normal, "full"))
        );
        assert_eq!(
            queue.push(event(7_001, EventReason::RowMissing, "lost"), now),
            Some((Severity::Normal, "full"))
        );
        assert_eq!(
            queue.push(event(7_002, EventReason::RowMissing, "lost"), now),
            Some((Severity::Warning, "full"))
        );
        assert_eq!(queue.pop().map(|event| event.object.name), Some("t1".to_owned()));
    }

    #[test]
    fn one_object_cannot_flood() {
        let now = Instant::now();
        let mut queue = Queue::new(now);
        let dropped = (0..40)
            .filter(|n| queue.push(event(1, EventReason::SecretTampered, &n.to_string()), now).is_some())
            .count();
        assert_eq!(dropped, 15);
    }
}

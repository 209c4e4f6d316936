//! Conditions of the three kinds: their types, and the merge that moves `lastTransitionTime` only when a status changes.
//! It refuses to know why a condition holds, what time it is, and how status is written.

use jiff::Timestamp;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::Reason;
use crate::closed_set::closed_set;

/// The longest message that `metav1.Condition` takes, in bytes.
pub const MAX_MESSAGE: usize = 32_768;

closed_set! {
    /// What a condition is about. `Reconciling`, `Stalled`, `Exhausted` and `Issuing` are set while true and absent otherwise.
    pub enum ConditionType {
        /// The spec is valid and taken.
        Accepted,
        /// All references were found and may be used.
        ResolvedRefs,
        /// The fleet's database is reached, claimed and writable.
        DatabaseReady,
        /// The database's schema is at this release's version.
        Migrated,
        /// What the spec says is in force on every replica that counts.
        Programmed,
        /// At least one replica serves.
        Available,
        /// Replicas are being replaced.
        Progressing,
        /// Something works less well than it should.
        Degraded,
        /// The project takes requests.
        Active,
        /// The Secret holds the value of the active revision.
        Delivered,
        /// A revision is being issued.
        Issuing,
        /// maxRequests is used up.
        Exhausted,
        /// The summary: everything that this kind promises holds.
        Ready,
        /// kstatus: work is under way.
        Reconciling,
        /// kstatus: nothing will change until somebody acts.
        Stalled,
    }
}

closed_set! {
    /// The status of a condition.
    pub enum ConditionStatus {
        /// It holds.
        True,
        /// It does not hold.
        False,
        /// Not known, for example because the database does not answer.
        Unknown,
    }
}

/// A condition as decided, before it meets the one that stands in status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub about: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, as a word.
    pub reason: Reason,
    /// Why, as a sentence that says what to do. Never holds a secret value.
    pub message: String,
}

impl Finding {
    /// A condition that holds.
    #[must_use]
    pub fn holds(about: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            about,
            status: ConditionStatus::True,
            reason,
            message: message.into(),
        }
    }

    /// A condition that does not hold.
    #[must_use]
    pub fn fails(about: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            about,
            status: ConditionStatus::False,
            reason,
            message: message.into(),
        }
    }

    /// A condition of which nothing can be said.
    #[must_use]
    pub fn unknown(about: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            about,
            status: ConditionStatus::Unknown,
            reason,
            message: message.into(),
        }
    }
}

/// The conditions to write: exactly those found, in the order found. `lastTransitionTime` is kept where the status is the one that `current`
/// has, and is `now` (whole seconds, as the API stores it) elsewhere. If nothing changed the result equals `current`, so that the write can be
/// left out. Types that were not found are dropped: whoever calls this owns the list.
#[must_use]
pub fn merge(current: &[Condition], findings: &[Finding], generation: i64, now: Timestamp) -> Vec<Condition> {
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    findings
        .iter()
        .map(|finding| {
            let before = current
                .iter()
                .find(|old| old.type_ == finding.about.as_str() && old.status == finding.status.as_str());
            Condition {
                last_transition_time: before.map_or_else(|| now.clone(), |old| old.last_transition_time.clone()),
                message: finding.message[..finding.message.floor_char_boundary(MAX_MESSAGE)].to_owned(),
                observed_generation: Some(generation),
                reason: finding.reason.as_str().to_owned(),
                status: finding.status.as_str().to_owned(),
                type_: finding.about.as_str().to_owned(),
            }
        })
        .collect()
}

/// The condition of a type, if it stands in the list.
#[must_use]
pub fn find(conditions: &[Condition], about: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == about.as_str())
}

/// Whether a condition holds for the spec of this generation: a verdict on an older spec does not count.
#[must_use]
pub fn holds(conditions: &[Condition], about: ConditionType, generation: i64) -> bool {
    find(conditions, about).is_some_and(|found| found.status == "True" && found.observed_generation == Some(generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn ready(message: &str) -> Finding {
        Finding::holds(ConditionType::Ready, Reason::Issued, message)
    }

    #[test]
    fn the_time_moves_only_when_the_status_changes() {
        let first = merge(&[], &[ready("one")], 1, at("2026-01-01T00:00:00Z"));
        let reworded = merge(&first, &[ready("two")], 2, at("2026-01-01T00:01:00Z"));
        assert_eq!(reworded[0].last_transition_time, first[0].last_transition_time);
        assert_eq!((reworded[0].message.as_str(), reworded[0].observed_generation), ("two", Some(2)));

        let failed = merge(
            &reworded,
            &[Finding::fails(ConditionType::Ready, Reason::Expired, "over")],
            2,
            at("2026-01-01T00:02:00Z"),
        );
        assert_eq!(failed[0].last_transition_time.0, at("2026-01-01T00:02:00Z"));
    }

    #[test]
    fn nothing_new_merges_to_what_stood_before_even_through_the_api() {
        let written = merge(&[], &[ready("same")], 1, at("2026-01-01T00:00:00.987654321Z"));
        let read_back: Vec<Condition> = serde_json::from_value(serde_json::to_value(&written).unwrap()).unwrap();
        assert_eq!(read_back, written, "the time is in whole seconds, rounded down");
        assert_eq!(merge(&read_back, &[ready("same")], 1, at("2026-02-02T00:00:00Z")), read_back);
    }

    #[test]
    fn what_is_not_found_any_more_is_dropped_and_order_is_kept() {
        let stalled = Finding::holds(ConditionType::Stalled, Reason::InvalidSpec, "fix it");
        let before = merge(&[], &[stalled.clone(), ready("a")], 1, at("2026-01-01T00:00:00Z"));
        assert_eq!(before.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(), ["Stalled", "Ready"]);
        let after = merge(&before, &[ready("a")], 1, at("2026-01-01T00:00:09Z"));
        assert_eq!(after, before[1..]);
    }

    #[test]
    fn a_verdict_on_an_older_spec_does_not_count() {
        let conditions = merge(&[], &[ready("a")], 3, at("2026-01-01T00:00:00Z"));
        assert!(holds(&conditions, ConditionType::Ready, 3));
        assert!(!holds(&conditions, ConditionType::Ready, 4));
        assert!(!holds(&conditions, ConditionType::Accepted, 3));
    }

    #[test]
    fn a_message_is_cut_to_what_the_api_takes() {
        let merged = merge(&[], &[ready(&"ä".repeat(MAX_MESSAGE))], 1, at("2026-01-01T00:00:00Z"));
        assert_eq!(merged[0].message.len(), MAX_MESSAGE);
    }
}

//! Who leads, decided from what was seen of the Lease and when on this process's own clock. It refuses to know clocks of others, I/O and the API:
//! a Lease whose record has not changed for its duration is free, whatever times stand in it.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;

use crate::cluster::options::LeaseTiming;

/// What to do next about the Lease.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Create it with this spec; somebody else's creation wins.
    Create(LeaseSpec),
    /// Replace it, if it still is what was seen, by one with this spec.
    Take(LeaseSpec),
    /// It is ours: replace it by one with this spec.
    Renew(LeaseSpec),
    /// Somebody else holds it, for at most so long unless renewed.
    Wait(Duration),
}

/// What a process has seen of the Lease.
#[derive(Debug)]
pub(super) struct Election {
    identity: String,
    timing: LeaseTiming,
    seen: Option<Seen>,
}

/// The last seen Lease, and since when it has not changed.
#[derive(Debug)]
struct Seen {
    lease: Lease,
    since: Instant,
}

impl Election {
    /// Nothing seen yet. `identity` must be no other process's.
    pub(super) fn new(identity: String, timing: LeaseTiming) -> Self {
        Self {
            identity,
            timing,
            seen: None,
        }
    }

    /// Notes what was read, or none if there is no Lease. A record that is the same as before keeps its age.
    pub(super) fn saw(&mut self, lease: Option<Lease>, now: Instant) {
        self.seen = lease.map(|lease| match self.seen.take() {
            Some(before) if before.lease.spec == lease.spec && before.lease.metadata.uid == lease.metadata.uid => Seen { lease, since: before.since },
            _ => Seen { lease, since: now },
        });
    }

    /// The last seen Lease.
    pub(super) fn lease(&self) -> Option<&Lease> {
        self.seen.as_ref().map(|seen| &seen.lease)
    }

    /// Whether the last seen Lease is this process's.
    pub(super) fn is_held(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| holder(&seen.lease) == Some(self.identity.as_str()))
    }

    /// What to do; `wall` is only for the times that people read.
    pub(super) fn step(&self, now: Instant, wall: Timestamp) -> Step {
        let Some(seen) = &self.seen else {
            return Step::Create(self.spec(None, wall));
        };
        let before = seen.lease.spec.as_ref();
        if self.is_held() {
            return Step::Renew(self.spec(before, wall));
        }
        let free_at = match holder(&seen.lease) {
            None => now,
            Some(_) => seen.since + self.promised(before),
        };
        match free_at.saturating_duration_since(now) {
            Duration::ZERO => Step::Take(self.spec(before, wall)),
            left => Step::Wait(left),
        }
    }

    /// The spec that gives the Lease up: free for everybody at once.
    pub(super) fn released(&self, wall: Timestamp) -> Option<LeaseSpec> {
        let before = self.seen.as_ref().filter(|_| self.is_held())?.lease.spec.as_ref();
        Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            ..self.spec(before, wall)
        })
    }

    /// How long its holder promised to keep it without a renewal; what this process was told if nothing usable stands there.
    fn promised(&self, spec: Option<&LeaseSpec>) -> Duration {
        spec.and_then(|spec| spec.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| (1..=3600).contains(seconds))
            .map_or(self.timing.duration, Duration::from_secs)
    }

    fn spec(&self, before: Option<&LeaseSpec>, wall: Timestamp) -> LeaseSpec {
        let held = before.filter(|_| self.is_held());
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: held.and_then(|spec| spec.acquire_time.clone()).or(Some(MicroTime(wall))),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(if held.is_some() || before.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..before.cloned().unwrap_or_default()
        }
    }
}

/// Who holds it; an empty name is nobody.
fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    const SECOND: Duration = Duration::from_secs(1);

    fn wall(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn lease(spec: LeaseSpec) -> Lease {
        Lease {
            metadata: ObjectMeta {
                uid: Some("u".to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        }
    }

    fn of(holder: &str, renewed: i64) -> Lease {
        lease(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(wall(renewed))),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        })
    }

    fn me() -> Election {
        Election::new("me".to_owned(), LeaseTiming::default())
    }

    #[test]
    fn a_missing_lease_is_created() {
        let Step::Create(spec) = me().step(Instant::now(), wall(7)) else {
            panic!("not created")
        };
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("me"), Some(0)));
    }

    #[test]
    fn somebody_elses_lease_is_taken_only_when_it_has_not_changed_for_its_duration() {
        let (mut election, start) = (me(), Instant::now());
        election.saw(Some(of("other", 0)), start);
        assert_eq!(election.step(start + SECOND, wall(0)), Step::Wait(14 * SECOND));
        // Seen again without a change: its age goes on.
        election.saw(Some(of("other", 0)), start + 10 * SECOND);
        assert_eq!(election.step(start + 10 * SECOND, wall(0)), Step::Wait(5 * SECOND));
        // Renewed: it begins anew, whatever the other's clock says.
        election.saw(Some(of("other", -900)), start + 14 * SECOND);
        assert_eq!(election.step(start + 15 * SECOND, wall(0)), Step::Wait(14 * SECOND));
        let Step::Take(spec) = election.step(start + 29 * SECOND, wall(0)) else {
            panic!("not taken")
        };
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("me"), Some(4)));
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let (mut election, now) = (me(), Instant::now());
        election.saw(Some(of("", 0)), now);
        assert!(matches!(election.step(now, wall(0)), Step::Take(_)));
    }

    #[test]
    fn a_renewal_keeps_the_time_of_the_acquisition_and_counts_no_transition() {
        let (mut election, now) = (me(), Instant::now());
        let Step::Create(created) = election.step(now, wall(1)) else {
            panic!("not created")
        };
        election.saw(Some(lease(created.clone())), now);
        let Step::Renew(renewed) = election.step(now + SECOND, wall(2)) else {
            panic!("not renewed")
        };
        assert_eq!((renewed.acquire_time, renewed.lease_transitions), (created.acquire_time, Some(0)));
        assert_eq!(renewed.renew_time, Some(MicroTime(wall(2))));
        let released = election.released(wall(3)).unwrap();
        assert_eq!(
            (released.holder_identity.as_deref(), released.lease_duration_seconds),
            (Some(""), Some(1))
        );
    }

    #[test]
    fn what_is_not_ours_is_not_released() {
        let mut election = me();
        election.saw(Some(of("other", 0)), Instant::now());
        assert_eq!(election.released(wall(3)), None);
    }

    #[test]
    fn a_holders_own_longer_promise_is_kept() {
        let (mut election, now) = (me(), Instant::now());
        let mut longer = of("other", 0);
        longer.spec.as_mut().unwrap().lease_duration_seconds = Some(60);
        election.saw(Some(longer), now);
        assert_eq!(election.step(now, wall(0)), Step::Wait(60 * SECOND));
    }
}

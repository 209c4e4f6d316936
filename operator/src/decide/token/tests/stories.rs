//! Whatever happens to a token, in whatever order, and wherever the process dies: it settles, and then it is what its spec says.

use proptest::prelude::*;

use super::*;

/// What people, time and other controllers do.
#[derive(Clone, Copy, Debug)]
enum Act {
    Trigger(u8),
    Overlap(u8),
    Formats(u8),
    Delete,
    Tamper,
    Wait(i64),
    /// The process dies before its next effect but so many.
    Crash(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0_u8..3).prop_map(Act::Trigger),
        (0_u8..3).prop_map(Act::Overlap),
        (0_u8..3).prop_map(Act::Formats),
        Just(Act::Delete),
        Just(Act::Tamper),
        (1_i64..90).prop_map(|minutes| Act::Wait(minutes * MINUTE)),
        (0_usize..6).prop_map(Act::Crash),
    ]
}

/// A token in a world of one row and one Secret.
struct World {
    seen: TokenObserved,
    /// Why each revision but the first was issued: how many renewals, and how many in all.
    renewals: i64,
}

impl World {
    fn new() -> Self {
        Self {
            seen: declared(),
            renewals: 0,
        }
    }

    fn happen(&mut self, act: Act) {
        let mut rotation = self.seen.resource.spec.rotation.clone().unwrap_or_default();
        match act {
            Act::Trigger(number) => rotation.trigger = Some(format!("t{number}")),
            Act::Overlap(number) => rotation.overlap = [None, Some("0s".to_owned()), Some("5m".to_owned())][usize::from(number)].clone(),
            Act::Formats(number) => {
                self.seen.formats = [SecretFormat::ALL.to_vec(), vec![SecretFormat::Raw], vec![SecretFormat::OpenAI]][usize::from(number)].clone();
            }
            Act::Delete => self.seen.secret = SecretSeen::Absent,
            Act::Tamper => {
                // Before the first value is on its way, a Secret of that name would be somebody's own.
                let rows = self.seen.row.as_ref().map_or(&[][..], |row| &row.revisions);
                if rows.iter().any(|each| each.write_begun) {
                    self.seen.secret = altered();
                }
            }
            Act::Wait(ms) => self.seen.resource.now = self.seen.resource.now.plus_ms(ms),
            Act::Crash(effects) => {
                self.steps(effects);
                self.seen.resource.memory = Memory::default();
            }
        }
        self.seen.resource.spec.rotation = Some(rotation);
    }

    /// Performs at most so many effects; whether none is left.
    fn steps(&mut self, most: usize) -> bool {
        for _ in 0..most {
            let Some(effect) = decide(&self.seen).effect else { return true };
            self.perform(&effect);
            let now = self.seen.resource.now;
            self.seen.resource.memory.note(&effect, None, now);
            self.seen.minted = TokenValue::mint();
        }
        decide(&self.seen).effect.is_none()
    }

    /// As store and executor perform them.
    fn perform(&mut self, effect: &Effect) {
        let now = self.seen.resource.now;
        match effect {
            Effect::InsertPending { revision: new, value } => {
                let pending = RevisionView {
                    issued_at: now,
                    ends_at: now.plus_ms(new.ttl_ms),
                    rotation_trigger: new.rotation_trigger.clone(),
                    ..revision(new.revision, RevisionState::Pending, value)
                };
                if self.seen.row.is_none() {
                    self.seen.row = Some(row(&self.seen, Vec::new()));
                }
                self.renewals += i64::from(new.period > edit(&mut self.seen).period);
                edit(&mut self.seen).period = new.period;
                let rows = revisions(&mut self.seen);
                rows.retain(|old| old.revision != new.revision || old.state != RevisionState::Pending || old.write_begun);
                rows.push(pending);
            }
            Effect::BeginSecretWrite { digest, .. } => {
                let begun = revisions(&mut self.seen).iter_mut().find(|each| each.digest == *digest);
                begun.expect("the pending row").write_begun = true;
            }
            Effect::WriteSecret(write) => {
                self.seen.secret = SecretSeen::Present(SecretContent {
                    version: SecretVersion(format!("{}{:?}{now:?}", write.value.prefix(), write.formats)),
                    value: Some(write.value.clone()),
                    owned: None,
                    is_ours: None,
                    formats: write.formats.clone(),
                    base_url: write.formats.contains(&SecretFormat::OpenAI).then(|| write.base_url.clone()),
                });
            }
            Effect::Activate { digest, overlap_ms, .. } => {
                for each in revisions(&mut self.seen) {
                    if each.digest == *digest {
                        each.state = RevisionState::Active;
                    } else if each.state == RevisionState::Active && each.ends_at.min(now.plus_ms(*overlap_ms)) > now {
                        (each.state, each.ends_at) = (RevisionState::Previous, each.ends_at.min(now.plus_ms(*overlap_ms)));
                    } else {
                        (each.state, each.ends_at) = (RevisionState::Ended, each.ends_at.min(now));
                    }
                }
            }
            Effect::SetStatus(Status::Token(status)) => self.seen.resource.status = Some(status.clone()),
            Effect::Emit(_) => {}
            other => panic!("no story leads to {other:?}"),
        }
    }

    fn live(&self, state: RevisionState) -> Vec<&RevisionView> {
        let (row, now) = (self.seen.row.as_ref().expect("a row"), self.seen.resource.now);
        row.revisions.iter().filter(|each| each.state == state && each.ends_at > now).collect()
    }
}

proptest! {
    #[test]
    fn every_story_settles_and_then_the_secret_holds_the_one_active_value(acts in proptest::collection::vec(act(), 0..25)) {
        let mut world = World::new();
        for act in acts {
            world.happen(act);
            // Repairs may be held back; anything else is done by now.
            prop_assert!(matches!(act, Act::Crash(_)) || world.steps(64), "does not settle after {:?}", act);
        }
        world.steps(64);
        // What is held back, by an overlap or a fight for the Secret, comes when its time has come.
        for _ in 0..8 {
            let now = world.seen.resource.now;
            let waits = world.seen.resource.memory.contention.until(now);
            let overlaps = world.live(RevisionState::Previous).iter().map(|each| each.ends_at).max();
            if let Some(until) = [waits, overlaps].into_iter().flatten().min() {
                world.seen.resource.now = until;
            }
            prop_assert!(world.steps(64));
        }
        let active = world.live(RevisionState::Active);
        prop_assert_eq!(active.len(), 1);
        prop_assert!(world.live(RevisionState::Previous).len() <= 1 && world.live(RevisionState::Pending).is_empty());
        let SecretSeen::Present(content) = &world.seen.secret else { panic!("no Secret") };
        prop_assert!(content.value.as_ref().map(TokenValue::digest) == Some(active[0].digest));
        prop_assert_eq!(&content.formats, &world.seen.formats);
        if let Some(wanted) = world.seen.resource.spec.trigger() {
            prop_assert_eq!(active[0].rotation_trigger.as_deref(), Some(wanted));
        }
        let period = world.seen.row.as_ref().map_or(0, |row| row.period);
        prop_assert_eq!(period, 1 + world.renewals);
        let status = world.seen.resource.status.as_ref().expect("a status");
        prop_assert_eq!(reason(status, ConditionType::Ready).0, "True");
    }
}

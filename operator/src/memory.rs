//! What a process remembers about one resource between two effects. Losing it all (a crash) may cost a further revision, never a wrong one.
//! It refuses to know what is decided from it.

mod contention;

use crds::SecretFormat;
use crds::events::EventReason;
use store::{DbTime, FeedVersion, TokenValue};

pub use self::contention::Contention;
use crate::effect::Effect;
use crate::fleet::FleetEffect;

/// How long the first pause after a failed effect lasts, in ms; each further failure doubles it up to [`LONGEST_PAUSE_MS`].
const FIRST_PAUSE_MS: i64 = 1_000;
/// The longest pause between two attempts, in ms.
const LONGEST_PAUSE_MS: i64 = 60_000;

/// The remembered facts of one resource.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// A minted value whose pending row stands and that is not yet activated (contracts.md §2).
    pub in_hand: Option<TokenValue>,
    /// Events told since the status was last set, so that each is told once.
    pub told: Vec<EventReason>,
    /// The version of this process's last change of the fleet's providers.
    pub pushed: Option<FeedVersion>,
    /// A migration that this process ran and that nobody was told of yet.
    pub migrated: bool,
    /// The last effect outside the database that failed, until one succeeds.
    pub setback: Option<Setback>,
    /// What was last written beside the value.
    pub written: Option<Dress>,
    /// How often the Secret had to be repaired.
    pub contention: Contention,
}

/// What stands in a Secret beside the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dress {
    /// In which formats the value stands there.
    pub formats: Vec<SecretFormat>,
    /// The base URL.
    pub base_url: String,
    /// Whether the Secret goes with its token.
    pub owned: bool,
}

/// A failed write of a Secret, and when to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setback {
    /// What went wrong and what to do.
    pub why: String,
    /// Not before this moment.
    pub retry_at: DbTime,
    /// How many attempts failed in a row.
    pub failures: u32,
}

impl Memory {
    /// Notes an effect that was performed; `version` is the feed version that it made, if any, and `now` the moment of its observation.
    pub fn note(&mut self, effect: &Effect, version: Option<FeedVersion>, now: DbTime) {
        match effect {
            Effect::InsertPending { value, .. } => self.in_hand = Some(value.clone()),
            Effect::Activate { .. } | Effect::Revoke { .. } => self.in_hand = None,
            Effect::WriteSecret(write) => {
                self.setback = None;
                self.written = Some(Dress {
                    formats: write.formats.clone(),
                    base_url: write.base_url.clone(),
                    owned: write.owned,
                });
                if write.repair {
                    self.contention.note(now);
                }
            }
            Effect::DeleteSecret { .. } => self.setback = None,
            Effect::PutProviders(_) => self.pushed = version,
            Effect::Fleet(effect) => {
                self.setback = None;
                match effect {
                    FleetEffect::GenerateSecret(_) => self.told.retain(|told| *told != EventReason::ManagementSecretGenerated),
                    FleetEffect::Migrate => self.migrated = true,
                    _ => {}
                }
            }
            Effect::Emit(notice) if notice.reason == EventReason::MigrationFinished => self.migrated = false,
            Effect::Emit(notice) => self.told.push(notice.reason),
            Effect::SetStatus(_) => self.told.clear(),
            _ => {}
        }
    }

    /// Notes that an effect outside the database failed.
    pub fn note_failure(&mut self, why: String, now: DbTime) {
        let failures = self.setback.as_ref().map_or(0, |before| before.failures).saturating_add(1);
        let pause = FIRST_PAUSE_MS
            .saturating_mul(1_i64 << failures.saturating_sub(1).min(16))
            .min(LONGEST_PAUSE_MS);
        self.setback = Some(Setback {
            why,
            retry_at: now.plus_ms(pause),
            failures,
        });
    }

    /// The setback whose pause is not over.
    #[must_use]
    pub fn pausing(&self, now: DbTime) -> Option<&Setback> {
        self.setback.as_ref().filter(|setback| now < setback.retry_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_a_minute() {
        let mut memory = Memory::default();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            memory.note_failure("disk full".to_owned(), DbTime(0));
            pauses.extend(memory.setback.as_ref().map(|setback| setback.retry_at.0));
        }
        assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert!(memory.pausing(DbTime(59_999)).is_some() && memory.pausing(DbTime(60_000)).is_none());
    }
}

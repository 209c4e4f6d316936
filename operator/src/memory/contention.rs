//! How often a Secret had to be repaired, and how long to wait before the next repair: two that write against each other must not do so at full
//! speed. Figures: three repairs are free, then the pause doubles from a minute up to an hour. It refuses to know what was repaired.

use store::DbTime;

/// Repairs that are made at once.
const FREE_REPAIRS: u32 = 3;
/// The pause after the last free one, in ms; each further repair doubles it up to [`LONGEST_PAUSE_MS`].
const FIRST_PAUSE_MS: i64 = 60_000;
/// The longest pause, in ms.
const LONGEST_PAUSE_MS: i64 = 3_600_000;
/// After so long without a repair, beyond the pause, all of them are forgotten, in ms.
const FORGOTTEN_AFTER_MS: i64 = 3_600_000;

/// The repairs of one Secret without an hour of quiet in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contention {
    /// How many there were.
    repairs: u32,
    /// When the last one was.
    last: Option<DbTime>,
}

impl Contention {
    /// Notes a repair.
    pub fn note(&mut self, now: DbTime) {
        let quiet = self
            .last
            .is_none_or(|last| now >= last.plus_ms(self.pause_ms().saturating_add(FORGOTTEN_AFTER_MS)));
        self.repairs = if quiet { 1 } else { self.repairs.saturating_add(1) };
        self.last = Some(now);
    }

    /// How many repairs there were without an hour of quiet in between.
    #[must_use]
    pub fn repairs(&self) -> u32 {
        self.repairs
    }

    /// Before when no further repair is made, if that moment has not come.
    #[must_use]
    pub fn until(&self, now: DbTime) -> Option<DbTime> {
        let until = self.last?.plus_ms(self.pause_ms());
        (now < until).then_some(until)
    }

    fn pause_ms(&self) -> i64 {
        let Some(beyond) = self.repairs.checked_sub(FREE_REPAIRS) else {
            return 0;
        };
        FIRST_PAUSE_MS.saturating_mul(1_i64 << beyond.min(16)).min(LONGEST_PAUSE_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_three_repairs_the_pause_doubles_from_a_minute_to_an_hour() {
        let mut contention = Contention::default();
        let mut now = DbTime(5);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            contention.note(now);
            let until = contention.until(now).unwrap_or(now);
            pauses.push(until.ms_since(now) / 60_000);
            now = until;
        }
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(contention.repairs(), 10);
    }

    #[test]
    fn an_hour_of_quiet_beyond_the_pause_forgets_them() {
        let mut contention = Contention::default();
        for _ in 0..3 {
            contention.note(DbTime(0));
        }
        let mut later = contention;
        later.note(DbTime(60_000 + 3_599_999));
        assert_eq!(later.repairs(), 4);
        contention.note(DbTime(60_000 + 3_600_000));
        assert_eq!((contention.repairs(), contention.until(DbTime(60_000 + 3_600_000))), (1, None));
    }
}

//! What the ledger knows of one block of this process, and the arithmetic between the two. It refuses to know how they talk.
//!
//! At every moment `amount` = spent + taken and not settled + available: units leave it only by [`Held::give_back`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use store::{LeaseAnswer, LeaseReport};

use crate::block::{Block, Standing};

/// A block that nobody takes from goes back after this.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// A live lease is renewed this often; it lasts 30 s.
const RENEW_AFTER: Duration = Duration::from_secs(10);
/// A block begins with units for at most this many uses and is made to last for [`BLOCK_LASTS`] at the rate at which it is used: a round trip then pays
/// for many requests. The ledger caps it by what is free, so blocks still shrink to 1 near the end.
const FIRST_BLOCK: u64 = 256;
/// A kill costs what was leased, so a token that is used slowly has little out.
const SMALLEST_BLOCK: u64 = 16;
const LARGEST_BLOCK: u64 = 16_384;
const BLOCK_LASTS: Duration = Duration::from_secs(8);
/// From one block to the next it grows or shrinks at most so much.
const GROWTH: u64 = 8;
/// A block that was not taken from for so long, and of which nothing is out, is forgotten once no grant refers to it.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// One block and what was told of it.
pub(super) struct Held {
    pub(super) block: Arc<Block>,
    /// What this process had spent of the quota before this block was made, as the ledger remembers it; known with the first answer.
    before: Option<u64>,
    /// Cumulative units that this process claims, without those of `before`.
    amount: u64,
    /// The same for what was used beyond what was leased.
    overrun_before: u64,
    /// Of this block, without those of `before`.
    reported_spent: u64,
    reported_overrun: u64,
    reported_at: Instant,
    /// For noticing idleness.
    seen_taken: u64,
    taken_at: Instant,
    /// The last report failed: what the ledger believes may differ.
    unsettled: bool,
    /// Another holder waits: what is not taken goes back at the next settle.
    wanted: bool,
    /// The size of block to ask for, in uses; when the last one was granted, and what had been taken until then.
    appetite: u64,
    granted_at: Option<(Instant, u64)>,
}

impl Held {
    pub(super) fn new(block: Arc<Block>, now: Instant) -> Self {
        Self {
            block,
            before: None,
            amount: 0,
            overrun_before: 0,
            reported_spent: 0,
            reported_overrun: 0,
            reported_at: now,
            seen_taken: 0,
            taken_at: now,
            unsettled: false,
            wanted: false,
            appetite: FIRST_BLOCK,
            granted_at: None,
        }
    }

    /// A report that asks for a block, of which somebody needs at least so many units; 0 if nobody waits.
    pub(super) fn request(&self, units: u64) -> LeaseReport {
        let per_use = self.block.per_use();
        let need = units.saturating_sub(self.block.available()).max(if units == 0 { per_use } else { 1 });
        self.report(self.appetite.saturating_mul(per_use).max(need), need)
    }

    /// A report that asks for nothing.
    pub(super) fn settlement(&self) -> LeaseReport {
        self.report(0, 0)
    }

    fn report(&self, want: u64, need: u64) -> LeaseReport {
        let before = self.before.unwrap_or(0);
        LeaseReport {
            quota: self.block.quota,
            spent: before.saturating_add(self.block.spent()),
            amount: before.saturating_add(self.amount),
            overrun: self.overrun_before.saturating_add(self.block.overrun()),
            want,
            need,
        }
    }

    /// Books the ledger's answer to `report`. Returns how many units came.
    pub(super) fn answered(&mut self, report: &LeaseReport, answer: &LeaseAnswer, now: Instant) -> u64 {
        let learned = match self.before {
            Some(_) => 0,
            None => answer.spent.saturating_sub(report.spent),
        };
        let overrun_learned = match self.before {
            Some(_) => 0,
            None => answer.overrun.saturating_sub(report.overrun),
        };
        self.overrun_before += overrun_learned;
        let before = *self.before.get_or_insert(learned);
        let claimed = report.amount.saturating_add(learned);
        // Never more than was asked for: the ledger does not shrink the figures of a lease that it has closed.
        let added = answer.amount.saturating_sub(claimed).min(report.want);
        self.amount += added;
        // A ledger that knows of less than we claim was restored from an older copy, or has closed this lease: it is believed.
        self.give_back(claimed.saturating_sub(answer.amount));
        self.reported_spent = report.spent.saturating_add(learned).saturating_sub(before);
        self.reported_overrun = report.overrun.saturating_add(overrun_learned).saturating_sub(self.overrun_before);
        self.reported_at = now;
        self.unsettled = false;
        self.wanted = answer.wanted;
        if added > 0 {
            self.taken_at = now;
            self.adapt(now);
        }
        let standing = Standing {
            max_units: answer.max_units,
            used: answer.used,
            forfeited: answer.forfeited,
            used_here: answer.spent.saturating_add(answer.overrun),
        };
        self.block.book(added, standing);
        self.tell_of_holding();
        added
    }

    /// No answer came: the ledger may have booked the report or not. The next one, with absolute figures, sets it right.
    pub(super) fn unanswered(&mut self) {
        self.unsettled = true;
    }

    /// Takes up to `most` units that nobody has taken out of the block; the next report gives them back. Returns how many.
    pub(super) fn give_back(&mut self, most: u64) -> u64 {
        let rest = self.block.withdraw(most);
        self.amount = self.amount.saturating_sub(rest);
        self.tell_of_holding();
        rest
    }

    /// What the block answers questions about what remains from.
    fn tell_of_holding(&self) {
        let before = self.before.unwrap_or(0).saturating_add(self.overrun_before);
        self.block.holds(before.saturating_add(self.amount));
    }

    /// Gives back what lies idle or what another holder waits for. Returns whether there was something.
    pub(super) fn give_back_unused(&mut self, now: Instant) -> bool {
        let taken = self.block.taken();
        if taken != self.seen_taken {
            self.seen_taken = taken;
            self.taken_at = now;
        }
        (self.wanted || now.duration_since(self.taken_at) >= IDLE_AFTER) && self.give_back(u64::MAX) > 0
    }

    /// Whether the ledger must hear of this block now: something was spent and the last report is `pace` old, or a lease must be renewed.
    pub(super) fn is_due(&self, now: Instant, pace: Duration) -> bool {
        let (spent, since) = (self.block.spent(), now.duration_since(self.reported_at));
        let is_news = spent > self.reported_spent || self.block.overrun() > self.reported_overrun;
        self.unsettled || (is_news && (self.wanted || since >= pace)) || (self.amount > spent && since >= RENEW_AFTER)
    }

    /// Whether nothing of it is out and nobody has used it for a while.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        let spent = self.block.spent();
        !self.unsettled
            && self.amount == spent
            && self.reported_spent == spent
            && self.reported_overrun == self.block.overrun()
            && self.block.taken() == self.seen_taken
            && now.duration_since(self.taken_at) >= FORGET_AFTER
    }

    /// Makes the next block last for [`BLOCK_LASTS`] at the rate at which this process has taken units since the last grant.
    fn adapt(&mut self, now: Instant) {
        let taken = self.block.taken();
        if let Some((at, taken_then)) = self.granted_at {
            let elapsed = now.duration_since(at).as_millis().max(1);
            let uses = taken.saturating_sub(taken_then) / self.block.per_use().max(1);
            let lasting = u128::from(uses) * BLOCK_LASTS.as_millis() / elapsed;
            let lasting = u64::try_from(lasting).unwrap_or(LARGEST_BLOCK);
            self.appetite = lasting
                .clamp(self.appetite / GROWTH, self.appetite.saturating_mul(GROWTH))
                .clamp(SMALLEST_BLOCK, LARGEST_BLOCK);
        }
        self.granted_at = Some((now, taken));
    }
}

#[cfg(test)]
mod tests {
    use store::{DbTime, LimitUnit, ProjectId, QuotaId};

    use super::*;
    use crate::block::Belonging;
    use crate::permit::{Permit, Share};

    const PACE: Duration = Duration::from_secs(1);

    /// A ledger that grants whatever it is asked for, up to `room`.
    fn answer(report: &LeaseReport, room: u64) -> LeaseAnswer {
        LeaseAnswer {
            quota: report.quota,
            amount: report.amount + report.want.min(room),
            spent: report.spent,
            overrun: report.overrun,
            max_units: 1_000,
            used: report.spent,
            forfeited: 0,
            wanted: false,
            exhausted: false,
            expires_at: DbTime(0),
        }
    }

    fn held(units: u64) -> (Held, Instant) {
        let now = Instant::now();
        let mut held = Held::new(Arc::new(Block::new(QuotaId(1), belonging(), 1_000)), now);
        let report = held.request(1);
        assert_eq!(held.answered(&report, &answer(&report, units), now), units);
        (held, now)
    }

    fn belonging() -> Belonging {
        Belonging {
            token: None,
            project: ProjectId::new(),
            ends_at: DbTime(i64::MAX),
            lifetime_requests: true,
        }
    }

    fn take(held: &Held, n: usize) -> Vec<Permit> {
        let take = |_| {
            assert!(held.block.take(1), "a unit");
            let mut permit = Permit::default();
            permit.add(Share::of(Arc::clone(&held.block), LimitUnit::Requests, 1));
            permit
        };
        (0..n).map(take).collect()
    }

    fn spend(mut permit: Permit) {
        permit.sent();
    }

    #[test]
    fn what_is_spent_taken_and_available_adds_up_to_what_is_claimed() {
        let (mut held, now) = held(10);
        take(&held, 3).into_iter().for_each(spend);
        let out = take(&held, 2);
        assert_eq!(held.give_back(u64::MAX), 5);
        let report = held.settlement();
        assert_eq!((report.spent, report.amount), (3, 5));
        held.answered(&report, &answer(&report, 0), now);
        drop(out);
        assert_eq!(held.block.available(), 2, "units that were never sent are here again");
        assert_eq!(held.give_back(u64::MAX), 2);
        assert_eq!((held.settlement().spent, held.settlement().amount), (3, 3));
    }

    #[test]
    fn an_unanswered_report_is_repeated_with_the_same_claim() {
        let (mut held, now) = held(10);
        held.give_back(4);
        let report = held.settlement();
        held.unanswered();
        assert!(held.is_due(now, PACE));
        assert_eq!(held.settlement(), report);
        held.answered(&report, &answer(&report, 0), now);
        assert!(!held.is_due(now, PACE));
    }

    #[test]
    fn units_granted_in_a_lost_answer_are_not_claimed() {
        let (mut held, _) = held(10);
        let lost = held.request(1);
        held.unanswered();
        assert_eq!(held.settlement().amount, lost.amount, "the ledger takes them back");
        assert_eq!(held.block.available(), 10);
    }

    #[test]
    fn a_ledger_that_knows_of_less_is_believed_and_nothing_leaks() {
        let (mut held, now) = held(10);
        take(&held, 2).into_iter().for_each(spend);
        // Restored from a copy that had never seen this holder: it books what was spent, and grants 3.
        let report = held.request(1);
        let restored = LeaseAnswer {
            amount: 2 + 3,
            ..answer(&report, 0)
        };
        held.answered(&report, &restored, now);
        assert_eq!((held.settlement().amount, held.block.available()), (5, 3));
        let report = held.request(1);
        assert_eq!(held.answered(&report, &answer(&report, 4), now), 4, "what it grants next arrives");
        assert_eq!((held.settlement().amount, held.block.available()), (9, 7));
    }

    #[test]
    fn a_closed_lease_gives_nothing_back_to_life() {
        let (mut held, now) = held(10);
        held.give_back(u64::MAX);
        let report = held.settlement();
        let closed = LeaseAnswer {
            amount: 10,
            ..answer(&report, 0)
        };
        assert_eq!(held.answered(&report, &closed, now), 0);
        assert_eq!((held.settlement().amount, held.block.available()), (0, 0));
    }

    #[test]
    fn what_another_holder_waits_for_goes_back_at_once_and_idle_units_after_a_while() {
        let (mut held, now) = held(10);
        assert!(!held.give_back_unused(now));
        let report = held.settlement();
        held.answered(
            &report,
            &LeaseAnswer {
                wanted: true,
                ..answer(&report, 0)
            },
            now,
        );
        assert!(held.give_back_unused(now));

        let (mut held, now) = self::held(10);
        take(&held, 1).into_iter().for_each(spend);
        assert!(!held.give_back_unused(now + Duration::from_millis(900)));
        assert!(!held.give_back_unused(now + Duration::from_millis(1_800)), "it was taken from since");
        assert!(held.give_back_unused(now + Duration::from_millis(2_000)));
    }

    #[test]
    fn blocks_grow_with_the_rate_and_shrink_again() {
        let (mut held, mut now) = held(FIRST_BLOCK);
        // 1,000 a second.
        for _ in 0..8 {
            now += Duration::from_millis(100);
            take(&held, 100).into_iter().for_each(spend);
            let report = held.request(1);
            held.answered(&report, &answer(&report, u64::MAX / 4), now);
        }
        assert_eq!(held.request(1).want, 8_000, "8 s at this rate");
        for _ in 0..8 {
            now += Duration::from_secs(3);
            take(&held, 3).into_iter().for_each(spend);
            let report = held.request(1);
            held.answered(&report, &answer(&report, u64::MAX / 4), now);
        }
        assert_eq!(held.request(1).want, SMALLEST_BLOCK);
    }

    #[test]
    fn what_was_spent_is_told_within_the_pace_and_at_once_where_somebody_waits() {
        let (mut held, now) = held(20);
        let after = |ms| now + Duration::from_millis(ms);
        take(&held, 1).into_iter().for_each(spend);
        assert!(!held.is_due(after(999), PACE) && held.is_due(after(1_000), PACE));
        let report = held.settlement();
        let waited_for = LeaseAnswer {
            wanted: true,
            ..answer(&report, 0)
        };
        held.answered(&report, &waited_for, now);
        take(&held, 1).into_iter().for_each(spend);
        assert!(held.is_due(now, PACE));
    }

    #[test]
    fn a_block_made_anew_goes_on_where_the_ledger_remembers_this_process() {
        let (mut first, mut now) = held(10);
        take(&first, 10).into_iter().for_each(spend);
        let report = first.settlement();
        first.answered(&report, &answer(&report, 0), now);
        assert!(!first.give_back_unused(now) && !first.is_forgettable(now));
        now += FORGET_AFTER;
        assert!(first.is_forgettable(now));

        let mut second = Held::new(Arc::new(Block::new(QuotaId(1), belonging(), 1_000)), now);
        let report = second.request(1);
        assert_eq!((report.spent, report.amount), (0, 0));
        // The ledger's row says 10 granted and 10 spent; it adds 4.
        let granted = LeaseAnswer {
            amount: 14,
            spent: 10,
            ..answer(&report, 0)
        };
        assert_eq!(second.answered(&report, &granted, now), 4);
        assert_eq!(second.block.available(), 4);
        take(&second, 3).into_iter().for_each(spend);
        assert_eq!(second.give_back(u64::MAX), 1);
        let report = second.settlement();
        assert_eq!((report.spent, report.amount), (13, 13));
    }
}

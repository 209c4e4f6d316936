//! A block of quota units leased by this process and shared by its data threads: taken at admission, spent when they were used, given back if
//! they were not. It refuses to know the ledger, which the settler fills and reports it to, and what a unit is worth.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use store::{DbTime, ProjectId, QuotaId, TokenId};

/// Whose limit it is, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Belonging {
    /// `None`: of the whole project.
    pub(crate) token: Option<TokenId>,
    pub(crate) project: ProjectId,
    /// Where the window ends on the database's clock; of a lifetime never.
    pub(crate) ends_at: DbTime,
    /// The token's lifetime requests, which no change of its project touches.
    pub(crate) lifetime_requests: bool,
}

/// What is left of the leased units, and what this process has ever spent.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) quota: QuotaId,
    pub(crate) belongs: Belonging,
    /// Units leased and not taken.
    available: AtomicU64,
    /// Cumulative since the process started; only grows.
    spent: AtomicU64,
    /// Used beyond what was leased, cumulative: known only afterwards, and booked all the same.
    overrun: AtomicU64,
    /// Cumulative units taken: tells the settler whether the block is idle, and how fast it is used.
    taken: AtomicU64,
    /// How many units one use takes, as the last one did: blocks are made for many of these.
    per_use: AtomicU64,
    /// The ledger has told how it stands, so that what cannot fit needs no round trip until a change comes.
    told: AtomicBool,
    /// A refill is on its way; one at a time.
    refilling: AtomicBool,
    /// Below this a refill is asked for in advance.
    low_water: AtomicU64,
    /// Units that the ledger has granted and not got back, without the overrun.
    granted: AtomicU64,
    max_units: AtomicU64,
    used: AtomicU64,
    forfeited: AtomicU64,
    /// Of `used`, what the ledger has booked on this process.
    used_here: AtomicU64,
    /// When the ledger was last asked again though it had said that nothing is left, in ms since the process started.
    asked_again_ms: AtomicU64,
    /// When the ledger last had nothing to give, in ms since the process started.
    empty_at_ms: AtomicU64,
    /// It was said once that a limit that only warns is passed.
    warned: AtomicBool,
}

/// How often the ledger is asked again after it said that nothing is left: what counts as lost comes back if its holder was only cut off.
const ASK_AGAIN_MS: u64 = 1_000;

/// How long a limit of requests in flight is taken to be full after the ledger said so: nothing tells when a place comes free elsewhere.
const EMPTY_FOR_MS: u64 = 20;

/// How a quota stood when the ledger was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) max_units: u64,
    /// By all processes.
    pub(crate) used: u64,
    /// Lost with processes that are dead or cut off.
    pub(crate) forfeited: u64,
    /// Of `used`, by this process.
    pub(crate) used_here: u64,
}

impl Standing {
    /// Whether so many units more will not fit, whatever else comes back.
    fn refuses(&self, units: u64) -> bool {
        self.used.saturating_add(self.forfeited).saturating_add(units) > self.max_units
    }
}

impl Block {
    pub(crate) fn new(quota: QuotaId, belongs: Belonging, max_units: u64) -> Self {
        Self {
            quota,
            belongs,
            available: AtomicU64::new(0),
            spent: AtomicU64::new(0),
            overrun: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            per_use: AtomicU64::new(1),
            told: AtomicBool::new(false),
            refilling: AtomicBool::new(false),
            low_water: AtomicU64::new(0),
            granted: AtomicU64::new(0),
            max_units: AtomicU64::new(max_units),
            used: AtomicU64::new(0),
            forfeited: AtomicU64::new(0),
            used_here: AtomicU64::new(0),
            asked_again_ms: AtomicU64::new(0),
            empty_at_ms: AtomicU64::new(0),
            warned: AtomicBool::new(false),
        }
    }

    /// Takes so many units, if they are here. Whether they were.
    pub(crate) fn take(&self, units: u64) -> bool {
        let took = self.available.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| n.checked_sub(units));
        if took.is_err() {
            return false;
        }
        self.taken.fetch_add(units, Ordering::Relaxed);
        true
    }

    /// Notes how many units one use takes, where uses differ.
    pub(crate) fn is_used_by(&self, units: u64) {
        self.per_use.store(units.max(1), Ordering::Relaxed);
    }

    /// Taken units that were not used.
    pub(crate) fn put_back(&self, units: u64) {
        self.available.fetch_add(units, Ordering::AcqRel);
    }

    /// So many units were taken, and so many were used. What is left over comes back; what is missing is taken out of the block, and what the
    /// block does not have is overrun.
    pub(crate) fn settle(&self, taken: u64, used: u64) {
        if used <= taken {
            self.spent.fetch_add(used, Ordering::AcqRel);
            if used < taken {
                self.put_back(taken - used);
            }
            return;
        }
        let found = self.withdraw(used - taken);
        self.spent.fetch_add(taken + found, Ordering::AcqRel);
        let missing = used - taken - found;
        if missing > 0 {
            self.overrun.fetch_add(missing, Ordering::AcqRel);
        }
    }

    /// Whether the caller should ask for a refill now: the block runs low and nobody has asked yet. Not near the limit's end, where blocks are
    /// tiny: a unit that nobody waits for would be missing where somebody does.
    pub(crate) fn claim_refill(&self) -> bool {
        self.low_water.load(Ordering::Relaxed) > 0 && self.is_low() && !self.refuses(self.per_use()) && !self.refilling.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn refill_done(&self) {
        self.refilling.store(false, Ordering::Release);
    }

    /// Whether so many units more will not fit, by the ledger's last word.
    pub(crate) fn refuses(&self, units: u64) -> bool {
        self.told.load(Ordering::Acquire) && self.standing().refuses(units)
    }

    /// Whether the caller should ask the ledger once more, though it said that so many units do not fit: part of the limit is only forfeited, and
    /// nobody has asked for a while.
    pub(crate) fn claim_second_look(&self, units: u64, now_ms: u64) -> bool {
        let Standing { max_units, used, .. } = self.standing();
        let last = self.asked_again_ms.load(Ordering::Relaxed);
        used.saturating_add(units) <= max_units
            && now_ms.saturating_sub(last) >= ASK_AGAIN_MS
            && self
                .asked_again_ms
                .compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// The ledger has nothing to give at this moment.
    pub(crate) fn was_empty(&self, now_ms: u64) {
        self.empty_at_ms.store(now_ms.max(1), Ordering::Relaxed);
    }

    /// Whether it had nothing a moment ago, so that a flood of requests need not ask for each.
    pub(crate) fn is_empty_for_now(&self, now_ms: u64) -> bool {
        let at = self.empty_at_ms.load(Ordering::Relaxed);
        at > 0 && self.available() == 0 && now_ms.saturating_sub(at) < EMPTY_FOR_MS
    }

    /// A changed limit, or a reload of the grant: ask the ledger again before refusing.
    pub(crate) fn reopen(&self, max_units: u64) {
        self.max_units.store(max_units, Ordering::Relaxed);
        self.told.store(false, Ordering::Release);
        self.warned.store(false, Ordering::Relaxed);
    }

    /// Takes up to `most` of what is left out of the block. Returns how much.
    pub(crate) fn withdraw(&self, most: u64) -> u64 {
        let took = self
            .available
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| Some(n - n.min(most)));
        took.map_or(0, |n| n.min(most))
    }

    /// Notes how many units the ledger has granted in all, for [`Self::remaining`].
    pub(crate) fn holds(&self, granted: u64) {
        self.granted.store(granted, Ordering::Relaxed);
    }

    /// Books what the ledger answered: `added` new units and the quota's figures.
    pub(crate) fn book(&self, added: u64, standing: Standing) {
        self.max_units.store(standing.max_units, Ordering::Relaxed);
        self.used.store(standing.used, Ordering::Relaxed);
        self.forfeited.store(standing.forfeited, Ordering::Relaxed);
        self.used_here.store(standing.used_here, Ordering::Relaxed);
        if added > 0 {
            self.low_water.store(added / 4, Ordering::Relaxed);
            self.available.fetch_add(added, Ordering::AcqRel);
        }
        self.told.store(true, Ordering::Release);
    }

    pub(crate) fn spent(&self) -> u64 {
        self.spent.load(Ordering::Acquire)
    }

    pub(crate) fn overrun(&self) -> u64 {
        self.overrun.load(Ordering::Acquire)
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    pub(crate) fn per_use(&self) -> u64 {
        self.per_use.load(Ordering::Relaxed)
    }

    pub(crate) fn available(&self) -> u64 {
        self.available.load(Ordering::Acquire)
    }

    /// Whether so little is left that a refill is due.
    pub(crate) fn is_low(&self) -> bool {
        self.available() <= self.low_water.load(Ordering::Relaxed)
    }

    /// How the quota stood at the last settlement.
    pub(crate) fn standing(&self) -> Standing {
        Standing {
            max_units: self.max_units.load(Ordering::Relaxed),
            used: self.used.load(Ordering::Relaxed),
            forfeited: self.forfeited.load(Ordering::Relaxed),
            used_here: self.used_here.load(Ordering::Relaxed),
        }
    }

    /// What is left of the limit, as far as this process can know: without what the others used up to the last settlement, and without what is used
    /// or under way here.
    pub(crate) fn remaining(&self) -> u64 {
        let Standing {
            max_units,
            used,
            forfeited,
            used_here,
        } = self.standing();
        let others = used.saturating_sub(used_here).saturating_add(forfeited);
        let here = self.granted.load(Ordering::Relaxed).saturating_sub(self.available()).max(self.spent());
        max_units.saturating_sub(others).saturating_sub(here).saturating_sub(self.overrun())
    }

    /// Whether a limit that only warns is passed, and it was not said yet.
    pub(crate) fn claim_warning(&self) -> bool {
        let Standing { max_units, used, .. } = self.standing();
        used >= max_units && !self.warned.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn belonging() -> Belonging {
        Belonging {
            token: Some(TokenId::new()),
            project: ProjectId::new(),
            ends_at: DbTime(i64::MAX),
            lifetime_requests: true,
        }
    }

    fn standing(max_units: u64, used: u64, forfeited: u64) -> Standing {
        Standing {
            max_units,
            used,
            forfeited,
            used_here: 0,
        }
    }

    fn block(units: u64) -> Arc<Block> {
        let block = Arc::new(Block::new(QuotaId(1), belonging(), 10));
        block.book(units, standing(10, 0, 0));
        block
    }

    #[test]
    fn the_last_unit_is_taken_once_and_a_use_takes_all_of_its_units_or_none() {
        let block = block(4);
        assert!(!block.take(5));
        assert!(block.take(3));
        assert!(!block.take(2));
        assert!(block.take(1));
        assert!(!block.take(1));
    }

    #[test]
    fn what_a_use_did_not_need_comes_back_and_what_it_needed_more_is_taken_before_it_is_overrun() {
        let block = block(10);
        assert!(block.take(6));
        block.settle(6, 2);
        assert_eq!((block.available(), block.spent(), block.overrun()), (8, 2, 0));
        assert!(block.take(5));
        block.settle(5, 7);
        assert_eq!((block.available(), block.spent(), block.overrun()), (1, 9, 0));
        assert!(block.take(1));
        block.settle(1, 4);
        assert_eq!((block.available(), block.spent(), block.overrun()), (0, 10, 3));
    }

    #[test]
    fn no_more_is_withdrawn_than_is_there_or_was_asked_for() {
        let block = block(5);
        assert_eq!((block.withdraw(3), block.withdraw(3), block.withdraw(3)), (3, 2, 0));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_its_size() {
        let block = block(0);
        block.book(0, standing(10, 6, 1));
        assert!(block.refuses(4) && !block.refuses(3));
        block.reopen(10);
        assert!(!block.refuses(4), "the ledger is asked first");
    }

    #[test]
    fn nothing_left_is_questioned_once_a_second_and_only_while_something_is_merely_forfeited() {
        let block = block(0);
        block.book(0, standing(10, 7, 3));
        assert!(block.claim_second_look(1, 5_000));
        assert!(!block.claim_second_look(1, 5_999));
        assert!(block.claim_second_look(1, 6_000));
        assert!(!block.claim_second_look(4, 60_000), "that would not fit all the same");
        block.book(0, standing(10, 10, 0));
        assert!(!block.claim_second_look(1, 60_000));
    }

    #[test]
    fn a_refill_in_advance_is_not_asked_for_where_blocks_are_tiny() {
        let (tiny, large) = (block(3), block(8));
        while tiny.take(1) {}
        while large.take(1) {}
        assert!(!tiny.claim_refill());
        assert!(large.claim_refill() && !large.claim_refill(), "one at a time");
    }

    #[test]
    fn what_remains_is_known_without_asking() {
        let block = block(4);
        block.holds(4);
        assert_eq!(block.remaining(), 10);
        assert!(block.take(3));
        assert_eq!(block.remaining(), 7, "under way");
        block.settle(3, 1);
        assert_eq!(block.remaining(), 9);
        let reported = Standing {
            used_here: 1,
            ..standing(10, 5, 0)
        };
        block.book(0, reported);
        assert_eq!(block.remaining(), 5, "four by others");
    }

    #[test]
    fn eight_threads_never_take_more_than_the_block_holds() {
        let block = block(1_000);
        let sent: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    let block = Arc::clone(&block);
                    scope.spawn(move || {
                        let mut sent = 0u64;
                        while block.take(1) {
                            block.settle(1, 1);
                            sent += 1;
                        }
                        sent
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().expect("a thread")).sum()
        });
        assert_eq!(sent, 1_000);
        assert_eq!(block.spent(), 1_000);
    }
}

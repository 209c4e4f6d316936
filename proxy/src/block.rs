//! A block of quota units leased by this process and shared by its data threads: taken at admission, spent when a head went upstream,
//! given back if it never did. It refuses to know the ledger; the settler fills and reports it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use store::{QuotaId, TokenId};

/// What is left of the leased units, and what this process has ever spent.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) quota: QuotaId,
    pub(crate) token: TokenId,
    /// Units leased and not taken.
    available: AtomicU64,
    /// Cumulative since the process started; only grows.
    spent: AtomicU64,
    /// Cumulative takes: tells the settler whether the block is idle.
    taken: AtomicU64,
    /// used + forfeited ≥ max at the last settle: refusals need no round trip until a change comes.
    exhausted: AtomicBool,
    /// A refill is on its way; one at a time.
    refilling: AtomicBool,
    /// Below this a refill is asked for in advance.
    low_water: AtomicU64,
    max_units: AtomicU64,
    used: AtomicU64,
    /// When the ledger was last asked again though it had said that nothing is left, in ms since the process started.
    asked_again_ms: AtomicU64,
}

/// How often the ledger is asked again after it said that nothing is left: what counts as lost comes back if its holder was only cut off.
const ASK_AGAIN_MS: u64 = 1_000;

/// What a refusal tells of the quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) max_units: u64,
    pub(crate) used: u64,
}

impl Block {
    pub(crate) fn new(quota: QuotaId, token: TokenId, max_units: u64) -> Self {
        Self {
            quota,
            token,
            available: AtomicU64::new(0),
            spent: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            exhausted: AtomicBool::new(false),
            refilling: AtomicBool::new(false),
            low_water: AtomicU64::new(0),
            max_units: AtomicU64::new(max_units),
            used: AtomicU64::new(0),
            asked_again_ms: AtomicU64::new(0),
        }
    }

    /// Takes one unit, if one is here.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Permit> {
        self.available
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| n.checked_sub(1))
            .ok()?;
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(Permit {
            block: Arc::clone(self),
            dispatched: false,
            settled: false,
        })
    }

    /// Whether the caller should ask for a refill now: the block runs low and nobody has asked yet. Not near the limit's end, where blocks are
    /// tiny: a unit that nobody waits for would be missing where somebody does.
    pub(crate) fn claim_refill(&self) -> bool {
        self.low_water.load(Ordering::Relaxed) > 0
            && self.is_low()
            && !self.exhausted.load(Ordering::Relaxed)
            && !self.refilling.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn refill_done(&self) {
        self.refilling.store(false, Ordering::Release);
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Acquire)
    }

    /// Whether the caller should ask the ledger once more, though it said that nothing is left: part of it is only forfeited, and nobody has
    /// asked for a while.
    pub(crate) fn claim_second_look(&self, now_ms: u64) -> bool {
        let Standing { max_units, used } = self.standing();
        let last = self.asked_again_ms.load(Ordering::Relaxed);
        used < max_units
            && now_ms.saturating_sub(last) >= ASK_AGAIN_MS
            && self
                .asked_again_ms
                .compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// A changed limit, or a reload of the grant: ask the ledger again before refusing.
    pub(crate) fn reopen(&self, max_units: u64) {
        self.max_units.store(max_units, Ordering::Relaxed);
        self.exhausted.store(false, Ordering::Release);
    }

    /// Takes up to `most` of what is left out of the block, to give it back to the ledger. Returns how much.
    pub(crate) fn withdraw(&self, most: u64) -> u64 {
        let took = self
            .available
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| Some(n - n.min(most)));
        took.map_or(0, |n| n.min(most))
    }

    /// Books what the ledger answered: `added` new units and the quota's figures.
    pub(crate) fn book(&self, added: u64, standing: Standing, exhausted: bool) {
        self.max_units.store(standing.max_units, Ordering::Relaxed);
        self.used.store(standing.used, Ordering::Relaxed);
        if added > 0 {
            self.low_water.store(added / 4, Ordering::Relaxed);
            self.available.fetch_add(added, Ordering::AcqRel);
        }
        self.exhausted.store(exhausted, Ordering::Release);
    }

    pub(crate) fn spent(&self) -> u64 {
        self.spent.load(Ordering::Acquire)
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    pub(crate) fn available(&self) -> u64 {
        self.available.load(Ordering::Relaxed)
    }

    /// Whether so little is left that a refill is due.
    pub(crate) fn is_low(&self) -> bool {
        self.available() <= self.low_water.load(Ordering::Relaxed)
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing {
            max_units: self.max_units.load(Ordering::Relaxed),
            used: self.used.load(Ordering::Relaxed),
        }
    }
}

/// One taken unit. Dropped before its request was dispatched it goes back; dropped afterwards it counts as spent, because nobody can
/// know whether the first byte left.
#[derive(Debug)]
pub(crate) struct Permit {
    block: Arc<Block>,
    dispatched: bool,
    settled: bool,
}

impl Permit {
    /// The request is being handed to the connection: from now on a drop counts as spent.
    pub(crate) fn dispatch(&mut self) {
        self.dispatched = true;
    }

    /// The connection gave the request back untouched: not a byte was written.
    pub(crate) fn not_sent(&mut self) {
        self.dispatched = false;
    }

    /// The head went upstream.
    pub(crate) fn spend(mut self) {
        self.settled = true;
        self.block.spent.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        if self.dispatched {
            self.block.spent.fetch_add(1, Ordering::AcqRel);
        } else {
            self.block.available.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(units: u64) -> Arc<Block> {
        let block = Arc::new(Block::new(QuotaId(1), TokenId::new(), 10));
        block.book(units, Standing { max_units: 10, used: 0 }, false);
        block
    }

    #[test]
    fn the_last_unit_is_taken_once() {
        let block = block(1);
        let permit = block.take();
        assert!(permit.is_some());
        assert!(block.take().is_none());
    }

    #[test]
    fn a_permit_whose_request_was_never_sent_goes_back() {
        let block = block(1);
        drop(block.take());
        assert_eq!((block.available(), block.spent()), (1, 0));
    }

    #[test]
    fn a_permit_returned_untouched_by_the_connection_goes_back() {
        let block = block(1);
        let mut permit = block.take().expect("a unit");
        permit.dispatch();
        permit.not_sent();
        drop(permit);
        assert_eq!((block.available(), block.spent()), (1, 0));
    }

    #[test]
    fn a_permit_dropped_after_dispatch_counts_as_spent() {
        let block = block(1);
        let mut permit = block.take().expect("a unit");
        permit.dispatch();
        drop(permit);
        assert_eq!((block.available(), block.spent()), (0, 1));
    }

    #[test]
    fn no_more_is_withdrawn_than_is_there_or_was_asked_for() {
        let block = block(5);
        assert_eq!((block.withdraw(3), block.withdraw(3), block.withdraw(3)), (3, 2, 0));
    }

    #[test]
    fn nothing_left_is_questioned_once_a_second_and_only_while_something_is_merely_forfeited() {
        let block = block(0);
        block.book(0, Standing { max_units: 10, used: 7 }, true);
        assert!(block.claim_second_look(5_000));
        assert!(!block.claim_second_look(5_999));
        assert!(block.claim_second_look(6_000));
        block.book(0, Standing { max_units: 10, used: 10 }, true);
        assert!(!block.claim_second_look(60_000));
    }

    #[test]
    fn a_refill_in_advance_is_not_asked_for_where_blocks_are_tiny() {
        let (tiny, large) = (block(3), block(8));
        while tiny.take().map(Permit::spend).is_some() {}
        while large.take().map(Permit::spend).is_some() {}
        assert!(!tiny.claim_refill());
        assert!(large.claim_refill() && !large.claim_refill(), "one at a time");
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
                        while let Some(permit) = block.take() {
                            permit.spend();
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

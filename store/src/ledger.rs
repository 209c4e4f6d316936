//! The arithmetic of a quota and its leases (contracts.md §3): state in, state out. It refuses to know SQL and who calls.
//!
//! Of every lease `amount − spent` (its rest) lies in exactly one of the quota's pools: `reserved` while it is live, `forfeited` once it has
//! expired. Units leave `reserved` for free only when their own holder gives them back.

use crate::clock::DbTime;
use crate::statement::stored_as_text;

/// How long a lease lasts without a report.
pub(crate) const LEASE_MS: i64 = 30_000;

/// The largest block that is leased at once, in uses, whatever a holder asks for. A holder begins with 256 (contracts.md §3) and asks for more
/// while it uses its blocks up quickly.
const LARGEST_BLOCK: u64 = 16_384;

/// A block is this part of what is free, so that blocks shrink to 1 near the end and the last unit goes to exactly one holder.
const SHARE_OF_FREE: u64 = 16;

/// What of a lease's rest its holder may still do, and where the quota counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseState {
    /// Reported in time; the rest is reserved.
    Live,
    /// Overdue; the rest is forfeited until the holder reports again.
    Expired,
    /// The holder is known to be dead; the rest stays forfeited.
    Closed,
}

stored_as_text!(LeaseState { Live = "Live", Expired = "Expired", Closed = "Closed" });

/// One holder's lease. Both figures are cumulative since the holder's start; the row outlives each block, so they never fall out of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) amount: u64,
    pub(crate) spent: u64,
    /// Used beyond what was leased, cumulative like the others.
    pub(crate) overrun: u64,
    pub(crate) expires_at: DbTime,
    pub(crate) state: LeaseState,
}

impl Lease {
    /// The lease of a holder that never had one.
    pub(crate) fn none(now: DbTime) -> Self {
        Self {
            amount: 0,
            spent: 0,
            overrun: 0,
            expires_at: now,
            state: LeaseState::Live,
        }
    }

    /// Granted and not reported as spent.
    pub(crate) fn rest(&self) -> u64 {
        self.amount.saturating_sub(self.spent)
    }

    pub(crate) fn is_overdue(&self, now: DbTime) -> bool {
        self.state == LeaseState::Live && self.expires_at <= now
    }
}

/// A holder's report: its whole state in absolute figures, so that one that arrives twice changes nothing the second time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) spent: u64,
    pub(crate) amount: u64,
    /// Used beyond what was leased: booked on top, and it takes nothing from what is out.
    pub(crate) overrun: u64,
    pub(crate) want: u64,
    /// Fewer than so many are of no use: they are granted, beyond the size of a block if need be, or nothing is.
    pub(crate) need: u64,
}

/// A quota's figures. A quota without a limit has `max` at the end of the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) max: u64,
    pub(crate) used: u64,
    pub(crate) reserved: u64,
    pub(crate) forfeited: u64,
    pub(crate) wanted: bool,
}

impl Quota {
    /// What may still be granted. `used` exceeds the limit after a lowered one or a booked overrun; then nothing is free.
    pub(crate) fn free(&self) -> u64 {
        self.max
            .saturating_sub(self.used.saturating_add(self.reserved).saturating_add(self.forfeited))
    }

    /// Nothing will come free again: what is reserved will be spent, what is forfeited is lost.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.used.saturating_add(self.forfeited) >= self.max
    }

    /// An overdue lease: the rest is forfeited, not free, since a paused holder may still spend it.
    pub(crate) fn expire(&mut self, lease: &mut Lease) {
        if lease.state == LeaseState::Live {
            self.reserved = self.reserved.saturating_sub(lease.rest());
            self.forfeited = self.forfeited.saturating_add(lease.rest());
            lease.state = LeaseState::Expired;
            self.settle_wanted();
        }
    }

    /// The lease of a dead holder: the rest is forfeited for good.
    pub(crate) fn close(&mut self, lease: &mut Lease) {
        self.expire(lease);
        lease.state = LeaseState::Closed;
    }

    /// What is leased of requests in flight is nowhere but in the requests: of a holder that is gone for so long that none of its requests can run
    /// any more, the rest is free again.
    pub(crate) fn release(&mut self, lease: &mut Lease) {
        match lease.state {
            LeaseState::Live => self.reserved = self.reserved.saturating_sub(lease.rest()),
            LeaseState::Expired | LeaseState::Closed => self.forfeited = self.forfeited.saturating_sub(lease.rest()),
        }
        lease.amount = lease.spent;
    }

    /// Books a holder's report, takes back what it gives back, grants what it wants, and renews its lease.
    /// Returns whether another holder waits for units.
    pub(crate) fn report(&mut self, lease: &mut Lease, report: Report, now: DbTime) -> bool {
        let waited_for = self.wanted;
        self.book(lease, report.spent);
        let overrun = report.overrun.saturating_sub(lease.overrun);
        self.used = self.used.saturating_add(overrun);
        lease.overrun = lease.overrun.max(report.overrun);
        if lease.state == LeaseState::Closed {
            return false; // Late word of a dead holder: it corrects `forfeited`, but it gets and frees nothing.
        }
        self.revive(lease);
        self.take_back(lease, report.amount);
        let granted = self.grant(lease, report.want, report.need);
        lease.expires_at = now.plus_ms(LEASE_MS);
        if report.want > 0 && granted == 0 && self.reserved > lease.rest() {
            self.wanted = true;
        }
        self.settle_wanted();
        // A mark that this very report has set is its own wish, not another's.
        waited_for && self.wanted
    }

    /// What was spent since the last report. More than was ever granted is an overrun: it is booked all the same.
    fn book(&mut self, lease: &mut Lease, spent: u64) {
        let fresh = spent.saturating_sub(lease.spent);
        let covered = fresh.min(lease.rest());
        self.used = self.used.saturating_add(fresh);
        match lease.state {
            LeaseState::Live => self.reserved = self.reserved.saturating_sub(covered),
            LeaseState::Expired | LeaseState::Closed => self.forfeited = self.forfeited.saturating_sub(covered),
        }
        lease.spent = lease.spent.max(spent);
        lease.amount = lease.amount.max(lease.spent);
    }

    /// A holder that reports lives, so it was paused or cut off and what it holds was not lost: it goes back to `reserved`, where this
    /// holder may spend it or give it back like any other. Left in `forfeited` it could do neither.
    fn revive(&mut self, lease: &mut Lease) {
        if lease.state == LeaseState::Expired {
            self.forfeited = self.forfeited.saturating_sub(lease.rest());
            self.reserved = self.reserved.saturating_add(lease.rest());
            lease.state = LeaseState::Live;
        }
    }

    /// What the holder no longer claims, or never learned that it got because the answer was lost.
    fn take_back(&mut self, lease: &mut Lease, claimed: u64) {
        let back = lease.amount - claimed.clamp(lease.spent, lease.amount);
        lease.amount -= back;
        self.reserved = self.reserved.saturating_sub(back);
    }

    fn grant(&mut self, lease: &mut Lease, want: u64, need: u64) -> u64 {
        let free = self.free();
        let largest = LARGEST_BLOCK.saturating_mul(need.max(1));
        let block = (free / SHARE_OF_FREE).clamp(1, largest).max(need);
        let granted = if need > free { 0 } else { block.min(want).min(free) };
        lease.amount = lease.amount.saturating_add(granted);
        self.reserved = self.reserved.saturating_add(granted);
        granted
    }

    /// Nobody waits where something is free, or where nothing is out that could come back.
    fn settle_wanted(&mut self) {
        self.wanted = self.wanted && self.free() == 0 && self.reserved > 0;
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;

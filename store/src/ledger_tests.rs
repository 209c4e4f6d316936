//! The ledger's examples, and its properties under many holders that spend, pause, crash and lose answers.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const T0: DbTime = DbTime(1_000_000);

fn quota(max: u64) -> Quota {
    Quota {
        max,
        used: 0,
        reserved: 0,
        forfeited: 0,
        wanted: false,
    }
}

fn report(spent: u64, amount: u64, want: u64) -> Report {
    Report {
        spent,
        amount,
        overrun: 0,
        want,
        need: 1,
    }
}

#[test]
fn blocks_are_a_sixteenth_of_what_is_free_at_most_the_largest_block_and_at_least_one() {
    for (free, want, granted) in [
        (1_000_000, 1_000, 1_000),
        (1_000_000, 50_000, LARGEST_BLOCK),
        (1_600, 1_000, 100),
        (1_600, 7, 7),
        (31, 9, 1),
        (1, 9, 1),
        (0, 9, 0),
        (100, 0, 0),
    ] {
        let (mut q, mut lease) = (quota(free), Lease::none(T0));
        q.report(&mut lease, report(0, 0, want), T0);
        assert_eq!((lease.amount, q.reserved), (granted, granted), "free {free}, want {want}");
    }
}

#[test]
fn the_same_report_twice_counts_once() {
    let (mut q, mut lease) = (quota(160), Lease::none(T0));
    q.report(&mut lease, report(0, 0, 10), T0);
    q.report(&mut lease, report(4, 10, 0), T0);
    let once = q.clone();
    q.report(&mut lease, report(4, 10, 0), T0);
    assert_eq!(q, once);
    assert_eq!((q.used, q.reserved), (4, 6));
    q.report(&mut lease, report(3, 10, 0), T0);
    assert_eq!((q.used, q.reserved, lease.spent), (4, 6, 4), "an older figure takes nothing back");
}

#[test]
fn a_lost_answer_is_given_back_by_the_next_report() {
    let (mut q, mut lease) = (quota(160), Lease::none(T0));
    q.report(&mut lease, report(0, 0, 10), T0);
    q.report(&mut lease, report(0, 0, 0), T0);
    assert_eq!((q.reserved, lease.amount, q.free()), (0, 0, 160));
}

#[test]
fn what_an_expired_holder_still_spends_leaves_forfeited_and_its_rest_comes_back_with_it() {
    let (mut q, mut lease) = (quota(160), Lease::none(T0));
    q.report(&mut lease, report(0, 0, 10), T0);
    q.expire(&mut lease);
    assert_eq!((q.reserved, q.forfeited, q.free()), (0, 10, 150));
    q.report(&mut lease, report(7, 10, 0), T0);
    assert_eq!((q.used, q.reserved, q.forfeited), (7, 3, 0));
    q.report(&mut lease, report(7, 7, 0), T0);
    assert_eq!((q.used, q.reserved, q.free()), (7, 0, 153));
}

#[test]
fn a_closed_holder_corrects_forfeited_but_frees_and_gets_nothing() {
    let (mut q, mut lease) = (quota(160), Lease::none(T0));
    q.report(&mut lease, report(0, 0, 10), T0);
    q.close(&mut lease);
    assert!(!q.report(&mut lease, report(4, 4, 10), T0));
    assert_eq!((q.used, q.reserved, q.forfeited, lease.amount), (4, 0, 6, 10));
}

#[test]
fn an_overrun_and_a_lowered_limit_are_booked_and_stop_all_grants() {
    let (mut q, mut lease) = (quota(160), Lease::none(T0));
    q.report(&mut lease, report(0, 0, 10), T0);
    q.report(&mut lease, report(12, 10, 0), T0);
    assert_eq!((q.used, q.reserved, lease.amount), (12, 0, 12));
    q.max = 5;
    q.report(&mut lease, report(12, 12, 10), T0);
    assert_eq!((q.free(), q.reserved, q.is_exhausted()), (0, 0, true));
}

#[test]
fn who_waits_makes_others_return_and_is_served_afterwards() {
    let (mut q, mut rich, mut poor) = (quota(1), Lease::none(T0), Lease::none(T0));
    q.report(&mut rich, report(0, 0, 5), T0);
    assert!(!q.report(&mut poor, report(0, 0, 5), T0), "the one who waits has nobody waiting for it");
    assert!(q.wanted && !q.is_exhausted());
    assert!(q.report(&mut rich, report(0, 1, 0), T0), "told to return");
    assert!(!q.report(&mut rich, report(0, 0, 0), T0), "returned");
    assert!(!q.wanted);
    q.report(&mut poor, report(0, 0, 5), T0);
    assert_eq!((rich.amount, poor.amount), (0, 1));
}

#[test]
fn nobody_waits_for_units_that_only_the_asker_holds() {
    let (mut q, mut lease) = (quota(1), Lease::none(T0));
    q.report(&mut lease, report(0, 0, 5), T0);
    q.report(&mut lease, report(0, 1, 5), T0);
    assert!(!q.wanted);
}

#[test]
fn without_a_limit_blocks_are_the_largest() {
    let (mut q, mut lease) = (quota(i64::MAX as u64), Lease::none(T0));
    q.report(&mut lease, report(0, 0, 50_000), T0);
    assert_eq!((lease.amount, q.is_exhausted()), (LARGEST_BLOCK, false));
}

/// A process that admits uses of many units each, by an estimate, and settles them to what they really took.
#[derive(Clone, Debug, Default)]
struct Estimator {
    amount: u64,
    spent: u64,
    overrun: u64,
    /// (taken, really used) of what is under way.
    running: Vec<(u64, u64)>,
    crashed: bool,
}

impl Estimator {
    fn available(&self) -> u64 {
        self.amount - self.spent - self.running.iter().map(|(taken, _)| taken).sum::<u64>()
    }

    fn begin(&mut self, taken: u64, really: u64) -> bool {
        let fits = taken <= self.available();
        if fits {
            self.running.push((taken, really));
        }
        fits
    }

    /// As the data plane's block does it.
    fn end(&mut self) {
        let Some((_, really)) = self.running.pop() else { return };
        // What was taken is among what is there again.
        let covered = really.min(self.available());
        self.spent += covered;
        self.overrun += really - covered;
    }

    fn report(&self, want: u64, need: u64) -> Report {
        Report {
            spent: self.spent,
            amount: self.amount,
            overrun: self.overrun,
            want,
            need,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Use {
    Begin { holder: usize, taken: u64, really: u64 },
    End { holder: usize },
    Settle { holder: usize, arrives: bool, answered: bool },
    Crash { holder: usize },
    Pass { ms: i64 },
}

fn uses(holders: usize) -> impl Strategy<Value = Use> {
    let holder = 0..holders;
    prop_oneof![
        6 => (holder.clone(), 1_u64..60, 0_u64..90).prop_map(|(holder, taken, really)| Use::Begin { holder, taken, really }),
        6 => holder.clone().prop_map(|holder| Use::End { holder }),
        4 => (holder.clone(), prop::bool::weighted(0.9), prop::bool::weighted(0.8))
            .prop_map(|(holder, arrives, answered)| Use::Settle { holder, arrives, answered }),
        1 => holder.prop_map(|holder| Use::Crash { holder }),
        1 => (0_i64..40_000).prop_map(|ms| Use::Pass { ms }),
    ]
}

/// A process that admits requests out of the block it knows of, whatever the database thinks meanwhile.
#[derive(Clone, Debug, Default)]
struct Holder {
    amount: u64,
    spent: u64,
    crashed: bool,
}

/// What the database holds, driven as the store drives it: whoever locks the quota first expires what is overdue.
struct Bank {
    quota: Quota,
    leases: BTreeMap<usize, Lease>,
    now: DbTime,
}

impl Bank {
    fn sweep(&mut self, but: Option<usize>) {
        for (holder, lease) in &mut self.leases {
            if Some(*holder) != but && lease.is_overdue(self.now) {
                self.quota.expire(lease);
            }
        }
    }

    fn settle(&mut self, holder: usize, report: Report) -> u64 {
        self.sweep(Some(holder));
        let lease = self.leases.entry(holder).or_insert_with(|| Lease::none(self.now));
        let before = lease.amount;
        self.quota.report(lease, report, self.now);
        let kept = report.amount.clamp(lease.spent, before.max(lease.spent));
        if lease.amount > kept && lease.state == LeaseState::Live {
            let all = self.quota.used + self.quota.reserved + self.quota.forfeited;
            assert!(all <= self.quota.max, "granted {} beyond the limit", lease.amount - kept);
        }
        lease.amount
    }

    fn overrun(&self) -> u64 {
        self.leases.values().map(|lease| lease.overrun).sum()
    }

    fn assert_pools_match_leases(&self) {
        let rests = |wanted: fn(LeaseState) -> bool| self.leases.values().filter(|l| wanted(l.state)).map(Lease::rest).sum::<u64>();
        assert_eq!(self.quota.reserved, rests(|s| s == LeaseState::Live));
        assert_eq!(self.quota.forfeited, rests(|s| s != LeaseState::Live));
        assert_eq!(self.quota.used, self.leases.values().map(|l| l.spent + l.overrun).sum::<u64>());
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// `n` requests arrive at a holder.
    Requests { holder: usize, n: u64 },
    /// A holder settles; the report may not arrive, or its answer may not come back.
    Settle {
        holder: usize,
        want: u64,
        arrives: bool,
        answered: bool,
    },
    /// A holder returns what it has not spent.
    Return { holder: usize, arrives: bool, answered: bool },
    /// Time passes; sometimes the sweep runs.
    Pass { ms: i64, sweep: bool },
    /// A process is killed; its successor has a new holder id, here: none.
    Crash { holder: usize },
    /// A locked data dir proves all others dead (they must be: only crashed ones are closed here).
    CloseCrashed,
}

fn step(holders: usize) -> impl Strategy<Value = Step> {
    let holder = 0..holders;
    prop_oneof![
        6 => (holder.clone(), 1_u64..20).prop_map(|(holder, n)| Step::Requests { holder, n }),
        6 => (holder.clone(), 0_u64..40, prop::bool::weighted(0.9), prop::bool::weighted(0.8))
            .prop_map(|(holder, want, arrives, answered)| Step::Settle { holder, want, arrives, answered }),
        2 => (holder.clone(), any::<bool>(), any::<bool>()).prop_map(|(holder, arrives, answered)| Step::Return { holder, arrives, answered }),
        2 => (0_i64..40_000, any::<bool>()).prop_map(|(ms, sweep)| Step::Pass { ms, sweep }),
        1 => holder.prop_map(|holder| Step::Crash { holder }),
        1 => Just(Step::CloseCrashed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn of_what_is_estimated_what_is_reserved_always_fits_and_the_overrun_is_booked_exactly(
        max in 1_u64..600,
        steps in prop::collection::vec(uses(4), 0..200),
    ) {
        let mut bank = Bank { quota: quota(max), leases: BTreeMap::new(), now: T0 };
        let mut holders = vec![Estimator::default(); 4];
        let settle = |bank: &mut Bank, holders: &mut [Estimator], holder: usize, (want, need): (u64, u64), (arrives, answered): (bool, bool)| {
            let h = &mut holders[holder];
            if arrives && !h.crashed {
                let amount = bank.settle(holder, h.report(want, need));
                if answered { h.amount = amount }
            }
        };
        for step in steps {
            match step {
                Use::Begin { holder, taken, really } if !holders[holder].crashed => {
                    if !holders[holder].begin(taken, really) {
                        let need = taken - holders[holder].available();
                        settle(&mut bank, &mut holders, holder, (need.max(30), need), (true, true));
                        // What fits is granted whole, so the use begins now or never.
                        prop_assert!(holders[holder].begin(taken, really) || need > bank.quota.free());
                    }
                }
                Use::End { holder } if !holders[holder].crashed => holders[holder].end(),
                Use::Settle { holder, arrives, answered } => settle(&mut bank, &mut holders, holder, (0, 0), (arrives, answered)),
                Use::Crash { holder } => holders[holder].crashed = true,
                Use::Pass { ms } => {
                    bank.now = bank.now.plus_ms(ms);
                    bank.sweep(None);
                }
                Use::Begin { .. } | Use::End { .. } => {}
            }
            bank.assert_pools_match_leases();
            let covered: u64 = holders.iter().map(|h| h.spent + h.running.iter().map(|(taken, _)| taken).sum::<u64>()).sum();
            prop_assert!(covered <= max, "{covered} admitted of {max}");
            // Beyond the limit there is nothing but what was booked beyond it.
            let quota = &bank.quota;
            prop_assert!(quota.used + quota.reserved + quota.forfeited <= max + bank.overrun());
        }
        // What runs comes to its end, and the living report: exactly what was used is booked.
        for holder in 0..holders.len() {
            if holders[holder].crashed { continue }
            while !holders[holder].running.is_empty() { holders[holder].end() }
            holders[holder].amount = holders[holder].spent;
            settle(&mut bank, &mut holders, holder, (0, 0), (true, true));
            let lease = bank.leases.get(&holder);
            prop_assert_eq!(lease.map_or((0, 0), |l| (l.spent, l.overrun)), (holders[holder].spent, holders[holder].overrun));
        }
        bank.assert_pools_match_leases();
    }

    #[test]
    fn never_more_is_admitted_than_the_limit_and_in_the_end_used_plus_forfeited_is_the_limit(
        max in 0_u64..400,
        steps in prop::collection::vec(step(6), 0..200),
    ) {
        let mut bank = Bank { quota: quota(max), leases: BTreeMap::new(), now: T0 };
        let mut holders = vec![Holder::default(); 6];
        let admitted = |holders: &[Holder]| holders.iter().map(|h| h.spent).sum::<u64>();

        for step in steps {
            match step {
                Step::Requests { holder, n } => {
                    let h = &mut holders[holder];
                    if !h.crashed {
                        h.spent += n.min(h.amount - h.spent);
                    }
                }
                Step::Settle { holder, want, arrives, answered } if !holders[holder].crashed => {
                    let h = &mut holders[holder];
                    if arrives {
                        let amount = bank.settle(holder, report(h.spent, h.amount, want));
                        if answered { h.amount = amount }
                    }
                }
                Step::Return { holder, arrives, answered } if !holders[holder].crashed => {
                    let h = &mut holders[holder];
                    // The block is closed before the report is sent, so a lost answer cannot bring it back.
                    h.amount = h.spent;
                    if arrives {
                        let amount = bank.settle(holder, report(h.spent, h.amount, 0));
                        if answered { h.amount = amount }
                    }
                }
                Step::Settle { .. } | Step::Return { .. } => {}
                Step::Pass { ms, sweep } => {
                    bank.now = bank.now.plus_ms(ms);
                    if sweep { bank.sweep(None) }
                }
                Step::Crash { holder } => holders[holder].crashed = true,
                Step::CloseCrashed => {
                    for (holder, lease) in &mut bank.leases {
                        if holders[*holder].crashed { bank.quota.close(lease) }
                    }
                }
            }
            prop_assert!(admitted(&holders) <= max);
            bank.assert_pools_match_leases();
        }

        // The living report; then `used` is what they admitted, and of the dead what they had reported.
        for (holder, h) in holders.iter_mut().enumerate().filter(|(_, h)| !h.crashed) {
            h.amount = bank.settle(holder, report(h.spent, h.amount, 0));
        }
        let reported = |holder: usize| bank.leases.get(&holder).map_or(0, |l| l.spent);
        for (holder, h) in holders.iter().enumerate() {
            prop_assert!(h.crashed || reported(holder) == h.spent);
        }

        // The dead expire, the living hand back, and one that lives on spends all there is.
        bank.now = bank.now.plus_ms(LEASE_MS);
        for (holder, h) in holders.iter_mut().enumerate().filter(|(_, h)| !h.crashed) {
            h.amount = h.spent;
            bank.settle(holder, report(h.spent, h.amount, 0));
        }
        bank.sweep(None);
        let mut last = Holder::default();
        loop {
            last.amount = bank.settle(99, report(last.spent, last.amount, 1_000));
            if last.amount == last.spent { break }
            last.spent = last.amount;
        }
        prop_assert!(bank.quota.is_exhausted());
        prop_assert_eq!(bank.quota.used + bank.quota.forfeited, max);
        prop_assert_eq!(bank.quota.reserved, 0);
        let lost = admitted(&holders) + last.spent - bank.quota.used;
        prop_assert!(lost <= bank.quota.forfeited, "what the dead spent unreported lies in forfeited");
    }
}

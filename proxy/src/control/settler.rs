//! Keeps the blocks filled and the ledger told: leases on demand, settles what was spent, gives back what lies idle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use store::{Fleet, HolderId, LeaseReport, QuotaId, QuotaRecord, StoreError, TokenId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::block::{Block, Standing};
use crate::shared::{LeaseRequest, Leased, Recall};

/// What was spent is told at least this often (contracts.md §3 asks for 1 s).
const SETTLE_EVERY: Duration = Duration::from_millis(250);
/// A block that nobody takes from goes back after this.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// A live lease is renewed this often; it lasts 30 s.
const RENEW_AFTER: Duration = Duration::from_secs(10);
/// A block begins with at most this many units and grows while it is used up faster than [`FAST`]: a round trip then pays for more requests.
/// The ledger caps it by what is free, so blocks still shrink to 1 near the end.
const FIRST_BLOCK: u64 = 256;
const LARGEST_BLOCK: u64 = 16_384;
const FAST: Duration = Duration::from_millis(500);
const SLOW: Duration = Duration::from_secs(2);
/// Requests that are settled in one transaction at most.
const BATCH: usize = 512;

/// The blocks of this process by quota. A block lives as long as the process, because its cumulative figures are the ledger's memory of this holder.
#[derive(Clone, Default)]
pub(crate) struct Blocks(Arc<Mutex<HashMap<QuotaId, Arc<Block>>>>);

impl Blocks {
    /// The block of a quota, opened again after whatever change made somebody load it.
    pub(crate) fn open(&self, record: QuotaRecord, token: TokenId) -> Arc<Block> {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let block = blocks
            .entry(record.id)
            .or_insert_with(|| Arc::new(Block::new(record.id, token, record.max_units)));
        block.reopen(record.max_units);
        Arc::clone(block)
    }
}

/// What the settler listens to.
pub(crate) struct SettlerInbox {
    pub(crate) leases: mpsc::Receiver<LeaseRequest>,
    pub(crate) recalls: mpsc::Receiver<Recall>,
}

/// The task's state.
pub(crate) struct Settler {
    fleet: Fleet,
    holder: HolderId,
    held: HashMap<QuotaId, Held>,
}

/// What the ledger knows of one block.
struct Held {
    block: Arc<Block>,
    /// Cumulative units that this process claims: spent, taken and available ones.
    amount: u64,
    reported_spent: u64,
    reported_at: Instant,
    /// For noticing idleness.
    seen_taken: u64,
    taken_at: Instant,
    /// The last settle failed: what the ledger believes may differ.
    unsettled: bool,
    /// Another holder waits: what is not taken goes back at the next settle.
    wanted: bool,
    /// The size of block to ask for, and when the last one was granted.
    appetite: u64,
    granted_at: Option<Instant>,
}

impl Settler {
    pub(crate) fn new(fleet: Fleet, holder: HolderId) -> Self {
        Self {
            fleet,
            holder,
            held: HashMap::new(),
        }
    }

    /// Runs until all senders are gone, then settles for the last time. Returns whether everything went back.
    pub(crate) async fn run(mut self, mut inbox: SettlerInbox) -> bool {
        let mut tick = tokio::time::interval(SETTLE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                recall = inbox.recalls.recv() => match recall {
                    Some(recall) => self.recall(recall).await,
                    None => break,
                },
                request = inbox.leases.recv() => match request {
                    Some(first) => self.lease(first, &mut inbox.leases).await,
                    None => break,
                },
                _ = tick.tick() => self.settle_due().await,
            }
        }
        self.finish().await
    }

    /// Answers all waiting requests with one transaction.
    async fn lease(&mut self, first: LeaseRequest, queue: &mut mpsc::Receiver<LeaseRequest>) {
        let mut waiting: HashMap<QuotaId, Vec<oneshot::Sender<Leased>>> = HashMap::new();
        let mut next = Some(first);
        while let Some(LeaseRequest { block, reply }) = next {
            self.hold(&block);
            waiting.entry(block.quota).or_default().extend(reply);
            next = if waiting.len() < BATCH { queue.try_recv().ok() } else { None };
        }
        // Whoever waits for a block that another's request has filled meanwhile needs no more.
        let reports: Vec<_> = waiting
            .keys()
            .filter_map(|quota| self.held.get(quota).map(|held| held.report(held.appetite)))
            .collect();
        let answered = self.settle(&reports).await;
        for (quota, replies) in waiting {
            let leased = match &answered {
                Ok(added) => added
                    .get(&quota)
                    .map_or(Leased::Gone, |added| if *added > 0 { Leased::Granted } else { Leased::Empty }),
                Err(_) => Leased::Unavailable,
            };
            if let Some(held) = self.held.get(&quota) {
                held.block.refill_done();
            }
            for reply in replies {
                // A waiter that has left meanwhile leaves the units to the next.
                let _ = reply.send(leased);
            }
        }
    }

    /// Reports what was spent, renews what would expire, gives back what lies idle.
    async fn settle_due(&mut self) {
        let now = Instant::now();
        let mut reports = Vec::new();
        for held in self.held.values_mut() {
            if held.withdraw_if_unused(now) || held.is_due(now) {
                reports.push(held.report(0));
            }
            if reports.len() == BATCH {
                break;
            }
        }
        // A failure is told by the next request that needs the ledger; what was spent stays counted here.
        let _ = self.settle(&reports).await;
    }

    /// Gives back what the blocks of a changed token hold, so that a lowered limit holds once it is acknowledged.
    async fn recall(&mut self, recall: Recall) {
        let mut reports = Vec::new();
        for held in self.held.values_mut().filter(|h| recall.token.is_none_or(|t| h.block.token == t)) {
            held.amount -= held.block.withdraw();
            reports.push(held.report(0));
        }
        for batch in reports.chunks(BATCH) {
            let _ = self.settle(batch).await;
        }
        let _ = recall.done.send(());
    }

    async fn finish(mut self) -> bool {
        let reports: Vec<_> = self
            .held
            .values_mut()
            .map(|held| {
                held.amount -= held.block.withdraw();
                held.report(0)
            })
            .collect();
        for batch in reports.chunks(BATCH) {
            if self.settle(batch).await.is_err() {
                return false;
            }
        }
        true
    }

    fn hold(&mut self, block: &Arc<Block>) {
        let now = Instant::now();
        self.held.entry(block.quota).or_insert_with(|| Held {
            block: Arc::clone(block),
            amount: 0,
            reported_spent: 0,
            reported_at: now,
            seen_taken: 0,
            taken_at: now,
            unsettled: false,
            wanted: false,
            appetite: FIRST_BLOCK,
            granted_at: None,
        });
    }

    /// One transaction; books the answers. Returns the new units of each quota that exists.
    async fn settle(&mut self, reports: &[LeaseReport]) -> Result<HashMap<QuotaId, u64>, StoreError> {
        if reports.is_empty() {
            return Ok(HashMap::new());
        }
        let answers = match self.fleet.settle(self.holder, reports).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(%error, quotas = reports.len(), "the ledger cannot be reached");
                for report in reports {
                    if let Some(held) = self.held.get_mut(&report.quota) {
                        held.unsettled = true;
                    }
                }
                return Err(error);
            }
        };
        let now = Instant::now();
        let mut granted = HashMap::with_capacity(answers.len());
        for answer in &answers {
            let (Some(held), Some(report)) = (self.held.get_mut(&answer.quota), reports.iter().find(|r| r.quota == answer.quota)) else {
                continue;
            };
            let added = answer.amount.saturating_sub(report.amount);
            held.amount += added;
            granted.insert(answer.quota, added);
            held.reported_spent = report.spent;
            held.reported_at = now;
            held.unsettled = false;
            held.wanted = answer.wanted;
            if added > 0 {
                held.taken_at = now;
                held.adapt(now);
            }
            held.block.book(
                added,
                Standing {
                    max_units: answer.max_units,
                    used: answer.used,
                },
                answer.exhausted,
            );
        }
        Ok(granted)
    }
}

impl Held {
    fn report(&self, want: u64) -> LeaseReport {
        // What was spent is read after the amount was fixed, and never exceeds it: a unit is leased before it is taken.
        LeaseReport {
            quota: self.block.quota,
            spent: self.block.spent(),
            amount: self.amount,
            want,
        }
    }

    /// Grows the next block if this one was asked for soon after the last, shrinks it if late.
    fn adapt(&mut self, now: Instant) {
        match self.granted_at.map(|at| now.duration_since(at)) {
            Some(since) if since < FAST => self.appetite = (self.appetite * 2).min(LARGEST_BLOCK),
            Some(since) if since > SLOW => self.appetite = (self.appetite / 2).max(FIRST_BLOCK),
            Some(_) | None => {}
        }
        self.granted_at = Some(now);
    }

    fn withdraw_if_unused(&mut self, now: Instant) -> bool {
        let taken = self.block.taken();
        if taken != self.seen_taken {
            self.seen_taken = taken;
            self.taken_at = now;
        }
        if !self.wanted && now.duration_since(self.taken_at) < IDLE_AFTER {
            return false;
        }
        let rest = self.block.withdraw();
        self.amount -= rest;
        rest > 0
    }

    fn is_due(&self, now: Instant) -> bool {
        let spent = self.block.spent();
        self.unsettled || spent > self.reported_spent || (self.amount > spent && now.duration_since(self.reported_at) >= RENEW_AFTER)
    }
}

//! Keeps the blocks filled and the ledger told: leases on demand, settles what was spent, gives back what lies idle.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use store::{Fleet, HolderId, LeaseReport, QuotaId, QuotaRecord, StoreError, TokenId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::held::Held;
use super::outage::Outage;
use crate::block::Block;
use crate::database::Writer;
use crate::shared::{LeaseRequest, Leased, Recall, Shared};

/// What was spent is told at least this often (contracts.md §3 asks for 1 s).
const SETTLE_EVERY: Duration = Duration::from_millis(250);
/// Quotas that are settled in one transaction at most.
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
    shared: Arc<Shared>,
    held: HashMap<QuotaId, Held>,
    outage: Outage,
}

impl Settler {
    pub(crate) fn new(fleet: Fleet, holder: HolderId, shared: Arc<Shared>) -> Self {
        Self {
            fleet,
            holder,
            shared,
            held: HashMap::new(),
            outage: Outage::new("the ledger cannot be reached: blocks in hand are spent, then requests are refused with 503"),
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
                // Before the leases: those may come without a pause, and what is never settled expires.
                _ = tick.tick() => self.settle_due(&mut inbox.leases).await,
                request = inbox.leases.recv() => match request {
                    Some(first) => self.lease(first, &mut inbox.leases).await,
                    None => break,
                },
            }
        }
        self.finish().await
    }

    /// Answers all waiting requests with one transaction.
    async fn lease(&mut self, first: LeaseRequest, queue: &mut mpsc::Receiver<LeaseRequest>) {
        let now = Instant::now();
        let mut waiting: HashMap<QuotaId, Vec<oneshot::Sender<Leased>>> = HashMap::new();
        let mut next = Some(first);
        while let Some(LeaseRequest { block, reply }) = next {
            let quota = block.quota;
            self.held.entry(quota).or_insert_with(|| Held::new(block, now));
            waiting.entry(quota).or_default().extend(reply);
            next = if waiting.len() < BATCH { queue.try_recv().ok() } else { None };
        }
        // A block that an earlier request has filled meanwhile needs no more.
        let (low, filled): (Vec<_>, Vec<_>) = waiting
            .keys()
            .filter_map(|quota| self.held.get(quota))
            .partition(|held| held.block.is_low());
        let mut leased: HashMap<QuotaId, Leased> = filled.iter().map(|held| (held.block.quota, Leased::Granted)).collect();
        let reports: Vec<_> = low.into_iter().map(Held::request).collect();
        let filled = self.settle(&reports).await;
        for report in &reports {
            let quota = report.quota;
            leased.insert(
                quota,
                match &filled {
                    Err(_) => Leased::Unavailable,
                    Ok(filled) if filled.contains(&quota) => Leased::Granted,
                    Ok(_) if self.held.contains_key(&quota) => Leased::Empty,
                    Ok(_) => Leased::Gone,
                },
            );
        }
        for (quota, replies) in waiting {
            if let Some(held) = self.held.get(&quota) {
                held.block.refill_done();
            }
            for reply in replies {
                // A waiter that has left meanwhile leaves the units to the next.
                let _ = reply.send(leased.get(&quota).copied().unwrap_or(Leased::Unavailable));
            }
        }
    }

    /// Reports what was spent, renews what would expire, gives back what lies idle. Leases are served between two batches.
    async fn settle_due(&mut self, leases: &mut mpsc::Receiver<LeaseRequest>) {
        let now = Instant::now();
        let due: Vec<_> = self
            .held
            .values_mut()
            .filter_map(|held| (held.give_back_unused(now) || held.is_due(now)).then_some(held.block.quota))
            .collect();
        for batch in due.chunks(BATCH) {
            let reports: Vec<_> = batch.iter().filter_map(|quota| self.held.get(quota)).map(Held::settlement).collect();
            // A failure is told to the next request that needs the ledger; what was spent stays counted here.
            let _ = self.settle(&reports).await;
            if let Ok(waiting) = leases.try_recv() {
                self.lease(waiting, leases).await;
            }
        }
    }

    /// Gives back what the blocks of a changed token hold, so that a lowered limit holds once it is acknowledged.
    async fn recall(&mut self, recall: Recall) {
        let reports: Vec<_> = self
            .held
            .values_mut()
            .filter(|held| recall.token.is_none_or(|token| held.block.token == token))
            .map(|held| {
                held.give_back(u64::MAX);
                held.settlement()
            })
            .collect();
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
                held.give_back(u64::MAX);
                held.settlement()
            })
            .collect();
        for batch in reports.chunks(BATCH) {
            if self.settle(batch).await.is_err() {
                return false;
            }
        }
        true
    }

    /// One transaction; books the answers. Returns the quotas that got units. What no longer exists is held no more.
    async fn settle(&mut self, reports: &[LeaseReport]) -> Result<HashSet<QuotaId>, StoreError> {
        if reports.is_empty() {
            return Ok(HashSet::new());
        }
        let answers = match self.fleet.settle(self.holder, reports).await {
            Ok(answers) => answers,
            Err(error) => {
                self.outage.began(&error);
                self.shared.database.wrote(Writer::Ledger, Some(&error));
                for report in reports {
                    if let Some(held) = self.held.get_mut(&report.quota) {
                        held.unanswered();
                    }
                }
                return Err(error);
            }
        };
        self.outage.ended();
        self.shared.database.wrote(Writer::Ledger, None);
        let now = Instant::now();
        let answers: HashMap<_, _> = answers.iter().map(|answer| (answer.quota, answer)).collect();
        let mut filled = HashSet::new();
        for report in reports {
            match (answers.get(&report.quota), self.held.get_mut(&report.quota)) {
                (Some(answer), Some(held)) => {
                    if held.answered(report, answer, now) > 0 {
                        filled.insert(report.quota);
                    }
                }
                (None, Some(held)) => {
                    held.give_back(u64::MAX);
                    held.block.refill_done();
                    self.held.remove(&report.quota);
                }
                (_, None) => {}
            }
        }
        Ok(filled)
    }
}

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
use crate::settings::Reporting;
use crate::shared::{LeaseRequest, Leased, Recall, Shared};

/// What was spent is told at least this often (contracts.md §3 asks for 1 s).
const SETTLE_EVERY: Duration = Duration::from_millis(250);
/// On a database that other processes share: as seldom as that allows.
const SETTLE_SPARINGLY: Duration = Duration::from_millis(900);
/// How often it is looked for blocks that can be forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(10);
/// Quotas that are settled in one transaction at most.
const BATCH: usize = 512;

/// The blocks of this process by quota. A block lives while a grant refers to it or something of it is out.
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

    /// Forgets a block that only its holder here and the caller still know. Whether it did.
    fn forget(&self, block: &Arc<Block>) -> bool {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Ours and the caller's: under the lock nobody else can come by one.
        let known = blocks.get(&block.quota).is_none_or(|ours| Arc::ptr_eq(ours, block));
        let forgotten = known && Arc::strong_count(block) <= 2;
        if forgotten {
            blocks.remove(&block.quota);
        }
        forgotten
    }

    /// How many there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
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
    blocks: Blocks,
    held: HashMap<QuotaId, Held>,
    pace: Duration,
    outage: Outage,
    swept_at: Instant,
}

/// What a lease transaction came to for one quota, before its units are handed out.
#[derive(Clone, Copy)]
enum Told {
    Filled,
    Empty,
    Gone,
    Unavailable,
}

impl Settler {
    pub(crate) fn new(fleet: Fleet, holder: HolderId, shared: Arc<Shared>, blocks: Blocks) -> Self {
        let pace = match shared.settings.reporting {
            Reporting::Prompt => Duration::ZERO,
            Reporting::Sparing => SETTLE_SPARINGLY,
        };
        Self {
            fleet,
            holder,
            shared,
            blocks,
            held: HashMap::new(),
            pace,
            swept_at: Instant::now(),
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
        let mut told: HashMap<QuotaId, Told> = filled.iter().map(|held| (held.block.quota, Told::Filled)).collect();
        let reports: Vec<_> = low.into_iter().map(Held::request).collect();
        let filled = self.settle(&reports).await;
        for report in &reports {
            let quota = report.quota;
            told.insert(
                quota,
                match &filled {
                    Err(_) => Told::Unavailable,
                    Ok(filled) if filled.contains(&quota) => Told::Filled,
                    Ok(_) if self.held.contains_key(&quota) => Told::Empty,
                    Ok(_) => Told::Gone,
                },
            );
        }
        for (quota, replies) in waiting {
            let held = self.held.get(&quota);
            if let Some(held) = held {
                held.block.refill_done();
            }
            let told = told.get(&quota).copied().unwrap_or(Told::Unavailable);
            for reply in replies {
                // Taken here and now: whoever waits gets the unit before the next settle can give it back to another process. A waiter that has
                // left meanwhile leaves it to the next.
                let _ = reply.send(match (held.and_then(|held| held.block.take()), told) {
                    (Some(permit), _) => Leased::Granted(permit),
                    (None, Told::Filled) => Leased::Outrun,
                    (None, Told::Empty) => Leased::Empty,
                    (None, Told::Gone) => Leased::Gone,
                    (None, Told::Unavailable) => Leased::Unavailable,
                });
            }
        }
    }

    /// Reports what was spent, renews what would expire, gives back what lies idle. Leases are served between two batches.
    async fn settle_due(&mut self, leases: &mut mpsc::Receiver<LeaseRequest>) {
        let now = Instant::now();
        self.forget_unused(now);
        let due: Vec<_> = self
            .held
            .values_mut()
            .filter_map(|held| (held.give_back_unused(now) || held.is_due(now, self.pace)).then_some(held.block.quota))
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

    /// Forgets blocks that nobody uses and no grant refers to, so that memory follows the tokens in use and not all that ever were.
    fn forget_unused(&mut self, now: Instant) {
        if now.duration_since(self.swept_at) < FORGET_EVERY {
            return;
        }
        self.swept_at = now;
        let blocks = &self.blocks;
        self.held.retain(|_, held| !(held.is_forgettable(now) && blocks.forget(&held.block)));
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
            // Whoever waits for the end decides how long: a database that is only failing over takes the last word after all.
            while let Err(error) = self.settle(batch).await {
                if !matches!(error, StoreError::Unavailable(_)) {
                    return false;
                }
                tokio::time::sleep(SETTLE_EVERY).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_forgotten_only_when_no_grant_refers_to_it() {
        let (blocks, record) = (
            Blocks::default(),
            QuotaRecord {
                id: QuotaId(1),
                max_units: 10,
            },
        );
        let granted = blocks.open(record, TokenId::new());
        let held = Arc::clone(&granted);
        assert!(!blocks.forget(&held));
        drop(granted);
        assert!(blocks.forget(&held));
        assert_eq!(blocks.len(), 0);
    }
}

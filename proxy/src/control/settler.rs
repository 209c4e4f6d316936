//! Keeps the blocks filled and the ledger told: leases on demand, settles what was spent, gives back what lies idle.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use store::{Fleet, HolderId, LeaseReport, QuotaId, QuotaRecord, StoreError, Subject};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::held::Held;
use super::outage::Outage;
use crate::block::{Belonging, Block};
use crate::database::Writer;
use crate::meter::{Meter, Meters};
use crate::permit::Share;
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
    pub(crate) fn open(&self, record: QuotaRecord, belongs: Belonging) -> Arc<Block> {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let block = blocks
            .entry(record.id)
            .or_insert_with(|| Arc::new(Block::new(record.id, belongs, record.max_units)));
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
    meters: Meters,
    held: HashMap<QuotaId, Held>,
    pace: Duration,
    outage: Outage,
    swept_at: Instant,
}

/// Who waits for units of one quota, each with how many.
#[derive(Default)]
struct Waiting {
    replies: Vec<(Arc<Meter>, u64, oneshot::Sender<Leased>)>,
    /// Somebody asked in advance.
    refill: bool,
}

impl Waiting {
    fn most(&self) -> Option<u64> {
        self.replies.iter().map(|(_, units, _)| *units).max()
    }

    fn least(&self) -> Option<u64> {
        self.replies.iter().map(|(_, units, _)| *units).min()
    }
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
    pub(crate) fn new(fleet: Fleet, holder: HolderId, shared: Arc<Shared>, blocks: Blocks, meters: Meters) -> Self {
        let pace = match shared.settings.reporting {
            Reporting::Prompt => Duration::ZERO,
            Reporting::Sparing => SETTLE_SPARINGLY,
        };
        Self {
            fleet,
            holder,
            shared,
            blocks,
            meters,
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

    /// Answers all waiting requests with one transaction, after one that opens the windows that have begun since.
    async fn lease(&mut self, first: LeaseRequest, queue: &mut mpsc::Receiver<LeaseRequest>) {
        let mut asked = vec![first];
        while asked.len() < BATCH
            && let Ok(next) = queue.try_recv()
        {
            asked.push(next);
        }
        let blocks = self.open_windows(&asked).await;
        let mut waiting: HashMap<QuotaId, Waiting> = HashMap::new();
        for (request, block) in asked.into_iter().zip(blocks) {
            let Some(block) = block else {
                if let Some(reply) = request.reply {
                    let _ = reply.send(Leased::Unavailable);
                }
                continue;
            };
            let quota = block.quota;
            self.held.entry(quota).or_insert_with(|| Held::new(block, Instant::now()));
            let waiting = waiting.entry(quota).or_default();
            match request.reply {
                Some(reply) => waiting.replies.push((request.meter, request.units, reply)),
                None => waiting.refill = true,
            }
        }
        let mut told = self.grant(&waiting, Waiting::most).await;
        // Where the largest does not fit, a smaller one may.
        let smaller = |waiting: &Waiting| waiting.least().filter(|least| Some(*least) < waiting.most());
        let is_empty = |quota| matches!(told.get(quota), Some(Told::Empty));
        let again: HashMap<_, _> = waiting
            .iter()
            .filter(|(quota, waiting)| is_empty(quota) && smaller(waiting).is_some())
            .map(|(quota, waiting)| (*quota, waiting))
            .collect();
        if !again.is_empty() {
            let further = self.grant(&again, |waiting| smaller(waiting)).await;
            told.extend(further);
        }
        for (quota, waiting) in waiting {
            let held = self.held.get(&quota);
            if let Some(held) = held {
                held.block.refill_done();
            }
            let told = told.get(&quota).copied().unwrap_or(Told::Unavailable);
            for (meter, units, reply) in waiting.replies {
                // Taken here and now: whoever waits gets the units before the next settle can give them back to another process. A waiter that
                // has left meanwhile leaves them to the next.
                let taken = held
                    .filter(|held| held.block.take(units))
                    .map(|held| Share::of(Arc::clone(&held.block), meter.unit, units));
                if matches!(told, Told::Gone) {
                    meter.forget();
                }
                let _ = reply.send(match (taken, told) {
                    (Some(share), _) => Leased::Granted(share),
                    (None, Told::Filled) => Leased::Outrun,
                    (None, Told::Empty) => Leased::Empty,
                    (None, Told::Gone) => Leased::Gone,
                    (None, Told::Unavailable) => Leased::Unavailable,
                });
            }
        }
    }

    /// The block of each request's limit in the window around now; those that are not there are opened together. `None`: the database is away.
    async fn open_windows(&mut self, asked: &[LeaseRequest]) -> Vec<Option<Arc<Block>>> {
        let clock = &self.shared.clock;
        let now = clock.db_time(clock.mono_ms());
        let mut missing: Vec<&Arc<Meter>> = Vec::new();
        for request in asked {
            if request.meter.block(now).is_none() && !missing.iter().any(|meter| Arc::ptr_eq(meter, &request.meter)) {
                missing.push(&request.meter);
            }
        }
        let wanted: Vec<_> = missing.iter().filter_map(|meter| Some((*meter, meter.wanted(now)?))).collect();
        if !wanted.is_empty() {
            let quotas: Vec<_> = wanted.iter().map(|(_, (quota, _))| *quota).collect();
            match self.fleet.open_quotas(&quotas).await {
                Ok(records) => {
                    for ((meter, (_, belongs)), record) in wanted.into_iter().zip(records) {
                        meter.install(self.blocks.open(record, belongs));
                    }
                }
                Err(error) => {
                    self.outage.began(&error);
                    self.shared.database.wrote(Writer::Ledger, Some(&error));
                }
            }
        }
        asked.iter().map(|request| request.meter.block(now)).collect()
    }

    /// Asks the ledger for what is waited for, where it is not here by now. `units` says how much of each.
    async fn grant<W: std::borrow::Borrow<Waiting>>(
        &mut self,
        waiting: &HashMap<QuotaId, W>,
        units: impl Fn(&Waiting) -> Option<u64>,
    ) -> HashMap<QuotaId, Told> {
        let mut told = HashMap::with_capacity(waiting.len());
        let mut reports = Vec::with_capacity(waiting.len());
        for (quota, waiting) in waiting {
            let Some(held) = self.held.get(quota) else { continue };
            let waiting = waiting.borrow();
            // A block that an earlier request has filled meanwhile needs no more, and a limit that only warns needs none at all.
            let enough = match units(waiting) {
                Some(units) => held.block.available() >= units && !held.block.is_low(),
                None => !held.block.is_low(),
            };
            if enough || units(waiting) == Some(0) {
                told.insert(*quota, Told::Filled);
            } else {
                reports.push(held.request(units(waiting).unwrap_or(0)));
            }
        }
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
        told
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
        let clock = &self.shared.clock;
        self.meters.tidy(clock.db_time(clock.mono_ms()));
        let blocks = &self.blocks;
        self.held.retain(|_, held| !(held.is_forgettable(now) && blocks.forget(&held.block)));
    }

    /// Gives back what the blocks of a changed token or project hold, so that a lowered limit holds once it is acknowledged. Lifetimes belong to
    /// tokens alone: no change of a project touches them.
    async fn recall(&mut self, recall: Recall) {
        let reports: Vec<_> = self
            .held
            .values_mut()
            .filter(|held| match recall.subject {
                Subject::Fleet => true,
                Subject::Token(token) => held.block.belongs.token == Some(token),
                Subject::Project(project) => held.block.belongs.project == project && !held.block.belongs.lifetime_requests,
            })
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
        let belongs = Belonging {
            token: None,
            project: store::ProjectId::new(),
            ends_at: store::DbTime(0),
            lifetime_requests: true,
        };
        let (blocks, record) = (
            Blocks::default(),
            QuotaRecord {
                id: QuotaId(1),
                max_units: 10,
            },
        );
        let granted = blocks.open(record, belongs);
        let held = Arc::clone(&granted);
        assert!(!blocks.forget(&held));
        drop(granted);
        assert!(blocks.forget(&held));
        assert_eq!(blocks.len(), 0);
    }
}

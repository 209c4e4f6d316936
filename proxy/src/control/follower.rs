//! Follows the change feed and loads grants. Both happen in this one task, so that a grant read before a change can never be put in after it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use store::{Change, DbTime, FeedVersion, Fleet, GrantRecord, HolderId, ProjectState, SchemaInfo, StoreError, Subject, TokenDigest, TokenState};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::outage::Outage;
use super::settler::Blocks;
use crate::block::Belonging;
use crate::database::Writer;
use crate::grant::{Grant, Standing};
use crate::meter::{Meter, Meters};
use crate::shared::{LoadRequest, Loaded, Recall, Shared};
use crate::upstream::Upstream;

/// Polling the head row is the truth; wake-ups only hasten it.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// An unchanged acknowledgement is repeated this often, or thrice within a stale window that is shorter.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// Acknowledgements are written at most this often: where changes come quickly one covers several.
const ACKNOWLEDGE_EVERY: Duration = Duration::from_millis(100);
/// Changes remembered for loads that are under way.
const REMEMBERED: usize = 4_096;
/// Look-ups under way at once; more wait their turn.
const LOADS_AT_ONCE: usize = 8;
/// Digests that wait here at most; beyond that requests wait in the bounded queue, and once it is full they are refused.
const LOADS_KEPT: usize = 1_024;

/// What the follower listens to.
pub(crate) struct FollowerInbox {
    pub(crate) loads: mpsc::Receiver<LoadRequest>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// The task's state.
pub(crate) struct Follower {
    fleet: Fleet,
    holder: HolderId,
    shared: Arc<Shared>,
    blocks: Blocks,
    meters: Meters,
    recalls: mpsc::Sender<Recall>,
    fences: Vec<mpsc::UnboundedSender<oneshot::Sender<()>>>,
    applied: FeedVersion,
    /// The last changes that were applied, and the version before the oldest of them.
    remembered: VecDeque<Change>,
    forgotten_up_to: FeedVersion,
    loading: HashMap<TokenDigest, Vec<oneshot::Sender<Loaded>>>,
    queued: VecDeque<TokenDigest>,
    /// Rises when the database was restored from an older copy: look-ups begun before are worth nothing.
    era: u64,
    heartbeat: Option<(FeedVersion, Instant)>,
    /// Whether the fleet is not in the database any more: it was emptied or created anew.
    gone: bool,
    outage: Outage,
    unwritten: Outage,
}

/// A look-up's end, and the era in which it began.
type LoadResult = (u64, TokenDigest, Result<Option<GrantRecord>, StoreError>);

impl Follower {
    pub(crate) fn new(
        fleet: Fleet,
        holder: HolderId,
        shared: Arc<Shared>,
        (blocks, meters): (Blocks, Meters),
        recalls: mpsc::Sender<Recall>,
        fences: Vec<mpsc::UnboundedSender<oneshot::Sender<()>>>,
    ) -> Self {
        Self {
            fleet,
            holder,
            shared,
            blocks,
            meters,
            recalls,
            fences,
            applied: FeedVersion::default(),
            remembered: VecDeque::new(),
            forgotten_up_to: FeedVersion::default(),
            loading: HashMap::new(),
            queued: VecDeque::new(),
            era: 0,
            heartbeat: None,
            gone: false,
            outage: Outage::new("the database cannot be read: known tokens are served until the stale window ends"),
            unwritten: Outage::new("the heartbeat cannot be written: what this replica follows is not known to others"),
        }
    }

    /// The first contact: without it nothing is served.
    pub(crate) async fn sync(&mut self) -> Result<(), StoreError> {
        let sent = self.shared.clock.mono_ms();
        let head = self.fleet.feed_head().await?;
        self.shared.clock.contact(sent, head.now);
        self.applied = head.version;
        self.forgotten_up_to = head.version;
        self.acknowledge().await;
        self.shared.synced.store(true, Ordering::Release);
        Ok(())
    }

    /// Runs until `stop`; then takes this process off the list of replicas.
    pub(crate) async fn run(mut self, mut inbox: FollowerInbox) {
        let mut wakeups = self.fleet.feed_wakeups();
        let mut poll = tokio::time::interval(POLL_EVERY);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut running: JoinSet<LoadResult> = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut inbox.stop) => break,
                Ok(()) = wakeups.changed() => self.follow().await,
                _ = poll.tick() => self.follow().await,
                () = until(self.owes_acknowledgement()) => self.acknowledge().await,
                Some(loaded) = running.join_next(), if !running.is_empty() => {
                    if let Ok((era, digest, result)) = loaded {
                        self.loaded(era, digest, result);
                    }
                    self.start_queued(&mut running);
                }
                request = inbox.loads.recv(), if self.loading.len() < LOADS_KEPT => match request {
                    Some(LoadRequest { digest, reply }) => {
                        let waiting = self.loading.entry(digest).or_default();
                        waiting.push(reply);
                        if waiting.len() == 1 {
                            self.queued.push_back(digest);
                        }
                        self.start_queued(&mut running);
                    }
                    None => break,
                },
            }
        }
        if let Err(error) = self.fleet.remove_replica(self.holder).await {
            tracing::warn!(%error, "this replica could not sign off; it counts until its heartbeat is stale");
        }
    }

    fn start_queued(&mut self, running: &mut JoinSet<LoadResult>) {
        while running.len() < LOADS_AT_ONCE
            && let Some(digest) = self.queued.pop_front()
        {
            let (fleet, era) = (self.fleet.clone(), self.era);
            running.spawn(async move {
                let result = fleet.load_grant(&digest).await;
                (era, digest, result)
            });
        }
    }

    /// Puts a loaded grant in, unless a change to it was applied since its row was read.
    fn loaded(&mut self, era: u64, digest: TokenDigest, result: Result<Option<GrantRecord>, StoreError>) {
        let loaded = match result {
            // What is not found in another database may well be valid.
            Ok(_) if self.gone => Loaded::Unavailable,
            Ok(_) if era != self.era => return self.queued.push_back(digest),
            Ok(Some(record)) if self.is_outdated(&record) => return self.queued.push_back(digest),
            Ok(Some(record)) => {
                let grant = Arc::new(self.grant(record));
                self.shared.grants.insert(&digest, Arc::clone(&grant));
                Loaded::Found(grant)
            }
            Ok(None) => Loaded::NotFound,
            Err(error) => {
                tracing::warn!(%error, "a token cannot be looked up");
                Loaded::Unavailable
            }
        };
        for reply in self.loading.remove(&digest).unwrap_or_default() {
            // A request that has gone needs no answer.
            let _ = reply.send(loaded.clone());
        }
    }

    fn is_outdated(&self, record: &GrantRecord) -> bool {
        let touches = |subject: &Subject| match subject {
            Subject::Fleet => true,
            Subject::Project(id) => *id == record.project,
            Subject::Token(id) => *id == record.token,
        };
        record.as_of < self.forgotten_up_to || self.remembered.iter().any(|c| c.version > record.as_of && touches(&c.subject))
    }

    fn grant(&self, record: GrantRecord) -> Grant {
        let standing = match (record.token_state, record.project_state) {
            _ if record.revision_ended => Standing::Inactive,
            (TokenState::Revoked | TokenState::Suspended, _) => Standing::Inactive,
            (TokenState::Active, ProjectState::Inactive | ProjectState::Deleted) => Standing::ProjectInactive,
            (TokenState::Active, ProjectState::Active) => Standing::Live,
        };
        let upstream = record.provider.and_then(|p| Upstream::from_record(p, &self.shared.egress)).map(Arc::new);
        // What lets nobody in needs no block.
        let mut meters = Vec::new();
        if standing == Standing::Live {
            let belongs = Belonging {
                token: Some(record.token),
                project: record.project,
                ends_at: DbTime(i64::MAX),
                lifetime_requests: true,
            };
            // What waiting cannot help against comes first.
            meters.extend(record.requests.map(|quota| Arc::new(Meter::lifetime(self.blocks.open(quota, belongs)))));
            meters.extend(record.limits.into_iter().map(|limit| self.meters.of(limit, record.project)));
        }
        Grant::new(
            (record.token, record.token_name),
            (record.project, record.project_name),
            standing,
            record.ends_at,
            upstream,
            meters,
        )
    }

    /// Reads the head; applies what has changed; acknowledges.
    async fn follow(&mut self) {
        let sent = self.shared.clock.mono_ms();
        let head = match self.fleet.feed_head().await {
            Ok(head) => head,
            Err(gone @ StoreError::Gone(_)) => return self.lost(&gone).await,
            Err(error) => return self.outage.began(&error),
        };
        self.look_at_the_schema(&head.schema);
        if head.version != self.applied || self.gone {
            match self.fleet.changes_after(self.applied).await {
                Ok(Some(changes)) if !self.gone => self.apply(changes, head.version).await,
                // A gap, or a database restored from an older copy: nothing derived from it can be trusted.
                Ok(_) => {
                    let everything = Change {
                        version: head.version,
                        subject: Subject::Fleet,
                    };
                    self.apply(vec![everything], head.version).await;
                }
                Err(error) => return self.outage.began(&error),
            }
        }
        self.gone = false;
        self.outage.ended();
        self.shared.notified.store(self.fleet.store().wakes_by_notification(), Ordering::Relaxed);
        self.shared.clock.contact(sent, head.now);
        self.acknowledge().await;
    }

    /// The database is another one. No grant may outlive that: what is revoked from now on is revoked there. The fleet may come back with a
    /// copy that is restored; in a new database it has another id, and only a restart finds it.
    async fn lost(&mut self, why: &StoreError) {
        self.ready_unless(Some(format!("{why}: restart this process")));
        self.gone = true;
        self.shared.grants.invalidate(&Subject::Fleet);
        self.fence().await;
    }

    async fn apply(&mut self, changes: Vec<Change>, head: FeedVersion) {
        if head < self.applied || self.gone {
            // Restored: its versions begin again from here, and those that we remember mean other changes.
            self.era += 1;
            self.remembered.clear();
            self.forgotten_up_to = head;
        }
        let mut last = head;
        for change in changes {
            self.shared.grants.invalidate(&change.subject);
            self.recall(change.subject).await;
            last = last.max(change.version);
            if self.remembered.len() == REMEMBERED
                && let Some(oldest) = self.remembered.pop_front()
            {
                self.forgotten_up_to = oldest.version;
            }
            self.remembered.push_back(change);
        }
        self.fence().await;
        self.applied = last;
    }

    /// A changed token's or project's blocks go back before the change is acknowledged.
    async fn recall(&self, subject: Subject) {
        let (done, answer) = oneshot::channel();
        if self.recalls.send(Recall { subject, done }).await.is_ok() {
            let _ = answer.await;
        }
    }

    /// Waits until every data thread has passed a point between two requests' dispatches.
    async fn fence(&self) {
        let mut passed = Vec::with_capacity(self.fences.len());
        for fence in &self.fences {
            let (done, answer) = oneshot::channel();
            // A thread that has ended starts no more requests.
            if fence.send(done).is_ok() {
                passed.push(answer);
            }
        }
        for answer in passed {
            let _ = answer.await;
        }
    }

    /// When an acknowledgement that was held back for others to join it is to be written.
    fn owes_acknowledgement(&self) -> Option<Instant> {
        let (version, at) = self.heartbeat?;
        (version != self.applied && !self.unwritten.lasts()).then(|| at + ACKNOWLEDGE_EVERY)
    }

    /// A newer binary may have migrated: a replica that cannot use the schema any more leaves the load balancer, and says why.
    fn look_at_the_schema(&self, schema: &SchemaInfo) {
        let outgrown = schema
            .check_reader()
            .and_then(|()| schema.check_writer())
            .err()
            .map(|error| error.to_string());
        self.ready_unless(outgrown);
    }

    /// Notes why the database cannot be served from, if it cannot; said once.
    fn ready_unless(&self, why: Option<String>) {
        if self.shared.database.outgrew(why.clone())
            && let Some(why) = why
        {
            tracing::error!(why, "this process is not ready any more");
        }
    }

    async fn acknowledge(&mut self) {
        self.shared
            .acked_version
            .store(u64::try_from(self.applied.0).unwrap_or(0), Ordering::Relaxed);
        let (stale_after, now) = (self.shared.clock.stale_after_ms(), Instant::now());
        let repeat = HEARTBEAT_EVERY.min(Duration::from_millis(stale_after / 3));
        let due = self.heartbeat.is_none_or(|(version, at)| {
            let since = now.duration_since(at);
            since >= repeat || (version != self.applied && since >= ACKNOWLEDGE_EVERY)
        });
        if due {
            let stale_after = i64::try_from(stale_after).unwrap_or(i64::MAX);
            match self.fleet.heartbeat(self.holder, self.applied, stale_after).await {
                Ok(()) => {
                    self.heartbeat = Some((self.applied, Instant::now()));
                    self.unwritten.ended();
                    self.shared.database.wrote(Writer::Heartbeat, None);
                }
                Err(error) => {
                    self.unwritten.began(&error);
                    self.shared.database.wrote(Writer::Heartbeat, Some(&error));
                }
            }
        }
    }
}

/// Completes at this moment, if there is one.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Completes when the process is told to stop, or its composition root is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
#[path = "follower_tests.rs"]
mod tests;

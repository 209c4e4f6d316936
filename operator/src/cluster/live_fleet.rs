//! One open database: whose it is, its handle, and the task that follows its feed; or why there is none.
//! It refuses to know which fleets there are and how a database is opened.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use store::{DbTime, FeedVersion, Fleet, ReplicaView, StoreError};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::AbortHandle;

use super::references::Key;

/// Versions of our own that are remembered until the feed has shown them.
const MOST_OWN: usize = 4_096;

/// How many departures are seen to at once in one database.
const DEPARTURES_AT_ONCE: usize = 8;

/// A fleet whose database is open and led.
#[derive(Debug)]
pub(crate) struct LiveFleet {
    /// Namespace and name of the ProxyConfig.
    pub(crate) key: Key,
    /// The database, writing as the leader of this process's epoch.
    pub(crate) fleet: Fleet,
    /// The base URL for applications, ending in `/v1`.
    pub(crate) base_url: String,
    /// Versions that this process made itself: whoever made them has looked already.
    own: Mutex<BTreeSet<FeedVersion>>,
    /// Whether it answered and took writes at the follower's last sample.
    answers: AtomicBool,
    /// Whether the row says that the rows go with their ProxyConfig.
    goes: AtomicBool,
    /// Whose turn it is among the departures.
    turns: Semaphore,
    /// The task that follows the feed.
    follower: OnceLock<AbortHandle>,
}

impl LiveFleet {
    /// A fleet whose database was just opened.
    pub(crate) fn new(key: Key, fleet: Fleet, base_url: String) -> Self {
        Self {
            key,
            fleet,
            base_url,
            own: Mutex::default(),
            answers: AtomicBool::new(false),
            goes: AtomicBool::new(false),
            turns: Semaphore::new(DEPARTURES_AT_ONCE),
            follower: OnceLock::new(),
        }
    }

    /// The replicas that count.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn replicas(&self) -> store::Result<Vec<ReplicaView>> {
        self.fleet.replicas().await
    }

    /// The database's clock.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn now(&self) -> store::Result<DbTime> {
        self.fleet.store().now().await
    }

    /// Notes a version of the feed that this process made, so that it wakes nobody.
    pub(crate) fn note_own(&self, version: FeedVersion) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.insert(version);
        while own.len() > MOST_OWN {
            own.pop_first();
        }
    }

    /// Whether this process made that version; it is asked for once.
    pub(crate) fn take_own(&self, version: FeedVersion) -> bool {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).remove(&version)
    }

    /// Notes whether it answers and takes writes.
    pub(crate) fn note_answers(&self, answers: bool) {
        self.answers.store(answers, Ordering::Relaxed);
    }

    /// Whether it answered and took writes when it was last sampled: a pause after a failure is over then.
    pub(crate) fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// Notes whether the row says that the rows go with their ProxyConfig.
    pub(crate) fn note_goes(&self, goes: bool) {
        self.goes.store(goes, Ordering::Relaxed);
    }

    /// Whether the rows go with their ProxyConfig, as far as was seen: if not, a database that is gone as well is not asked.
    pub(crate) fn goes(&self) -> bool {
        self.goes.load(Ordering::Relaxed)
    }

    /// Waits for a turn among the departures, which lasts until it is dropped.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }

    /// The task that follows its feed ends with it.
    pub(crate) fn followed_by(&self, task: AbortHandle) {
        if let Err(second) = self.follower.set(task) {
            second.abort();
        }
    }

    /// Stops following the feed: the ProxyConfig is gone or has another database.
    pub(crate) fn stop_following(&self) {
        if let Some(task) = self.follower.get() {
            task.abort();
        }
    }
}

impl Drop for LiveFleet {
    fn drop(&mut self) {
        self.stop_following();
    }
}

/// Why a fleet has no open database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotLive {
    /// The reason that a condition shows.
    pub(crate) reason: crds::Reason,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

impl NotLive {
    /// What follows from an error of the store.
    pub(crate) fn because(error: &StoreError) -> Self {
        let reason = match error {
            StoreError::ReadOnly(_) => crds::Reason::DatabaseReadOnly,
            StoreError::Conflict { .. } => crds::Reason::DatabaseConflict,
            StoreError::WrongKey { .. } => crds::Reason::EncryptionKeyMismatch,
            StoreError::SchemaTooNew { .. } => crds::Reason::SchemaTooNew,
            _ => crds::Reason::DatabaseUnavailable,
        };
        Self {
            reason,
            message: error.to_string(),
        }
    }

    /// Whether it may pass by itself.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self.reason, crds::Reason::DatabaseUnavailable | crds::Reason::DatabaseReadOnly)
    }
}

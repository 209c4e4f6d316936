//! What the data threads and the control tasks share, and the bounded ways between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use store::{Subject, TokenDigest};
use tokio::sync::{mpsc, oneshot};

use crate::clock::SharedClock;
use crate::database::DatabaseState;
use crate::grant::{Grant, GrantTable};
use crate::manage::Manage;
use crate::meter::Meter;
use crate::metrics::ThreadCounters;
use crate::outcome::UsageSink;
use crate::permit::Share;
use crate::settings::Settings;
use crate::upstream::Egress;

/// One per process.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) clock: SharedClock,
    pub(crate) grants: GrantTable,
    pub(crate) egress: Egress,
    /// Bytes of request bodies that may still be held.
    pub(crate) body_budget: AtomicUsize,
    /// The feed version that all data threads have followed.
    pub(crate) acked_version: AtomicU64,
    /// The first sync with the database has happened.
    pub(crate) synced: AtomicBool,
    /// What is known of the database beyond the clock's last contact.
    pub(crate) database: DatabaseState,
    /// Other processes' commits wake this one, instead of being found by the next poll.
    pub(crate) notified: AtomicBool,
    /// /ready says no; answers carry `Connection: close`.
    pub(crate) draining: AtomicBool,
    /// The grace has ended: replies that still run end now. Whoever waits sees it within a few dozen milliseconds, because during a drain
    /// every connection's task is woken that often.
    pub(crate) aborting: AtomicBool,
    /// `/manage`, where it is served beside `/v1`.
    pub(crate) manage: Option<Arc<Manage>>,
    pub(crate) threads: Vec<ThreadShare>,
}

impl Shared {
    /// Of a process with so many data threads that knows nothing yet.
    pub(crate) fn new(settings: Settings, egress: Egress, manage: Option<Arc<Manage>>, threads: usize) -> Self {
        let thread = || ThreadShare {
            counters: Arc::new(ThreadCounters::new()),
            usage: Arc::default(),
        };
        Self {
            clock: SharedClock::new(settings.stale_after),
            grants: GrantTable::new(settings.limits.max_grants),
            egress,
            body_budget: AtomicUsize::new(settings.limits.body_budget_bytes),
            acked_version: AtomicU64::new(0),
            synced: AtomicBool::new(false),
            database: DatabaseState::default(),
            notified: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            aborting: AtomicBool::new(false),
            manage,
            threads: (0..threads).map(|_| thread()).collect(),
            settings,
        }
    }
}

/// What one data thread shares with the control tasks.
pub(crate) struct ThreadShare {
    pub(crate) counters: Arc<ThreadCounters>,
    pub(crate) usage: Arc<UsageSink>,
}

/// A digest that no thread knows: load its grant.
pub(crate) struct LoadRequest {
    pub(crate) digest: TokenDigest,
    pub(crate) reply: oneshot::Sender<Loaded>,
}

/// What the loader found.
#[derive(Clone)]
pub(crate) enum Loaded {
    Found(Arc<Grant>),
    NotFound,
    Unavailable,
}

/// A limit whose block runs low, is empty, or is not there yet in this window. `reply` is absent when nobody waits.
pub(crate) struct LeaseRequest {
    pub(crate) meter: Arc<Meter>,
    /// What the caller needs; 0 if the block need only be there.
    pub(crate) units: u64,
    pub(crate) reply: Option<oneshot::Sender<Leased>>,
}

/// What the settler did.
#[derive(Debug)]
pub(crate) enum Leased {
    /// The units, taken for whoever asked: nothing can give them back before they are used.
    Granted(Share),
    /// Units came, and others who had asked before took them all: ask again.
    Outrun,
    /// The ledger answered that so many units are not free at this moment.
    Empty,
    /// The quota's row is gone.
    Gone,
    Unavailable,
}

/// Tells the settler to give back what the blocks of a changed token or project hold.
pub(crate) struct Recall {
    pub(crate) subject: Subject,
    pub(crate) done: oneshot::Sender<()>,
}

/// The data threads' ways to the control tasks; full means the control side is overwhelmed.
#[derive(Clone)]
pub(crate) struct ControlHandle {
    pub(crate) loads: mpsc::Sender<LoadRequest>,
    pub(crate) leases: mpsc::Sender<LeaseRequest>,
}

//! A running data plane: its threads, its control tasks, and its orderly end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use store::{Fleet, HolderId, StoreError};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::clock::SharedClock;
use crate::control::{Follower, FollowerInbox, Settler, SettlerInbox, flush_usage};
use crate::data_thread::{self, Seed};
use crate::drain::{DrainReport, Phase};
use crate::grant::GrantTable;
use crate::listener;
use crate::manage::{self, Manage};
use crate::metrics::ThreadCounters;
use crate::settings::Settings;
use crate::shared::{ControlHandle, Shared, ThreadShare};
use crate::upstream::{Egress, EgressError};

/// Look-ups and leases that may wait for the control side; more are answered 503 at once.
const QUEUE: usize = 4_096;
/// For leases, usage and the replica's row to be written at the end.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Why a data plane cannot start. One line each.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// The system's answer.
        why: io::Error,
    },
    /// The CA bundle cannot be used.
    #[error("{0}")]
    Egress(String),
    /// The first contact with the database failed.
    #[error("the fleet cannot be read: {0}")]
    Store(#[from] StoreError),
    /// The management token cannot be had.
    #[error("{0}")]
    Manage(String),
    /// A thread cannot be started.
    #[error("a data thread cannot be started: {0}")]
    Thread(io::Error),
}

/// A running data plane.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    control: ControlTasks,
}

struct ControlTasks {
    settler: tokio::task::JoinHandle<bool>,
    follower: tokio::task::JoinHandle<()>,
    usage: tokio::task::JoinHandle<()>,
    manage: Option<ManageTasks>,
    stop_follower: watch::Sender<bool>,
    usage_done: watch::Sender<bool>,
}

/// What runs for `/manage` besides its requests.
struct ManageTasks {
    address: Option<SocketAddr>,
    listener: Option<tokio::task::JoinHandle<()>>,
    denials: tokio::task::JoinHandle<()>,
    stop_listener: watch::Sender<bool>,
    stop_denials: watch::Sender<bool>,
}

impl ManageTasks {
    fn start(manage: Arc<Manage>, listener: Option<TcpListener>, shared: &Arc<Shared>) -> Self {
        let (stop_listener, listener_stop) = watch::channel(false);
        let (stop_denials, denials_stop) = watch::channel(false);
        Self {
            address: listener.as_ref().and_then(|listener| listener.local_addr().ok()),
            listener: listener.map(|listener| tokio::spawn(manage::listen(Arc::clone(&manage), listener, listener_stop))),
            denials: tokio::spawn(manage::follow_denials(manage, Arc::clone(shared), denials_stop)),
            stop_listener,
            stop_denials,
        }
    }

    /// No more requests first, then the last refusals.
    async fn stop(self) {
        self.stop_listener.send_replace(true);
        if let Some(listener) = self.listener {
            let _ = listener.await;
        }
        self.stop_denials.send_replace(true);
        let _ = self.denials.await;
    }
}

impl Proxy {
    /// Binds, makes the first contact with the database and starts serving. The calling runtime becomes the control runtime.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn start(settings: Settings, fleet: Fleet, holder: HolderId) -> Result<Self, StartError> {
        let count = thread_count(settings.threads);
        let egress = Egress::new(&settings.egress).map_err(|e: EgressError| StartError::Egress(e.to_string()))?;
        let wanted = settings.listen;
        let manage = settings.manage.as_ref().map(|manage| Manage::new(manage, fleet.clone(), holder));
        let manage = manage.transpose().map_err(StartError::Manage)?.map(Arc::new);
        let own = settings.manage.as_ref().and_then(|manage| manage.listen);
        let own = own.map(|address| manage::bind(address).map_err(|why| StartError::Listen { address, why }));
        let own = own.transpose()?;
        let (address, listeners) = listener::bind(wanted, count).map_err(|why| StartError::Listen { address: wanted, why })?;

        let shared = Arc::new(Shared {
            clock: SharedClock::new(settings.stale_after),
            grants: GrantTable::new(settings.limits.max_grants),
            egress,
            body_budget: AtomicUsize::new(settings.limits.body_budget_bytes),
            acked_version: AtomicU64::new(0),
            synced: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            aborting: AtomicBool::new(false),
            manage: manage.clone().filter(|_| own.is_none()),
            threads: (0..count)
                .map(|_| ThreadShare {
                    counters: Arc::new(ThreadCounters::new()),
                    usage: Arc::default(),
                })
                .collect::<Vec<_>>(),
            settings,
        });
        let (loads, load_requests) = mpsc::channel(QUEUE);
        let (leases, lease_requests) = mpsc::channel(QUEUE);
        let (recalls, recall_requests) = mpsc::channel(QUEUE);
        let (fences, fence_inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let (stop_follower, stop) = watch::channel(false);
        let (usage_done, usage_stop) = watch::channel(false);

        let mut follower = Follower::new(fleet.clone(), holder, Arc::clone(&shared), recalls, fences);
        follower.sync().await?;

        let (phase, phases) = watch::channel(Phase::Serving);
        let handle = ControlHandle { loads, leases };
        let mut threads = Vec::with_capacity(count);
        for (index, (listener, fences)) in listeners.into_iter().zip(fence_inboxes).enumerate() {
            let seed = Seed {
                index,
                runtime: data_thread::runtime().map_err(StartError::Thread)?,
                shared: Arc::clone(&shared),
                control: handle.clone(),
                control_runtime: Handle::current(),
                listener,
                phase: phases.clone(),
                fences,
                id_seed: uuid::Uuid::new_v4().as_u64_pair().0,
            };
            let thread = std::thread::Builder::new()
                .name(format!("data-{index}"))
                .spawn(move || data_thread::run(seed));
            threads.push(thread.map_err(StartError::Thread)?);
        }
        let settler = Settler::new(fleet.clone(), holder);
        let control = ControlTasks {
            settler: tokio::spawn(settler.run(SettlerInbox {
                leases: lease_requests,
                recalls: recall_requests,
            })),
            follower: tokio::spawn(follower.run(FollowerInbox { loads: load_requests, stop })),
            manage: manage.map(|manage| ManageTasks::start(manage, own, &shared)),
            usage: tokio::spawn(flush_usage(fleet, Arc::clone(&shared), usage_stop)),
            stop_follower,
            usage_done,
        };
        Ok(Self {
            address,
            shared,
            phase,
            threads,
            control,
        })
    }

    /// The bound address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The bound address of `/manage`, if it has one of its own.
    #[must_use]
    pub fn manage_addr(&self) -> Option<SocketAddr> {
        self.control.manage.as_ref().and_then(|manage| manage.address)
    }

    /// Leaves in order (contracts.md §6): announce, stop accepting, let running replies end, give leases back, sign off.
    pub async fn drain(self) -> DrainReport {
        let settings = self.shared.settings.drain.clone();
        self.shared.draining.store(true, Ordering::Relaxed);
        self.phase.send_replace(Phase::Announced);
        tokio::time::sleep(settings.delay).await;

        self.phase.send_replace(Phase::Closing);
        let threads = self.threads;
        let mut ended = tokio::task::spawn_blocking(move || {
            for thread in threads {
                match thread.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!(%error, "a data thread ended with an error"),
                    Err(_) => tracing::error!("a data thread panicked"),
                }
            }
        });
        if tokio::time::timeout(settings.grace, &mut ended).await.is_err() {
            self.shared.aborting.store(true, Ordering::Relaxed);
            self.phase.send_replace(Phase::Aborting);
            let _ = ended.await;
        }

        // Together, because each of them may be waiting for a database that is away.
        self.control.usage_done.send_replace(true);
        self.control.stop_follower.send_replace(true);
        let manage = async {
            if let Some(manage) = self.control.manage {
                manage.stop().await;
            }
        };
        let (_, usage, follower, leases_returned) = tokio::join!(
            tokio::time::timeout(LAST_WORDS, manage),
            tokio::time::timeout(LAST_WORDS, self.control.usage),
            tokio::time::timeout(LAST_WORDS, self.control.follower),
            tokio::time::timeout(LAST_WORDS, self.control.settler),
        );
        if usage.is_err() || follower.is_err() {
            tracing::warn!("the database did not take this process's last words in time");
        }
        let cut = self.shared.threads.iter().map(|t| t.counters.drained.load(Ordering::Relaxed)).sum();
        DrainReport {
            cut,
            leases_returned: matches!(leases_returned, Ok(Ok(true))),
        }
    }
}

fn thread_count(asked: usize) -> usize {
    if asked > 0 {
        asked
    } else {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

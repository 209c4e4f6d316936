//! A running data plane: its threads, its control tasks, and its orderly end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use store::{Fleet, HolderId, StoreError};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use crate::control::{Blocks, Follower, FollowerInbox, Settler, SettlerInbox, flush_usage, sweep};
use crate::data_thread::{self, Seed};
use crate::drain::{DrainReport, Phase};
use crate::listener;
use crate::manage::{self, Manage};
use crate::meter::Meters;
use crate::settings::Settings;
use crate::shared::{ControlHandle, LeaseRequest, LoadRequest, Shared};
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
    manage: Option<ManageTasks>,
    control: Control,
}

/// The control side: what the data threads wait for until there is a database, and who does the work afterwards.
enum Control {
    Waiting(Inboxes),
    Running(ControlTasks),
    /// Between the two, and after the end.
    Gone,
}

/// The control side's ends of the ways between it and the data threads.
struct Inboxes {
    loads: mpsc::Receiver<LoadRequest>,
    leases: mpsc::Receiver<LeaseRequest>,
    fences: Vec<mpsc::UnboundedSender<oneshot::Sender<()>>>,
}

struct ControlTasks {
    settler: tokio::task::JoinHandle<bool>,
    follower: tokio::task::JoinHandle<()>,
    sweeper: tokio::task::JoinHandle<()>,
    usage: tokio::task::JoinHandle<()>,
    stop_follower: watch::Sender<bool>,
    usage_done: watch::Sender<bool>,
}

/// What runs for `/manage` besides its requests on the shared port.
struct ManageTasks {
    manage: Arc<Manage>,
    address: Option<SocketAddr>,
    listener: Option<tokio::task::JoinHandle<()>>,
    /// Once there is a database to write them into.
    denials: Option<tokio::task::JoinHandle<()>>,
    stop_listener: watch::Sender<bool>,
    stop_denials: watch::Sender<bool>,
}

impl ManageTasks {
    fn start(manage: Arc<Manage>, shared: &Arc<Shared>, listener: Option<TcpListener>) -> Self {
        let (stop_listener, listener_stop) = watch::channel(false);
        Self {
            address: listener.as_ref().and_then(|listener| listener.local_addr().ok()),
            listener: listener.map(|listener| tokio::spawn(manage::listen(Arc::clone(&manage), Arc::clone(shared), listener, listener_stop))),
            denials: None,
            stop_listener,
            stop_denials: watch::channel(false).0,
            manage,
        }
    }

    fn connect(&mut self, fleet: Fleet, holder: HolderId, shared: &Arc<Shared>) {
        let context = self.manage.connect(fleet, holder);
        self.denials = Some(tokio::spawn(manage::follow_denials(
            context,
            Arc::clone(shared),
            self.stop_denials.subscribe(),
        )));
    }

    /// No more requests first, then the last refusals.
    async fn stop(self) {
        self.stop_listener.send_replace(true);
        if let Some(listener) = self.listener {
            let _ = listener.await;
        }
        self.stop_denials.send_replace(true);
        if let Some(denials) = self.denials {
            let _ = denials.await;
        }
    }
}

impl Proxy {
    /// Binds, starts serving and makes the first contact with the database. The calling runtime becomes the control runtime.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn start(settings: Settings, fleet: Fleet, holder: HolderId) -> Result<Self, StartError> {
        let mut proxy = Self::bind(settings)?;
        match proxy.connect(fleet, holder).await {
            Ok(()) => Ok(proxy),
            Err(error) => {
                proxy.end_at_once().await;
                Err(error.into())
            }
        }
    }

    /// Binds and starts the data threads, without a database: until [`Proxy::connect`] the process lives but is not ready, and /v1 is
    /// answered 503 with Retry-After. The calling runtime becomes the control runtime.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub fn bind(settings: Settings) -> Result<Self, StartError> {
        let count = thread_count(settings.threads);
        let egress = Egress::new(&settings.egress).map_err(|e: EgressError| StartError::Egress(e.to_string()))?;
        let wanted = settings.listen;
        let manage = settings.manage.as_ref().map(Manage::new);
        let manage = manage.transpose().map_err(StartError::Manage)?.map(Arc::new);
        let own = settings.manage.as_ref().and_then(|manage| manage.listen);
        let own = own.map(|address| manage::bind(address).map_err(|why| StartError::Listen { address, why }));
        let own = own.transpose()?;
        let (address, listeners) = listener::bind(wanted, count).map_err(|why| StartError::Listen { address: wanted, why })?;

        let beside_v1 = manage.clone().filter(|_| own.is_none());
        let shared = Arc::new(Shared::new(settings, egress, beside_v1, count));
        let (loads, load_requests) = mpsc::channel(QUEUE);
        let (leases, lease_requests) = mpsc::channel(QUEUE);
        let (fences, fence_inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
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
        Ok(Self {
            address,
            phase,
            threads,
            manage: manage.map(|manage| ManageTasks::start(manage, &shared, own)),
            shared,
            control: Control::Waiting(Inboxes {
                loads: load_requests,
                leases: lease_requests,
                fences,
            }),
        })
    }

    /// Makes the first contact with the database: from now on tokens are served and the process is ready. Once it has succeeded, further
    /// calls do nothing. It can be tried again, also when its future was dropped.
    ///
    /// # Errors
    /// Those of any read; the process goes on waiting.
    pub async fn connect(&mut self, fleet: Fleet, holder: HolderId) -> Result<(), StoreError> {
        let Control::Waiting(Inboxes { fences, .. }) = &self.control else {
            return Ok(());
        };
        let (recalls, recall_requests) = mpsc::channel(QUEUE);
        let (blocks, meters) = (Blocks::default(), Meters::default());
        let mut follower = Follower::new(
            fleet.clone(),
            holder,
            Arc::clone(&self.shared),
            (blocks.clone(), meters.clone()),
            recalls,
            fences.clone(),
        );
        follower.sync().await?;

        let Control::Waiting(Inboxes { loads, leases, .. }) = std::mem::replace(&mut self.control, Control::Gone) else {
            return Ok(());
        };
        if let Some(manage) = &mut self.manage {
            manage.connect(fleet.clone(), holder, &self.shared);
        }
        let (stop_follower, stop) = watch::channel(false);
        let (usage_done, usage_stop) = watch::channel(false);
        let settler = Settler::new(fleet.clone(), holder, Arc::clone(&self.shared), blocks, meters);
        self.control = Control::Running(ControlTasks {
            settler: tokio::spawn(settler.run(SettlerInbox {
                leases,
                recalls: recall_requests,
            })),
            follower: tokio::spawn(follower.run(FollowerInbox { loads, stop })),
            sweeper: tokio::spawn(sweep(fleet.clone())),
            usage: tokio::spawn(flush_usage(fleet, holder, Arc::clone(&self.shared), usage_stop)),
            stop_follower,
            usage_done,
        });
        Ok(())
    }

    /// Says what the process waits for until [`Proxy::connect`] succeeds; /ready repeats it to anybody.
    pub fn waits_for(&self, what: impl Into<String>) {
        self.shared.database.waits_for(what.into());
    }

    /// The bound address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The bound address of `/manage`, if it has one of its own.
    #[must_use]
    pub fn manage_addr(&self) -> Option<SocketAddr> {
        self.manage.as_ref().and_then(|manage| manage.address)
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

        let manage = async {
            if let Some(manage) = self.manage {
                manage.stop().await;
            }
        };
        // Beside the last words of the data plane, each of which may be waiting for a database that is away.
        let manage = tokio::time::timeout(LAST_WORDS, manage);
        let control = async {
            match self.control {
                Control::Running(tasks) => tasks.end().await,
                // There was never anything to return.
                Control::Waiting(_) | Control::Gone => true,
            }
        };
        let (_, leases_returned) = tokio::join!(manage, control);
        let cut = self.shared.threads.iter().map(|t| t.counters.drained.load(Ordering::Relaxed)).sum();
        DrainReport { cut, leases_returned }
    }

    /// Ends a process that never came to serve.
    async fn end_at_once(self) {
        self.shared.aborting.store(true, Ordering::Relaxed);
        self.phase.send_replace(Phase::Aborting);
        let threads = self.threads;
        let _ = tokio::task::spawn_blocking(move || threads.into_iter().map(|thread| drop(thread.join())).count()).await;
    }
}

impl ControlTasks {
    /// Lets each of them write its last words. Returns whether all leases went back.
    async fn end(self) -> bool {
        self.sweeper.abort();
        // Together, because each of them may be waiting for a database that is away.
        self.usage_done.send_replace(true);
        self.stop_follower.send_replace(true);
        let (usage, follower, leases_returned) = tokio::join!(
            tokio::time::timeout(LAST_WORDS, self.usage),
            tokio::time::timeout(LAST_WORDS, self.follower),
            tokio::time::timeout(LAST_WORDS, self.settler),
        );
        if usage.is_err() || follower.is_err() {
            tracing::warn!("the database did not take this process's last words in time");
        }
        matches!(leases_returned, Ok(Ok(true)))
    }
}

fn thread_count(asked: usize) -> usize {
    if asked > 0 {
        asked
    } else {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

//! The operator's life: candidate, leader for a term, candidate again; and its orderly end. It refuses to know what is done to objects.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::context::{Context, Hook};
use super::controllers;
use super::departures::{self, Departures};
use super::events::EventSink;
use super::fleets::Fleets;
use super::gate::Gate;
use super::http::{self, Readiness};
use super::in_force::ProjectsInForce;
use super::lease::Elector;
use super::memories::Memories;
use super::metrics::{Metrics, Term};
use super::options::Options;
use super::references::References;
use super::scope::Scope;
use super::secret_watch::OwnSecrets;
use super::wake::Wakes;
use super::watches::{Concerned, Watches};

/// How long what is in flight may take to end after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(20);
/// How long events that still wait may take to be sent at the end.
const LAST_EVENTS: Duration = Duration::from_secs(2);
/// How long the first LIST of Secrets may hold up the first looks: it may be long, and it only saves work.
const FIRST_SECRETS: Duration = Duration::from_secs(5);
/// How long a call at the start of a term may take.
const CALL: Duration = Duration::from_secs(10);
/// The pause after a failed start of a term.
const AGAIN: Duration = Duration::from_secs(2);

/// Why the operator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No way to reach an API server is known.
    #[error("no API server is configured ({0}): set KUBECONFIG, or run in a Pod with a ServiceAccount")]
    NoCluster(String),
    /// The namespaced scope lacks an identity.
    #[error("with --watch-namespace the cluster's identity must be given: add --cluster-id, the same for every operator of this cluster")]
    NoClusterId,
    /// The Lease's periods do not fit.
    #[error("{0}")]
    LeaseTiming(&'static str),
    /// Health and metrics cannot be served.
    #[error("cannot listen on {0}: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
}

/// A client as the operator needs it: from `kubeconfig` if given, else from KUBECONFIG or the Pod's ServiceAccount. Nothing is sent twice by it:
/// whether a write may be repeated is decided by who sent it, after a look at the gate.
///
/// # Errors
/// [`OperatorError::NoCluster`].
pub async fn connect(kubeconfig: Option<&std::path::Path>, identity: &str) -> Result<Client, OperatorError> {
    let none = |error: &dyn std::error::Error| OperatorError::NoCluster(error.to_string());
    let mut config = match kubeconfig {
        None => Config::infer().await.map_err(|error| none(&error))?,
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| none(&error))?;
            let read = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
            read.map_err(|error| none(&error))?
        }
    };
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    let agent = format!("llm-proxy-operator/{} ({identity})", env!("CARGO_PKG_VERSION"));
    // An identity with characters that no header takes is left out: the default name of the client stands then.
    if let Ok(agent) = ::http::HeaderValue::from_str(&agent) {
        config.headers.push((::http::header::USER_AGENT, agent));
    }
    Client::try_from(config).map_err(|error| none(&error))
}

/// Runs the operator until `stop` is there and everything in flight has ended.
///
/// # Errors
/// What makes a start senseless; everything else is waited for.
pub async fn run(client: Client, options: Options, stop: impl Future<Output = ()>) -> Result<(), OperatorError> {
    run_with_hook(client, options, stop, None).await
}

/// [`run`], with a hook after each performed effect.
///
/// # Errors
/// Those of [`run`].
pub async fn run_with_hook(client: Client, options: Options, stop: impl Future<Output = ()>, hook: Option<Hook>) -> Result<(), OperatorError> {
    options.lease_timing.check().map_err(OperatorError::LeaseTiming)?;
    if options.cluster_id.is_none() && options.scope != Scope::Cluster {
        return Err(OperatorError::NoClusterId);
    }
    let metrics = Metrics::default();
    let readiness = Readiness::new(metrics.clone());
    let mut served = JoinSet::new();
    if let Some(listen) = options.listen {
        let listener = http::bind(listen).await.map_err(|error| OperatorError::Listen(listen, error))?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!("health and metrics are served on http://{address}");
        }
        served.spawn(http::serve(listener, metrics.clone(), readiness.clone()));
    }
    let gate = Gate::closed();
    // No other process may have this name, not even the one that ran in this Pod before.
    let serial = Uuid::new_v4().simple().to_string();
    let identity = format!("{}_{}", options.identity, serial.get(..8).unwrap_or_default());
    let mut elector = Elector::new(client.clone(), &options, identity.clone(), gate.clone(), readiness);
    let (crash, mut crashed) = watch::channel(false);
    let hook = hook.map(|hook| crashing(hook, gate.clone(), crash.clone()));
    let leader = Leader {
        client,
        options,
        identity,
        gate,
        metrics,
        hook,
    };
    tokio::select! {
        () = leader.lead(&mut elector, stop) => elector.release().await,
        // Only a hook does this: as after a crash, nothing is given up and nothing ended.
        () = said(&mut crashed) => {}
    }
    Ok(())
}

/// Waits until it was said; for ever if nobody can say it any more.
async fn said(of: &mut watch::Receiver<bool>) {
    if of.wait_for(|said| *said).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A hook whose `Break` ends all writing at once.
fn crashing(hook: Hook, gate: Gate, crash: watch::Sender<bool>) -> Hook {
    Arc::new(move |object, effect| {
        let flow = hook(object, effect);
        if flow.is_break() {
            gate.close();
            crash.send_replace(true);
        }
        flow
    })
}

/// What a process needs to lead.
struct Leader {
    client: Client,
    options: Options,
    identity: String,
    gate: Gate,
    metrics: Metrics,
    hook: Option<Hook>,
}

impl Leader {
    /// Candidate and leader by turns, until `stop` is there.
    async fn lead(&self, elector: &mut Elector, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = elector.acquire() => {}
            }
            tracing::info!("this process leads as {}", self.identity);
            let (asked, asked_to_stop) = watch::channel(false);
            let mut term = std::pin::pin!(self.term(asked_to_stop));
            let mut keeping = std::pin::pin!(elector.keep());
            tokio::select! {
                // Dropping the term drops every look at an object, wherever it is.
                () = &mut keeping => {}
                () = &mut term => {}
                () = &mut stop => {
                    tracing::info!("asked to end: what is in flight may take {DRAIN:?}");
                    asked.send_replace(true);
                    tokio::select! {
                        () = &mut keeping => {}
                        () = &mut term => {}
                        () = tokio::time::sleep(DRAIN) => tracing::warn!("what is in flight does not end: it is dropped; its effects are completed by the next leader"),
                    }
                    self.gate.close();
                    self.metrics.leads(None);
                    return;
                }
            }
            self.gate.close();
            self.metrics.leads(None);
            tracing::warn!("this process does not lead any more");
        }
    }

    /// One term of leadership; it ends by itself only after a stop, or when a part of it broke down.
    async fn term(&self, mut asked_to_stop: watch::Receiver<bool>) {
        let cluster = tokio::select! {
            cluster = self.cluster() => cluster,
            () = said(&mut asked_to_stop) => return,
        };
        let (wakes, woken) = Wakes::new();
        let (departures, departed) = Departures::new();
        let told = Concerned {
            references: References::default(),
            wakes: wakes.clone(),
            departures,
            events: EventSink::new(self.metrics.clone()),
            own_secrets: OwnSecrets::default(),
            metrics: self.metrics.clone(),
        };
        let (mut watches, stores) = Watches::start(self.client.clone(), &self.options.scope, told.clone());
        tokio::select! {
            () = watches.complete() => {}
            () = said(&mut asked_to_stop) => return,
        }
        watches.secrets();
        if tokio::time::timeout(FIRST_SECRETS, watches.complete()).await.is_err() {
            tracing::info!("the Secrets are still being listed: objects are looked at meanwhile");
        }
        watches.looked_at();
        let context = Arc::new(Context {
            client: self.client.clone(),
            cluster,
            options: self.options.clone(),
            stores: stores.clone(),
            references: told.references.clone(),
            fleets: Fleets::default(),
            wakes,
            gate: self.gate.clone(),
            memories: Memories::default(),
            in_force: ProjectsInForce::default(),
            departures: told.departures.clone(),
            events: told.events.clone(),
            own_secrets: told.own_secrets.clone(),
            metrics: self.metrics.clone(),
            hook: self.hook.clone(),
        });
        self.metrics.leads(Some(Term {
            stores: stores.clone(),
            fleets: context.fleets.clone(),
            waiting: context.wakes.waiting().clone(),
        }));
        tracing::info!(
            proxy_configs = stores.proxy_configs.len(),
            projects = stores.projects.len(),
            tokens = stores.tokens.len(),
            "the declared objects are known: looking at them"
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(departures::run(Arc::clone(&context), departed));
        let (client, gate, identity, events) = (self.client.clone(), self.gate.clone(), self.identity.clone(), told.events.clone());
        tasks.spawn(async move { events.send_all(client, &gate, &identity).await });
        tokio::select! {
            () = controllers::run(Arc::clone(&context), woken, asked_to_stop.clone()) => {}
            () = watches.broken() => {}
            _ = tasks.join_next() => tracing::error!("a task of the leader broke down, a fault of ours: beginning anew"),
        }
        if *asked_to_stop.borrow() {
            tasks.abort_all();
            told.events.send_rest(self.client.clone(), &self.gate, &self.identity, LAST_EVENTS).await;
        }
        for live in context.fleets.live() {
            live.fleet.store().close().await;
        }
    }

    /// The cluster part of every identity; asked for until it is known.
    async fn cluster(&self) -> String {
        if let Some(id) = &self.options.cluster_id {
            return id.clone();
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        loop {
            match tokio::time::timeout(CALL, namespaces.get_metadata("kube-system")).await {
                Ok(Ok(namespace)) => {
                    if let Some(uid) = namespace.metadata.uid {
                        return uid;
                    }
                    tracing::warn!("namespace kube-system has no uid: give --cluster-id");
                }
                Ok(Err(error)) => tracing::warn!("the uid of namespace kube-system, the cluster's identity, cannot be read: {error}; trying again"),
                Err(_) => tracing::warn!("the API server does not answer within {CALL:?}; trying again"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

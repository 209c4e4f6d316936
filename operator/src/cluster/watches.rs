//! The watches of a term of leadership: what they show goes into the copies and the references, and wakes whom it concerns.
//! It refuses to know what is done about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crds::events::EventReason;
use crds::{LlmProject, ProxyConfig, WitheringToken};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{Lookup, Store};
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use store::ResourceUid;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::departures::{Departed, Departures};
use super::dependants;
use super::events::EventSink;
use super::metrics::Metrics;
use super::mirror::{Change, Mirror};
use super::references::{Key, References, Referred};
use super::scope::Scope;
use super::secret_watch::{OwnSecrets, SecretMeta, SecretVersions};
use super::stores::Stores;
use super::wake::Wakes;
use super::watched::{Watched, inside, key, prune};
use super::watching::{Out, follow};
use super::workload;
use crate::effect::Notice;
use crate::object::Object;

/// The label by which our children are watched.
const OURS: &str = "app.kubernetes.io/managed-by=llm-proxy-operator";
/// How many events may wait between a watch and who takes them in.
const WAITING: usize = 64;

/// Whom the watches concern. Clones share it.
#[derive(Clone)]
pub(crate) struct Concerned {
    /// Who refers to what.
    pub(crate) references: References,
    /// Asking for a look.
    pub(crate) wakes: Wakes,
    /// What is gone.
    pub(crate) departures: Departures,
    /// What people are told.
    pub(crate) events: EventSink,
    /// The Secrets that this process wrote itself.
    pub(crate) own_secrets: OwnSecrets,
    /// What is counted.
    pub(crate) metrics: Metrics,
}

/// Running watches; dropped, they end.
pub(crate) struct Watches {
    tasks: JoinSet<()>,
    client: Client,
    namespaces: Vec<Option<String>>,
    told: Concerned,
    /// How many first LISTs are still to come before the copies are complete.
    missing: watch::Sender<usize>,
    /// While nobody looks at objects yet, the first LIST of Secrets wakes nobody.
    quiet: Arc<AtomicBool>,
}

impl Watches {
    /// Starts the watches of the three kinds and of their children.
    pub(crate) fn start(client: Client, scope: &Scope, told: Concerned) -> (Self, Stores) {
        let namespaces = match scope {
            Scope::Cluster => vec![None],
            Scope::Namespaces(names) => names.iter().cloned().map(Some).collect(),
        };
        let mut watches = Self {
            tasks: JoinSet::new(),
            client,
            namespaces,
            told,
            missing: watch::Sender::new(0),
            quiet: Arc::new(AtomicBool::new(true)),
        };
        let proxy_configs = watches.declared::<ProxyConfig>();
        let projects = watches.declared::<LlmProject>();
        let tokens = watches.declared::<WitheringToken>();
        let cluster_wide = *scope == Scope::Cluster;
        let namespaces = cluster_wide.then(|| watches.namespaces(projects.clone()));
        // A Deployment's status changes its version, too.
        watches.metadata::<Deployment>(proxy_configs.clone());
        watches.metadata::<Service>(proxy_configs.clone());
        watches.metadata::<PodDisruptionBudget>(proxy_configs.clone());
        let stores = Stores {
            proxy_configs,
            projects,
            tokens,
            namespaces,
        };
        (watches, stores)
    }

    /// Waits until every first LIST so far has come.
    pub(crate) async fn complete(&self) {
        let mut missing = self.missing.subscribe();
        let _ = missing.wait_for(|missing| *missing == 0).await;
    }

    /// Starts the watch of Secrets. Not before the copies are complete: only what is referred to is remembered.
    pub(crate) fn secrets(&mut self) {
        let events = self.follow::<SecretMeta>(None);
        let (told, namespaces, missing) = (self.told.clone(), self.namespaces.clone(), self.missing.clone());
        let quiet = Arc::clone(&self.quiet);
        missing.send_modify(|missing| *missing += 1);
        self.tasks.spawn(async move {
            let (mut events, mut versions, mut to_come) = (events, SecretVersions::new(told.own_secrets.clone()), namespaces.len());
            while let Some((part, event)) = events.recv().await {
                let done = matches!(event, Event::InitDone);
                let namespace = namespaces.get(part).and_then(Option::as_deref);
                let changed = versions.on(&told.references, namespace, event);
                if !quiet.load(Ordering::Acquire) {
                    for secret in changed {
                        dependants::wake(&told.references, &told.wakes, &Referred::Secret(secret));
                    }
                }
                if done && to_come > 0 {
                    to_come -= 1;
                    if to_come == 0 {
                        missing.send_modify(|missing| *missing -= 1);
                    }
                }
            }
        });
    }

    /// From now on objects are looked at, and every changed Secret wakes its referrers.
    pub(crate) fn looked_at(&self) {
        self.quiet.store(false, Ordering::Release);
    }

    /// Waits until a watch's task has ended, which only a fault of ours does.
    pub(crate) async fn broken(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Err(error) if error.is_panic() => {
                    tracing::error!("a watch broke down, a fault of ours: {error}");
                    return;
                }
                _ => {}
            }
        }
    }

    fn declared<K>(&mut self) -> Store<K>
    where
        K: Watched + Resource<Scope = NamespaceResourceScope>,
    {
        let told = self.told.clone();
        self.mirrored::<K>(move |change, unreadable| on_declared(change, unreadable, &told))
    }

    fn namespaces(&mut self, projects: Store<LlmProject>) -> Store<PartialObjectMeta<Namespace>> {
        type Meta = PartialObjectMeta<Namespace>;
        let (out, events) = mpsc::channel(WAITING);
        self.spawn_follow(Api::<Meta>::all(self.client.clone()), None, 0, out);
        let wakes = self.told.wakes.clone();
        let mirror = Mirror::<Meta>::new([None]);
        let store = mirror.store();
        self.take_in(mirror, events, guarded, move |change, _| {
            let (before, now) = match change {
                Change::Applied { before, now } => (before, now),
                Change::Deleted(gone) | Change::Missed(gone) => (None, gone),
                Change::Complete | Change::Relisted | Change::Unreadable { .. } => return,
            };
            if before.is_none_or(|before| before.metadata.labels != now.metadata.labels) {
                let name = now.metadata.name.as_deref().unwrap_or_default();
                // Only who needs another namespace's consent depends on labels.
                let concerned = projects
                    .state_filter(|project| project.metadata.namespace.as_deref() == Some(name) && project.spec.proxy_ref.namespace(name) != name);
                for project in concerned {
                    wakes.project(name, project.metadata.name.as_deref().unwrap_or_default());
                }
            }
        });
        store
    }

    /// Children of which only the existence and version matter.
    fn metadata<K>(&mut self, fleets: Store<ProxyConfig>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let mut events = self.follow::<PartialObjectMeta<K>>(Some(OURS));
        let wakes = self.told.wakes.clone();
        self.tasks.spawn(async move {
            let mut listed = std::collections::HashSet::new();
            while let Some((part, event)) = events.recv().await {
                match event {
                    Event::Apply(child) | Event::Delete(child) => wake_owner(&wakes, &child.metadata),
                    // What vanished during an interruption is not known: every fleet looks.
                    Event::InitDone if !listed.insert(part) => {
                        for fleet in fleets.state() {
                            let (namespace, name) = key(&fleet.metadata);
                            wakes.proxy_config(&namespace, &name);
                        }
                    }
                    Event::Init | Event::InitApply(_) | Event::InitDone => {}
                }
            }
        });
    }

    fn mirrored<K>(&mut self, on: impl FnMut(Change<K>, usize) + Send + 'static) -> Store<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Lookup<DynamicType = ()>,
        K: Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let events = self.follow::<DeserializeGuard<K>>(None);
        let mirror = Mirror::<K>::new(self.namespaces.clone());
        let store = mirror.store();
        self.take_in(mirror, events, |event| event, on);
        store
    }

    fn take_in<K, E>(
        &mut self,
        mut mirror: Mirror<K>,
        mut events: mpsc::Receiver<(usize, Event<E>)>,
        guard: impl Fn(Event<E>) -> Event<DeserializeGuard<K>> + Send + 'static,
        mut on: impl FnMut(Change<K>, usize) + Send + 'static,
    ) where
        K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + Send + Sync + 'static,
        E: Send + 'static,
    {
        let missing = self.missing.clone();
        missing.send_modify(|missing| *missing += 1);
        self.tasks.spawn(async move {
            while let Some((part, event)) = events.recv().await {
                let event = guard(event).modify(|object| prune(object.meta_mut()));
                for change in mirror.on(part, event) {
                    let complete = matches!(change, Change::Complete);
                    on(change, mirror.unreadable());
                    if complete {
                        missing.send_modify(|missing| *missing -= 1);
                    }
                }
            }
        });
    }

    /// One watch per namespace, all into one channel.
    fn follow<K>(&mut self, selector: Option<&'static str>) -> mpsc::Receiver<(usize, Event<K>)>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    {
        let (out, events) = mpsc::channel(WAITING);
        for (part, namespace) in self.namespaces.clone().into_iter().enumerate() {
            let client = self.client.clone();
            let api = match &namespace {
                None => Api::<K>::all(client),
                Some(namespace) => Api::namespaced(client, namespace),
            };
            self.spawn_follow(api, selector, part, out.clone());
        }
        events
    }

    fn spawn_follow<K>(&mut self, api: Api<K>, selector: Option<&'static str>, part: usize, out: Out<K>)
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    {
        let metrics = self.told.metrics.clone();
        self.tasks.spawn(async move { follow(api, selector, part, out, &metrics).await });
    }
}

fn on_declared<K: Watched>(change: Change<K>, unreadable: usize, told: &Concerned) {
    told.metrics.unreadable(K::KIND, unreadable);
    match change {
        Change::Applied { before, now } => {
            let of = key(now.meta());
            told.references.set(&K::referrer(of.clone()), now.references());
            // Deleted and made again between two looks of the watch: another object.
            if let Some(before) = before.as_ref().filter(|before| before.meta().uid != now.meta().uid) {
                told.departures.note(departed(before.as_ref()));
            }
            if before.as_ref().is_none_or(|before| inside(before.meta()) != inside(now.meta())) {
                told.wakes.object(K::KIND, &of.0, &of.1);
            }
            if before.is_none_or(|before| before.outside() != now.outside()) {
                wake_dependants::<K>(told, of);
            }
        }
        Change::Deleted(gone) => {
            forget::<K>(told, key(gone.meta()));
            told.departures.note(departed(gone.as_ref()));
        }
        // Perhaps deleted, perhaps a LIST that lied: what it means for its rows is found by difference.
        Change::Missed(gone) => forget::<K>(told, key(gone.meta())),
        Change::Relisted => told.departures.doubt(),
        Change::Complete => {}
        Change::Unreadable { namespace, name, uid, why } => {
            tracing::warn!("{} {namespace}/{name} cannot be read and keeps its last good state: {why}", K::KIND);
            let object = Object {
                kind: K::KIND,
                namespace,
                name,
                uid: ResourceUid::new(uid),
                generation: 0,
            };
            let note = format!("this version of the operator cannot read the object, whose last good state is kept: {why}");
            told.events.emit(
                &object,
                &Notice {
                    reason: EventReason::InvalidSpec,
                    note,
                },
            );
        }
    }
}

fn forget<K: Watched>(told: &Concerned, of: Key) {
    told.references.set(&K::referrer(of.clone()), std::collections::BTreeSet::new());
    wake_dependants::<K>(told, of);
}

fn wake_dependants<K: Watched>(told: &Concerned, of: Key) {
    if let Some(referred) = K::referred(of) {
        dependants::wake(&told.references, &told.wakes, &referred);
    }
}

fn departed<K: Watched>(object: &K) -> Departed {
    let (namespace, name) = key(object.meta());
    let uid = ResourceUid::new(object.meta().uid.clone().unwrap_or_default());
    Departed {
        kind: K::KIND,
        uid,
        namespace,
        name,
    }
}

/// Wakes the ProxyConfig that a child belongs to.
fn wake_owner(wakes: &Wakes, child: &ObjectMeta) {
    if let (Some(owner), Some(namespace)) = (workload::parent_name(child), &child.namespace) {
        wakes.proxy_config(namespace, owner);
    }
}

/// Metadata can always be read.
fn guarded<K>(event: Event<K>) -> Event<DeserializeGuard<K>> {
    match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(DeserializeGuard(Ok(object))),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(DeserializeGuard(Ok(object))),
        Event::Delete(object) => Event::Delete(DeserializeGuard(Ok(object))),
    }
}

#[cfg(test)]
mod tests {
    use super::workload::labels;
    use super::*;

    #[test]
    fn our_children_are_watched_by_the_label_that_they_carry() {
        assert_eq!(OURS, format!("{}={}", labels::MANAGED_BY, labels::OPERATOR));
    }
}

//! What the three kinds have in common for the driver: which kind, the latest copy, identity, and the status that was written last put over it.
//! It refuses to know what is observed besides the object itself.

use std::fmt::Debug;
use std::sync::Arc;

use crds::conditions::{Condition, ConditionType};
use crds::{Kind, LlmProject, Mode, ProxyConfig, Validate, WitheringToken};
use kube::core::NamespaceResourceScope;
use kube::core::object::{HasSpec, HasStatus};
use serde::de::DeserializeOwned;
use store::{DbTime, ReplicaView, ResourceUid};

use super::context::Context;
use super::failure::ReconcileError;
use super::fleets::NotLive;
use super::memories::Written;
use super::pass::{Look, Pass};
use super::stores::Stores;
use super::{observe_project, observe_proxy_config, observe_token};
use crate::effect::Status;
use crate::memory::Memory;
use crate::object::{Object, Resource, Standing};
use crate::observed::Observed;

/// One of the three kinds, as the watch shows it.
pub(crate) trait Driven:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasSpec<Spec: Validate + Clone>
    + HasStatus<Status: Clone>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Which kind it is.
    const KIND: Kind;

    /// The latest known copy under a name.
    fn latest(stores: &Stores, namespace: &str, name: &str) -> Option<Arc<Self>>;

    /// The status, for whoever treats the kinds alike.
    fn wrap(status: Self::Status) -> Status;

    /// The status of this kind; nothing if it is of another.
    fn unwrap(status: Status) -> Option<Self::Status>;

    /// The conditions of a status.
    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition>;

    /// Observes the object with everything that a decision about it needs.
    ///
    /// # Errors
    /// Those of the database and of the API server.
    fn observe(&self, context: &Context, pass: &mut Pass, memory: Memory) -> impl Future<Output = Result<Look, ReconcileError>> + Send;

    /// The object as it is observed while its fleet's database is away; nothing if it tells of that by itself.
    fn without_database(&self, context: &Context, memory: Memory, away: NotLive) -> Option<Observed>;
}

impl Driven for ProxyConfig {
    const KIND: Kind = Kind::ProxyConfig;

    fn latest(stores: &Stores, namespace: &str, name: &str) -> Option<Arc<Self>> {
        stores.proxy_config(namespace, name)
    }

    fn wrap(status: Self::Status) -> Status {
        Status::ProxyConfig(status)
    }

    fn unwrap(status: Status) -> Option<Self::Status> {
        if let Status::ProxyConfig(status) = status { Some(status) } else { None }
    }

    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition> {
        &mut status.conditions
    }

    async fn observe(&self, context: &Context, _: &mut Pass, memory: Memory) -> Result<Look, ReconcileError> {
        let seen = observe_proxy_config::observe(context, self, memory).await?;
        let (object, now) = (seen.resource.object.clone(), seen.resource.now);
        Ok(Look::Seen {
            seen: Box::new(Observed::ProxyConfig(seen)),
            now,
            fleet: context.fleets.get(&object.namespace, &object.name).and_then(Result::ok),
        })
    }

    fn without_database(&self, _: &Context, _: Memory, _: NotLive) -> Option<Observed> {
        None
    }
}

impl Driven for LlmProject {
    const KIND: Kind = Kind::LlmProject;

    fn latest(stores: &Stores, namespace: &str, name: &str) -> Option<Arc<Self>> {
        stores.project(namespace, name)
    }

    fn wrap(status: Self::Status) -> Status {
        Status::Project(status)
    }

    fn unwrap(status: Status) -> Option<Self::Status> {
        if let Status::Project(status) = status { Some(status) } else { None }
    }

    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition> {
        &mut status.conditions
    }

    async fn observe(&self, context: &Context, pass: &mut Pass, memory: Memory) -> Result<Look, ReconcileError> {
        observe_project::observe(context, self, pass, memory).await
    }

    fn without_database(&self, context: &Context, memory: Memory, away: NotLive) -> Option<Observed> {
        Some(observe_project::without_database(context, self, memory, away))
    }
}

impl Driven for WitheringToken {
    const KIND: Kind = Kind::WitheringToken;

    fn latest(stores: &Stores, namespace: &str, name: &str) -> Option<Arc<Self>> {
        stores.token(namespace, name)
    }

    fn wrap(status: Self::Status) -> Status {
        Status::Token(status)
    }

    fn unwrap(status: Status) -> Option<Self::Status> {
        if let Status::Token(status) = status { Some(status) } else { None }
    }

    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition> {
        &mut status.conditions
    }

    async fn observe(&self, context: &Context, pass: &mut Pass, memory: Memory) -> Result<Look, ReconcileError> {
        observe_token::observe(context, self, pass, memory).await
    }

    fn without_database(&self, context: &Context, memory: Memory, away: NotLive) -> Option<Observed> {
        Some(observe_token::without_database(context, self, memory, away))
    }
}

/// Who an object is.
pub(crate) fn identity<K: Driven>(declared: &K) -> Object {
    let meta = declared.meta();
    Object {
        kind: K::KIND,
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: ResourceUid::new(meta.uid.clone().unwrap_or_default()),
        generation: meta.generation.unwrap_or_default(),
    }
}

/// The version of the copy.
pub(crate) fn version<K: Driven>(declared: &K) -> &str {
    declared.meta().resource_version.as_deref().unwrap_or_default()
}

/// The copy with the status that was written last, while the watch still shows an older one.
pub(crate) fn brought_up<K: Driven>(shown: Arc<K>, written: Option<Written>) -> Arc<K> {
    let Some((version, status)) = written.and_then(|written| Some((written.resource_version, K::unwrap(written.status)?))) else {
        return shown;
    };
    let mut newer = K::clone(&shown);
    newer.meta_mut().resource_version = Some(version);
    *newer.status_mut() = Some(status);
    Arc::new(newer)
}

/// The status as the core compares it: without conditions that are none of ours, which others may have put beside ours.
pub(crate) fn own_status<K: Driven>(declared: &K) -> Option<K::Status> {
    let mut status = declared.status().cloned()?;
    K::conditions(&mut status).retain(|condition| condition.type_.parse::<ConditionType>().is_ok());
    Some(status)
}

/// The object as the core wants it.
pub(crate) fn resource<K: Driven>(
    context: &Context,
    declared: &K,
    memory: Memory,
    replicas: Vec<ReplicaView>,
    now: DbTime,
) -> Resource<K::Spec, K::Status> {
    Resource {
        object: identity(declared),
        cluster: context.cluster.clone(),
        spec: declared.spec().clone(),
        standing: standing(declared),
        status: own_status(declared),
        replicas,
        memory,
        now,
    }
}

/// An object on its way out never comes back, whatever still holds it. The rules are checked again here, because an object may be older than
/// the rule that it breaks.
fn standing<K: Driven>(declared: &K) -> Standing {
    if declared.meta().deletion_timestamp.is_some() {
        return Standing::Gone;
    }
    let broken: Vec<String> = declared.spec().validate(Mode::Cluster).iter().map(ToString::to_string).collect();
    if broken.is_empty() {
        Standing::Present
    } else {
        Standing::Unusable(broken.join("; "))
    }
}

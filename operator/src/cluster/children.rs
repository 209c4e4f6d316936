//! The children of a fleet as they stand beside how they are wanted, and the calls that bring them in line: server-side apply, of our fields only.
//! It refuses to know what a child is for.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::Value;

use super::FIELD_MANAGER;
use super::failure::{ApiFailure, ReconcileError, api};
use super::fleets::Fleets;
use super::perform::Outcome;
use super::references::Key;
use super::workload::Parent;
use super::workload::deployment::BOOT_HASH;
use super::workload::difference::{DESIRED_HASH, difference, digest, projection, stamp};
use crate::fleet::{Child, ChildKind, ChildSeen, ChildVersion, FleetEffect, Rollout};

/// The condition of a Deployment that says that its new pods do not come.
const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// A child that there may be.
pub(crate) enum Wanted {
    /// It is to stand like this.
    So(Child),
    /// It is not to stand.
    Not(ChildKind, String),
    /// How it is to stand is not known at this moment: it stays as it is.
    Unknown(ChildKind, String),
}

/// Looks at a child.
///
/// # Errors
/// [`ApiFailure`].
pub(crate) async fn look(
    client: &Client,
    fleets: &Fleets,
    parent: &Parent,
    wanted: Wanted,
) -> Result<(ChildSeen, Option<DynamicObject>), ApiFailure> {
    let (kind, name) = match &wanted {
        Wanted::So(child) => (child.kind(), child.name().to_owned()),
        Wanted::Not(kind, name) | Wanted::Unknown(kind, name) => (*kind, name.clone()),
    };
    let found = api(children(client, &parent.namespace, kind).get_opt(&name)).await?;
    let what = format!("{} {}/{name}", kind.as_str(), parent.namespace);
    let foreign = found.as_ref().filter(|found| !parent.owns(&found.metadata));
    let (act, conflict) = match (&wanted, &found) {
        (Wanted::So(_), Some(_)) if foreign.is_some() => {
            let why = format!("{what} is none of this ProxyConfig's and is left as it is; delete or rename it");
            (None, Some(why))
        }
        (Wanted::So(child), None) => (Some(FleetEffect::Apply(child.clone())), None),
        (Wanted::So(child), Some(found)) => (
            differs(fleets, parent, child, found, &what).then(|| FleetEffect::Apply(child.clone())),
            None,
        ),
        (Wanted::Not(..), Some(found)) if foreign.is_none() => (Some(FleetEffect::DeleteChild(version(kind, found))), None),
        (Wanted::Not(..) | Wanted::Unknown(..), _) => (None, None),
    };
    let seen = ChildSeen {
        what,
        act,
        conflict,
        needs_database: kind == ChildKind::Deployment,
    };
    Ok((seen, found.filter(|found| parent.owns(&found.metadata))))
}

fn version(kind: ChildKind, found: &DynamicObject) -> ChildVersion {
    ChildVersion {
        kind,
        name: found.metadata.name.clone().unwrap_or_default(),
        uid: found.metadata.uid.clone().unwrap_or_default(),
    }
}

/// Whether it stands otherwise than it is wanted. If the server itself made something else of our fields when they were applied, then that is
/// how they stand: applying them again would change nothing.
fn differs(fleets: &Fleets, parent: &Parent, child: &Child, found: &DynamicObject, what: &str) -> bool {
    let (Ok(wanted), Ok(stands)) = (child.to_json().map(stamp), serde_json::to_value(found)) else {
        return false;
    };
    let Some(path) = difference(&wanted, &stands) else { return false };
    let now = (hash_of(&wanted), digest(&projection(&wanted, &stands)));
    if fleets.applied(&key(parent), child.kind(), child.name()) == Some(now) {
        return false;
    }
    tracing::info!("{what} is brought in line: {path} differs");
    true
}

fn key(parent: &Parent) -> Key {
    (parent.namespace.clone(), parent.name.clone())
}

fn hash_of(stamped: &Value) -> String {
    let hash = stamped
        .get("metadata")
        .and_then(|metadata| metadata.get("annotations")?.get(DESIRED_HASH)?.as_str());
    hash.unwrap_or_default().to_owned()
}

/// Applies a child.
///
/// # Errors
/// Those after which it is not known what was done.
pub(crate) async fn apply(client: &Client, fleets: &Fleets, parent: &Key, child: &Child) -> Result<Outcome, ReconcileError> {
    let wanted = child.to_json().map(stamp).map_err(|error| ReconcileError::Panicked(error.to_string()))?;
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let applied = api(children(client, &parent.0, child.kind()).patch(child.name(), &params, &Patch::Apply(&wanted))).await;
    let what = format!("{} {}/{}", child.kind().as_str(), parent.0, child.name());
    Ok(match applied {
        Ok(stands) => {
            let stands = serde_json::to_value(&stands).map_err(|error| ReconcileError::Panicked(error.to_string()))?;
            fleets.note_applied(
                parent,
                child.kind(),
                child.name(),
                (hash_of(&wanted), digest(&projection(&wanted, &stands))),
            );
            Outcome::Done(None)
        }
        Err(ApiFailure::Overtaken) => Outcome::Overtaken,
        Err(ApiFailure::Missing) => Outcome::Failed(format!("{what} cannot be applied: the namespace is gone")),
        Err(ApiFailure::Refused(why)) => Outcome::Failed(format!("{what} cannot be applied: {why}")),
        Err(failure @ ApiFailure::Unavailable { .. }) => return Err(failure.into()),
    })
}

/// Deletes a child, if it still is the one that was observed.
///
/// # Errors
/// As [`apply`].
pub(crate) async fn delete(client: &Client, namespace: &str, child: &ChildVersion) -> Result<Outcome, ReconcileError> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(child.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match api(children(client, namespace, child.kind).delete(&child.name, &params)).await {
        Ok(_) | Err(ApiFailure::Missing) => Ok(Outcome::Done(None)),
        Err(ApiFailure::Overtaken) => Ok(Outcome::Overtaken),
        Err(ApiFailure::Refused(why)) => {
            let what = format!("{} {namespace}/{}", child.kind.as_str(), child.name);
            Ok(Outcome::Failed(format!("{what} cannot be deleted: {why}")))
        }
        Err(failure @ ApiFailure::Unavailable { .. }) => Err(failure.into()),
    }
}

fn children(client: &Client, namespace: &str, kind: ChildKind) -> Api<DynamicObject> {
    let resource = match kind {
        ChildKind::Deployment => ApiResource::erase::<Deployment>(&()),
        ChildKind::Service => ApiResource::erase::<Service>(&()),
        ChildKind::DisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
    };
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// What the pods of a Deployment's present template carry as their boot hash.
pub(crate) fn boot_hash(deployment: &DynamicObject) -> Option<&str> {
    let template = deployment.data.get("spec")?.get("template")?;
    template.get("metadata")?.get("annotations")?.get(BOOT_HASH)?.as_str()
}

/// How a Deployment's pods stand.
pub(crate) fn rollout(deployment: &DynamicObject, wanted: i32) -> Rollout {
    let status = deployment.data.get("status");
    let count = |name: &str| {
        let count = status.and_then(|status| status.get(name)?.as_i64());
        count.and_then(|count| i32::try_from(count).ok()).unwrap_or(0)
    };
    let conditions = status.and_then(|status| status.get("conditions")?.as_array()).into_iter().flatten();
    let text = |condition: &Value, name: &str| condition.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut failed =
        conditions.filter(|condition| text(condition, "reason") == PROGRESS_DEADLINE_EXCEEDED || text(condition, "type") == "ReplicaFailure");
    let observed = status.and_then(|status| status.get("observedGeneration")?.as_i64());
    Rollout {
        wanted,
        replicas: count("replicas"),
        ready: count("readyReplicas"),
        updated: count("updatedReplicas"),
        available: count("availableReplicas"),
        observed: observed.is_some() && observed >= deployment.metadata.generation,
        failed: failed.next().map(|condition| text(condition, "message")),
    }
}

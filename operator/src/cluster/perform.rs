//! Performing one effect in a cluster: rows in the fleet's database, Secrets, status and events through the API server.
//! It refuses to know why an effect was decided.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use store::{FeedVersion, StoreError};

use super::context::Context;
use super::driven::Driven;
use super::failure::{ApiFailure, ReconcileError, api, database};
use super::fleets::LiveFleet;
use super::pass::Pass;
use super::token_secret::{self, Found};
use super::{FIELD_MANAGER, STATUS_MANAGER, perform_fleet, status};
use crate::effect::{Effect, SecretVersion, SecretWrite, Status};
use crate::fleet::FleetEffect;
use crate::object::Object;
use crate::rows::{self, Performed};

/// What performing came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Done; the feed version that it made, if it made one.
    Done(Option<FeedVersion>),
    /// Something is no longer what was observed; nothing was done.
    Overtaken,
    /// It was refused, for this reason; nothing was done.
    Failed(String),
}

/// An object whose effects are performed.
pub(crate) struct Subject<'a> {
    /// Who it is.
    pub(crate) object: &'a Object,
    /// The version of the copy that was decided on.
    pub(crate) version: &'a str,
    /// The database that its rows are in.
    pub(crate) fleet: Option<&'a Arc<LiveFleet>>,
}

/// Performs an effect, if this process still leads.
///
/// # Errors
/// Those after which it is not known, or not worth knowing, what was done: the next look finds out.
pub(crate) async fn perform<K: Driven>(
    context: &Context,
    subject: &Subject<'_>,
    effect: &Effect,
    pass: &mut Pass,
) -> Result<Outcome, ReconcileError> {
    context.gate.check()?;
    let object = subject.object;
    if let Some((what, verb)) = api_write(effect) {
        context.metrics.wrote(what, verb);
    }
    match effect {
        Effect::WriteSecret(write) => write_secret(context, object, write, pass).await,
        Effect::DeleteSecret { name, expect } => delete_secret(context, object, name, expect, pass).await,
        Effect::SetStatus(wanted) => set_status::<K>(context, object, subject.version, wanted).await,
        Effect::Emit(notice) => {
            context.events.emit(object, notice);
            Ok(Outcome::Done(None))
        }
        Effect::Forget(_) => Ok(Outcome::Done(None)),
        Effect::Fleet(effect) => perform_fleet::perform(context, object, effect).await,
        _ => on_rows(subject.fleet, effect).await,
    }
}

/// Which write of the API server an effect is: of what, and how.
fn api_write(effect: &Effect) -> Option<(&'static str, &'static str)> {
    match effect {
        Effect::WriteSecret(write) => Some(("secrets", if write.expect.is_none() { "create" } else { "patch" })),
        Effect::DeleteSecret { .. } => Some(("secrets", "delete")),
        Effect::SetStatus(Status::ProxyConfig(_)) => Some(("proxyconfigs/status", "patch")),
        Effect::SetStatus(Status::Project(_)) => Some(("llmprojects/status", "patch")),
        Effect::SetStatus(Status::Token(_)) => Some(("witheringtokens/status", "patch")),
        Effect::Fleet(FleetEffect::GenerateSecret(_)) => Some(("secrets", "create")),
        Effect::Fleet(FleetEffect::TieKey(_)) => Some(("secrets", "patch")),
        Effect::Fleet(FleetEffect::Apply(child)) => Some((child.kind().as_str(), "patch")),
        Effect::Fleet(FleetEffect::DeleteChild(child)) => Some((child.kind.as_str(), "delete")),
        _ => None,
    }
}

/// Performs an effect on rows.
///
/// # Errors
/// Those of the store.
pub(crate) async fn on_rows(fleet: Option<&Arc<LiveFleet>>, effect: &Effect) -> Result<Outcome, ReconcileError> {
    let Some(live) = fleet else {
        return Err(StoreError::Refused("an effect on rows without a database".to_owned()).into());
    };
    match database(rows::perform(&live.fleet, effect)).await {
        Ok(Performed::Done(version)) => {
            if let Some(version) = version {
                live.note_own(version);
            }
            Ok(Outcome::Done(version))
        }
        Ok(Performed::NotRows) => Err(StoreError::Refused("an effect that nobody performs".to_owned()).into()),
        // The row was changed from elsewhere, for example revoked through /manage or by its project's deletion.
        Err(StoreError::NotFound { .. }) => Ok(Outcome::Overtaken),
        Err(error) => Err(error.into()),
    }
}

async fn write_secret(context: &Context, object: &Object, write: &SecretWrite, pass: &mut Pass) -> Result<Outcome, ReconcileError> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &object.namespace);
    let written = match &write.expect {
        None => {
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            api(secrets.create(&params, &token_secret::build(object, write))).await
        }
        Some(expected) => {
            let patch = token_secret::patch(object, write, expected, pass.known_token_secret(&write.name));
            api(secrets.patch(&write.name, &PatchParams::apply(FIELD_MANAGER), &Patch::Merge(patch))).await
        }
    };
    Ok(match written {
        Ok(secret) => {
            let version = secret.metadata.resource_version.clone().unwrap_or_default();
            context.own_secrets.note((object.namespace.clone(), write.name.clone()), version);
            pass.note_token_secret(&write.name, Found::read(&secret, object.uid.as_str()));
            Outcome::Done(None)
        }
        // A Secret that stood is gone: that is one more way to be overtaken. A namespace that is gone takes no Secret.
        Err(ApiFailure::Missing) if write.expect.is_none() => Outcome::Failed(format!(
            "Secret {}/{} cannot be written: the namespace is gone",
            object.namespace, write.name
        )),
        Err(ApiFailure::Overtaken | ApiFailure::Missing) => {
            pass.doubt_token_secret(&write.name);
            Outcome::Overtaken
        }
        Err(ApiFailure::Refused(why)) => {
            let remedy = if why.contains("immutable") {
                "; delete it, and it is written anew"
            } else {
                ""
            };
            Outcome::Failed(format!("Secret {}/{} cannot be written: {why}{remedy}", object.namespace, write.name))
        }
        Err(failure @ ApiFailure::Unavailable { .. }) => return Err(failure.into()),
    })
}

async fn delete_secret(context: &Context, object: &Object, name: &str, expected: &SecretVersion, pass: &mut Pass) -> Result<Outcome, ReconcileError> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &object.namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            resource_version: Some(expected.0.clone()),
            uid: None,
        }),
        ..DeleteParams::default()
    };
    Ok(match api(secrets.delete(name, &params)).await {
        Ok(_) | Err(ApiFailure::Missing) => {
            pass.note_token_secret(name, Found::absent());
            Outcome::Done(None)
        }
        Err(ApiFailure::Overtaken) => {
            pass.doubt_token_secret(name);
            Outcome::Overtaken
        }
        Err(ApiFailure::Refused(why)) => Outcome::Failed(format!("Secret {}/{name} cannot be deleted: {why}", object.namespace)),
        Err(failure @ ApiFailure::Unavailable { .. }) => return Err(failure.into()),
    })
}

/// Writes a status on the version that it was decided on.
///
/// # Errors
/// [`ReconcileError::Api`].
async fn set_status<K: Driven>(context: &Context, object: &Object, version: &str, wanted: &Status) -> Result<Outcome, ReconcileError> {
    let body = status::body(object, version, wanted).map_err(|error| ReconcileError::Panicked(error.to_string()))?;
    let objects: Api<K> = Api::namespaced(context.client.clone(), &object.namespace);
    let params = PatchParams::apply(STATUS_MANAGER).force();
    match api(objects.patch_status(&object.name, &params, &Patch::Apply(body))).await {
        Ok(written) => {
            let made = written.meta().resource_version.clone().unwrap_or_default();
            context.memories.wrote(&object.uid, version, made, wanted.clone());
            Ok(Outcome::Done(None))
        }
        Err(ApiFailure::Overtaken) => Ok(Outcome::Overtaken),
        Err(failure) => Err(failure.into()),
    }
}

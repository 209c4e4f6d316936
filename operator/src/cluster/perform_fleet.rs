//! Performing what is done for a fleet besides its rows: its generated Secrets, its database, its children.
//! It refuses to know why an effect was decided.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};

use super::context::Context;
use super::failure::{ApiFailure, ReconcileError, api};
use super::fleets::LiveFleet;
use super::observe_proxy_config::claim;
use super::perform::Outcome;
use super::references::{Key, Referred, Referrer};
use super::workload::Parent;
use super::workload::names::ChildNames;
use super::{FIELD_MANAGER, children, database, follow};
use crate::fleet::{FleetEffect, GeneratedSecret};
use crate::object::Object;

/// Performs an effect. What a database refuses is remembered by the fleet and shows at the next look.
///
/// # Errors
/// Those after which it is not known what was done.
pub(crate) async fn perform(context: &Context, object: &Object, effect: &FleetEffect) -> Result<Outcome, ReconcileError> {
    let key = (object.namespace.clone(), object.name.clone());
    let parent = Parent {
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        uid: object.uid.as_str().to_owned(),
        names: ChildNames::of(&object.name),
    };
    match effect {
        FleetEffect::GenerateSecret(which) => return generate(context, &parent, *which).await,
        FleetEffect::Migrate => database::migrate(&context.fleets, &key).await,
        FleetEffect::Open => {
            let claim = claim(context, &object.namespace, &object.name);
            if let Some(live) = database::open(&context.fleets, &key, &claim, parent.base_url()).await {
                follow::start(context, &live);
                wake_dependants(context, &live);
            }
        }
        FleetEffect::SetDeletion(policy) => {
            if let Some((_, live)) = context.fleets.open_for(&key) {
                super::failure::database(live.fleet.set_deletion(*policy, &object.uid)).await?;
            }
        }
        FleetEffect::TieKey(goes) => return tie_key(context, &parent, *goes).await,
        FleetEffect::Purge => {
            let claim = claim(context, &object.namespace, &object.name);
            database::purge(&context.fleets, &key, &claim).await;
        }
        FleetEffect::Apply(child) => return children::apply(&context.client, &context.fleets, &key, child).await,
        FleetEffect::DeleteChild(child) => return children::delete(&context.client, &key.0, child).await,
    }
    Ok(Outcome::Done(None))
}

/// Makes the fleet the owner of the Secret with its encryption key, or not its owner any more; the other owners stay.
async fn tie_key(context: &Context, parent: &Parent, goes: bool) -> Result<Outcome, ReconcileError> {
    let (name, secrets): (_, Api<Secret>) = (
        &parent.names.encryption_secret,
        Api::namespaced(context.client.clone(), &parent.namespace),
    );
    let Some(found) = api(secrets.get_opt(name)).await? else {
        return Ok(Outcome::Overtaken);
    };
    let others = found
        .metadata
        .owner_references
        .into_iter()
        .flatten()
        .filter(|owner| owner.uid != parent.uid);
    let owners: Vec<_> = others.chain(goes.then(|| parent.owner_reference())).collect();
    let patch = serde_json::json!({"metadata": {"resourceVersion": found.metadata.resource_version, "ownerReferences": owners}});
    match api(secrets.patch(name, &PatchParams::apply(FIELD_MANAGER), &Patch::Merge(patch))).await {
        Ok(_) => {
            let what = if goes { "goes with its fleet" } else { "stays without its fleet" };
            tracing::info!(
                namespace = parent.namespace,
                name,
                "from now on the Secret with the encryption key {what}"
            );
            Ok(Outcome::Done(None))
        }
        Err(ApiFailure::Overtaken | ApiFailure::Missing) => Ok(Outcome::Overtaken),
        Err(ApiFailure::Refused(why)) => Ok(Outcome::Failed(format!(
            "Secret {}/{name} cannot be changed as spec.deletionPolicy wants it: {why}",
            parent.namespace
        ))),
        Err(failure @ ApiFailure::Unavailable { .. }) => Err(failure.into()),
    }
}

/// Everybody who waits for this database may go on.
fn wake_dependants(context: &Context, live: &Arc<LiveFleet>) {
    for project in context.references.to(&Referred::ProxyConfig(live.key.clone())) {
        let Referrer::Project(project) = project else { continue };
        for token in context.references.to(&Referred::Project(project.clone())) {
            if let Referrer::Token((namespace, name)) = token {
                context.wakes.token(&namespace, &name);
            }
        }
        let (namespace, name): Key = project;
        context.wakes.project(&namespace, &name);
    }
}

async fn generate(context: &Context, parent: &Parent, which: GeneratedSecret) -> Result<Outcome, ReconcileError> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &parent.namespace);
    let secret = match which {
        GeneratedSecret::Management => super::workload::secrets::management(parent),
        GeneratedSecret::Encryption => super::workload::secrets::encryption(parent, &claim(context, &parent.namespace, &parent.name)),
    };
    let name = secret.metadata.name.clone().unwrap_or_default();
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let made = match api(secrets.create(&params, &secret)).await {
        // One of ours whose value was lost; one of somebody else's is not decided to be generated, and would be found out here.
        Err(ApiFailure::Overtaken) if which == GeneratedSecret::Management => {
            let found = api(secrets.get(&name)).await?;
            if !parent.owns(&found.metadata) {
                return Ok(Outcome::Overtaken);
            }
            let patch = serde_json::json!({
                "metadata": {"resourceVersion": found.metadata.resource_version},
                "data": secret.data,
            });
            api(secrets.patch(&name, &PatchParams::apply(FIELD_MANAGER), &Patch::Merge(patch))).await
        }
        made => made,
    };
    match made {
        Ok(_) => {
            tracing::info!(namespace = parent.namespace, name, "generated a Secret");
            Ok(Outcome::Done(None))
        }
        Err(ApiFailure::Overtaken) => Ok(Outcome::Overtaken),
        Err(ApiFailure::Missing) => Ok(Outcome::Failed(format!(
            "Secret {}/{name} cannot be made: the namespace is gone",
            parent.namespace
        ))),
        Err(ApiFailure::Refused(why)) => Ok(Outcome::Failed(format!("Secret {}/{name} cannot be made: {why}", parent.namespace))),
        Err(failure @ ApiFailure::Unavailable { .. }) => Err(failure.into()),
    }
}

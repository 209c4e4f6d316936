//! Observing an LLMProject: its row, its fleet with its consent, and what its credentials' Secrets hold.
//! It refuses to know what is decided.

use std::time::Duration;

use crds::{LlmProject, ProjectProvider};
use kube::Resource as _;
use store::DbTime;

use super::context::Context;
use super::driven::{identity, resource};
use super::failure::ReconcileError;
use super::fleets::NotLive;
use super::in_force::InForce;
use super::pass::{Look, Pass};
use super::permission;
use crate::memory::Memory;
use crate::object::Object;
use crate::observed::{CredentialSeen, FleetSeen, Observed, ProjectObserved};

/// How soon to look again at something that another look is about to find out.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// Observes a project.
///
/// # Errors
/// Those of the database and of the API server.
pub(crate) async fn observe(context: &Context, project: &LlmProject, pass: &mut Pass, memory: Memory) -> Result<Look, ReconcileError> {
    let object = identity(project);
    let proxy = &project.spec.proxy_ref;
    let (namespace, name) = (proxy.namespace(&object.namespace), proxy.name.as_str());
    let declared = context.stores.proxy_config(namespace, name);
    let permitted = declared
        .as_ref()
        .map(|declared| permission::permitted(context, declared, &object.namespace));
    let live = match context.fleets.get(namespace, name) {
        Some(Ok(live)) => Some(live),
        Some(Err(_)) if matches!(permitted, Some(Err(_))) => None,
        Some(Err(not_live)) => return Err(ReconcileError::NoDatabase(not_live)),
        // Driven, and not looked at since this process leads: its database may hold a row of this project.
        None if declared.is_some() => return Ok(Look::NotYet(SOON)),
        None => pass.holder_of_project(context, &object.uid).await?,
    };
    let row = match &live {
        Some(live) => pass.project(&live.fleet, &object.uid).await?,
        None => None,
    };
    if live.is_some() && context.in_force.note(&object.uid, row.as_ref().map(InForce::from)) {
        wake_tokens(context, &object);
    }
    let fleet = match (&declared, permitted) {
        (None, _) => FleetSeen::Missing,
        (Some(_), Some(Err(why))) => FleetSeen::NotPermitted(why),
        (Some(declared), _) => FleetSeen::Ready(Box::new(declared.spec.clone())),
    };
    let mut credentials = Vec::new();
    for provider in &project.spec.providers {
        credentials.push(credential(context, &object, provider, pass).await?);
    }
    let (now, replicas) = match &live {
        Some(live) => {
            let replicas = pass.replicas(live, row.as_ref().map(|row| row.takeaway_version)).await?;
            (pass.now(&live.fleet).await?, replicas)
        }
        None => (process_time(), Vec::new()),
    };
    let seen = ProjectObserved {
        resource: resource(context, project, memory, replicas, now),
        row,
        fleet,
        credentials,
    };
    Ok(Look::Seen {
        seen: Box::new(Observed::Project(seen)),
        now,
        fleet: live,
    })
}

/// The project as it is observed while its fleet's database is away.
pub(crate) fn without_database(context: &Context, project: &LlmProject, memory: Memory, away: NotLive) -> Observed {
    Observed::Project(ProjectObserved {
        resource: resource(context, project, memory, Vec::new(), process_time()),
        row: None,
        fleet: FleetSeen::NotReady {
            reason: away.reason,
            message: away.message,
        },
        credentials: Vec::new(),
    })
}

/// This machine's clock, for what no database has to do with: a status that says that there is none.
pub(crate) fn process_time() -> DbTime {
    DbTime(jiff::Timestamp::now().as_millisecond())
}

/// The tokens of a project, whose row they depend on.
pub(crate) fn wake_tokens(context: &Context, project: &Object) {
    let referred = super::references::Referred::Project((project.namespace.clone(), project.name.clone()));
    for referrer in context.references.to(&referred) {
        if let super::references::Referrer::Token((namespace, name)) = referrer {
            context.wakes.token(&namespace, &name);
        }
    }
}

async fn credential(context: &Context, project: &Object, provider: &ProjectProvider, pass: &mut Pass) -> Result<CredentialSeen, ReconcileError> {
    let Some(secret_ref) = provider.credentials.as_ref().map(|credentials| &credentials.secret_ref) else {
        return Ok(CredentialSeen::NotNamed);
    };
    let secret = (project.namespace.clone(), secret_ref.name.clone());
    Ok(match pass.input(context, &secret).await? {
        None => CredentialSeen::SecretMissing,
        Some(secret) if secret.meta().deletion_timestamp.is_some() => CredentialSeen::SecretMissing,
        Some(secret) => {
            let value = secret.data.as_ref().and_then(|data| data.get(secret_ref.key()));
            CredentialSeen::of(value.map(|value| value.0.as_slice()))
        }
    })
}

//! Observing a WitheringToken: its row, its project, the Secrets under its names, and who else wants them.
//! It refuses to know what is decided.

use std::sync::Arc;

use crds::{LlmProject, TokenState, WitheringToken};
use kube::Resource as _;
use store::{ProjectState, ResourceUid, TokenValue};

use super::context::Context;
use super::driven::{identity, resource};
use super::failure::{ReconcileError, database};
use super::fleets::{LiveFleet, NotLive};
use super::in_force::InForce;
use super::observe_project::{SOON, process_time};
use super::pass::{Look, Pass};
use super::permission;
use super::references::{Referred, Referrer};
use super::secret_claim::{self, Contender};
use super::token_secret::Found;
use crate::memory::Memory;
use crate::object::Object;
use crate::observed::{Observed, ProjectSeen, SecretClaim, SecretSeen, TokenObserved};

/// Observes a token.
///
/// # Errors
/// Those of the database and of the API server; [`ReconcileError::NoDatabase`] if its fleet's is not open.
pub(crate) async fn observe(context: &Context, token: &WitheringToken, pass: &mut Pass, memory: Memory) -> Result<Look, ReconcileError> {
    let object = identity(token);
    let project = context.stores.project(&object.namespace, &token.spec.project_ref.name);
    let live = match &project {
        Some(project) => match fleet_of(context, project)? {
            Fleet::Open(live) => Some(live),
            Fleet::Undeclared => pass.holder_of_token(context, &object.uid).await?,
            Fleet::NotLookedAt => return Ok(Look::NotYet(SOON)),
        },
        None => pass.holder_of_token(context, &object.uid).await?,
    };
    let row = match &live {
        Some(live) => pass.token(&live.fleet, &object.uid).await?,
        None => None,
    };
    let wanted = token.secret_name().to_owned();
    let found = pass.token_secret(context, &object.namespace, &wanted, &object.uid).await?;
    let former = match row.as_ref().filter(|row| row.secret_name != wanted) {
        Some(row) => Some(pass.token_secret(context, &object.namespace, &row.secret_name, &object.uid).await?.seen),
        None => None,
    };
    let (now, replicas) = match &live {
        Some(live) => {
            let replicas = pass.replicas(live, row.as_ref().map(|row| row.takeaway_version)).await?;
            (pass.now(&live.fleet).await?, replicas)
        }
        None => (process_time(), Vec::new()),
    };
    let seen = TokenObserved {
        resource: resource(context, token, memory, replicas, now),
        row,
        project: match (&project, &live) {
            (None, _) => ProjectSeen::Missing,
            (Some(_), None) => ProjectSeen::NotReady,
            (Some(project), Some(live)) => project_seen(context, project, live, pass.believes()).await?,
        },
        claim: claim(context, token, &object, &wanted, &found),
        secret_name: wanted,
        secret: found.seen,
        former,
        base_url: live.as_ref().map(|live| live.base_url.clone()).unwrap_or_default(),
        formats: token.spec.formats(),
        minted: TokenValue::mint(),
    };
    Ok(Look::Seen {
        seen: Box::new(Observed::Token(Box::new(seen))),
        now,
        fleet: live,
    })
}

/// The token as it is observed while its fleet's database is away. Its Secret is left alone, and not looked at.
pub(crate) fn without_database(context: &Context, token: &WitheringToken, memory: Memory, away: NotLive) -> Observed {
    Observed::Token(Box::new(TokenObserved {
        resource: resource(context, token, memory, Vec::new(), process_time()),
        row: None,
        project: ProjectSeen::Unavailable {
            reason: away.reason,
            message: away.message,
        },
        secret_name: token.secret_name().to_owned(),
        secret: SecretSeen::Absent,
        former: None,
        claim: SecretClaim::Free,
        base_url: String::new(),
        formats: token.spec.formats(),
        minted: TokenValue::mint(),
    }))
}

/// A project's fleet.
enum Fleet {
    /// Its database is open.
    Open(Arc<LiveFleet>),
    /// It is not declared.
    Undeclared,
    /// It is declared, and was not looked at since this process leads.
    NotLookedAt,
}

fn fleet_of(context: &Context, project: &LlmProject) -> Result<Fleet, ReconcileError> {
    let own = project.meta().namespace.as_deref().unwrap_or_default();
    let (namespace, name) = (project.spec.proxy_ref.namespace(own), project.spec.proxy_ref.name.as_str());
    match context.fleets.get(namespace, name) {
        Some(Ok(live)) => Ok(Fleet::Open(live)),
        Some(Err(not_live)) => Err(ReconcileError::NoDatabase(not_live)),
        None if context.stores.proxy_config(namespace, name).is_some() => Ok(Fleet::NotLookedAt),
        None => Ok(Fleet::Undeclared),
    }
}

async fn project_seen(context: &Context, project: &LlmProject, live: &LiveFleet, believes: bool) -> store::Result<ProjectSeen> {
    let own = project.meta().namespace.as_deref().unwrap_or_default();
    let fleet = context
        .stores
        .proxy_config(project.spec.proxy_ref.namespace(own), &project.spec.proxy_ref.name);
    if fleet.is_none_or(|fleet| permission::permitted(context, &fleet, own).is_err()) {
        return Ok(ProjectSeen::NotReady);
    }
    let uid = ResourceUid::new(project.meta().uid.clone().unwrap_or_default());
    let row = match context.in_force.get(&uid).filter(|_| believes) {
        Some(row) => row,
        None => {
            let row = database(live.fleet.project_by_uid(&uid)).await?.as_ref().map(InForce::from);
            context.in_force.note_as_read(&uid, row)
        }
    };
    Ok(match row.filter(|row| row.state != ProjectState::Deleted) {
        None => ProjectSeen::NotReady,
        Some(row) => ProjectSeen::Ready {
            id: row.id,
            active: row.state == ProjectState::Active,
        },
    })
}

fn claim(context: &Context, token: &WitheringToken, object: &Object, wanted: &str, found: &Found) -> SecretClaim {
    let secret = (object.namespace.clone(), wanted.to_owned());
    let referrers = context.references.to(&Referred::Secret(secret.clone()));
    let wants = |other: &WitheringToken| {
        let meta = other.meta();
        let lives = meta.deletion_timestamp.is_none() && other.spec.state != TokenState::Revoked;
        lives && other.secret_name() == wanted && meta.uid.as_deref() != Some(object.uid.as_str())
    };
    let others: Vec<Contender> = referrers
        .iter()
        .filter_map(|referrer| match referrer {
            Referrer::Token((namespace, name)) => context.stores.token(namespace, name),
            _ => None,
        })
        .filter(|other| wants(other))
        .map(|other| contender(&other))
        .collect();
    secret_claim::claim(&secret, &contender(token), &others, found.written_for.as_deref(), referrers)
}

fn contender(token: &WitheringToken) -> Contender {
    let meta = token.meta();
    Contender {
        created: meta.creation_timestamp.clone(),
        uid: meta.uid.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

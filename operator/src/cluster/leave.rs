//! What is left of an object that is gone: its row, which is ended by the same decisions as everything else. It refuses to know how the
//! deletion was found out, and Secrets: those go by their owner.

use std::sync::Arc;

use crds::{Kind, LlmProjectSpec, ProjectRef, ProxyConfigSpec, ProxyRef, TokenState, WitheringTokenSpec};
use store::{DbTime, DeletionPolicy, ReplicaView, StoreError, TokenValue};

use super::context::Context;
use super::drive::stop_if_told;
use super::failure::{ReconcileError, database};
use super::fleets::LiveFleet;
use super::perform::on_rows;
use crate::decide::decide;
use crate::effect::Effect;
use crate::fleet::{FleetEffect, Remains};
use crate::memory::Memory;
use crate::object::{Object, Resource, Standing};
use crate::observed::{FleetSeen, Observed, ProjectObserved, ProjectSeen, ProxyConfigObserved, SecretClaim, SecretSeen, TokenObserved};

/// More effects than an end needs.
const MOST_EFFECTS: usize = 8;

/// What became of a gone object's rows in one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing is left to be done.
    Done,
    /// Its keys are dead, and its rows are to go once no replica uses them: look again a little later.
    InUse,
}

/// Ends what a gone object has left in one database. Nothing is done where it has left nothing.
///
/// # Errors
/// Why it is not known to be done: try again.
pub(crate) async fn leave(context: &Context, live: &Arc<LiveFleet>, gone: &Object) -> Result<Left, ReconcileError> {
    let _turn = live.turn().await;
    for _ in 0..MOST_EFFECTS {
        let Some(seen) = observe(context, live, gone).await? else {
            return Ok(Left::Done);
        };
        let decision = decide(&seen);
        let effect = match decision.effect {
            None if decision.recheck_at.is_some() => return Ok(Left::InUse),
            None | Some(Effect::Forget(_)) => return Ok(Left::Done),
            Some(effect) => effect,
        };
        context.gate.check()?;
        let done = match &effect {
            Effect::Fleet(FleetEffect::Purge) => {
                database(live.fleet.purge(&gone.uid)).await?;
                context.fleets.purged(live);
                "deleted: its rows are gone, and the database is nobody's"
            }
            Effect::PurgeProject(_) => {
                on_rows(Some(live), &effect).await?;
                "deleted: its rows are gone"
            }
            _ => {
                on_rows(Some(live), &effect).await?;
                "deleted: its keys are dead"
            }
        };
        tracing::info!(kind = %gone.kind, namespace = gone.namespace, name = gone.name, "{done}");
        stop_if_told(context, gone, &effect)?;
    }
    Err(ReconcileError::Unsettled(MOST_EFFECTS))
}

async fn observe(context: &Context, live: &LiveFleet, gone: &Object) -> Result<Option<Observed>, ReconcileError> {
    Ok(match gone.kind {
        Kind::ProxyConfig => match remains(live, gone).await? {
            Remains::Nothing => None,
            remains => Some(Observed::ProxyConfig(ProxyConfigObserved {
                resource: resource(context, gone, ProxyConfigSpec::default(), Vec::new()),
                rows: Vec::new(),
                base_url: live.base_url.clone(),
                fleet: None,
                remains,
            })),
        },
        Kind::LlmProject => {
            let row = database(live.fleet.project_by_uid(&gone.uid)).await?;
            // Read after the row whose take-away they must acknowledge.
            let replicas = match &row {
                Some(row) if row.deletion == DeletionPolicy::Delete => database(live.replicas()).await?,
                _ => Vec::new(),
            };
            row.filter(|row| row.owner.cluster == context.cluster).map(|row| {
                Observed::Project(ProjectObserved {
                    resource: resource(context, gone, nothing_wanted_of_a_project(), replicas),
                    row: Some(row),
                    fleet: FleetSeen::Missing,
                    credentials: Vec::new(),
                })
            })
        }
        Kind::WitheringToken => {
            let row = database(live.fleet.token_by_uid(&gone.uid)).await?;
            row.filter(|row| row.owner.cluster == context.cluster).map(|row| {
                Observed::Token(Box::new(TokenObserved {
                    resource: resource(context, gone, nothing_wanted_of_a_token(), Vec::new()),
                    secret_name: row.secret_name.clone(),
                    row: Some(row),
                    project: ProjectSeen::Missing,
                    secret: SecretSeen::Absent,
                    former: None,
                    claim: SecretClaim::Free,
                    base_url: live.base_url.clone(),
                    formats: Vec::new(),
                    minted: TokenValue::mint(),
                }))
            })
        }
    })
}

/// What is left of a ProxyConfig in the database that was its own.
async fn remains(live: &LiveFleet, gone: &Object) -> Result<Remains, ReconcileError> {
    if !live.goes() || live.key != (gone.namespace.clone(), gone.name.clone()) {
        return Ok(Remains::Nothing);
    }
    let deletion = match database(live.fleet.deletion()).await {
        Ok(deletion) => deletion,
        // Gone already: removed by another look, or the database was made anew.
        Err(StoreError::Gone(_)) => return Ok(Remains::Nothing),
        Err(error) => return Err(error.into()),
    };
    let replicas = database(live.replicas()).await?;
    Ok(Remains::of(&deletion, &gone.uid, replicas.len()))
}

fn resource<Spec, Status>(context: &Context, gone: &Object, spec: Spec, replicas: Vec<ReplicaView>) -> Resource<Spec, Status> {
    Resource {
        object: gone.clone(),
        cluster: context.cluster.clone(),
        spec,
        standing: Standing::Gone,
        status: None,
        replicas,
        memory: Memory::default(),
        now: DbTime::default(),
    }
}

/// Nobody knows any more what a gone object asked for, and nothing of it counts.
fn nothing_wanted_of_a_project() -> LlmProjectSpec {
    LlmProjectSpec {
        proxy_ref: ProxyRef {
            name: String::new(),
            namespace: None,
        },
        providers: Vec::new(),
        state: crds::ProjectState::Inactive,
        deletion_policy: crds::DeletionPolicy::Retain,
    }
}

fn nothing_wanted_of_a_token() -> WitheringTokenSpec {
    WitheringTokenSpec {
        project_ref: ProjectRef { name: String::new() },
        ttl: None,
        max_requests: None,
        state: TokenState::Revoked,
        rotation: None,
        secret: None,
        deletion_policy: crds::TokenDeletionPolicy::Revoke,
    }
}

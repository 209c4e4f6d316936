//! What is left of an object that is gone: its row, which is ended by the same decisions as everything else. It refuses to know how the
//! deletion was found out, and Secrets: those go by their owner.

use std::sync::Arc;

use crds::{Kind, LlmProjectSpec, ProjectRef, ProxyRef, TokenState, WitheringTokenSpec};
use store::{DbTime, TokenValue};

use super::context::Context;
use super::drive::stop_if_told;
use super::failure::{ReconcileError, database};
use super::fleets::LiveFleet;
use super::perform::on_rows;
use crate::decide::decide;
use crate::effect::Effect;
use crate::memory::Memory;
use crate::object::{Object, Resource, Standing};
use crate::observed::{FleetSeen, Observed, ProjectObserved, ProjectSeen, SecretClaim, SecretSeen, TokenObserved};

/// More effects than an end needs.
const MOST_EFFECTS: usize = 8;

/// Ends what a gone object has left in one database. Nothing is done where it has left nothing.
///
/// # Errors
/// Why it is not known to be done: try again.
pub(crate) async fn leave(context: &Context, live: &Arc<LiveFleet>, gone: &Object) -> Result<(), ReconcileError> {
    for _ in 0..MOST_EFFECTS {
        let Some(seen) = observe(context, live, gone).await? else {
            return Ok(());
        };
        let Some(effect) = decide(&seen).effect else { return Ok(()) };
        if matches!(effect, Effect::Forget(_)) {
            return Ok(());
        }
        context.gate.check()?;
        on_rows(Some(live), &effect).await?;
        tracing::info!(kind = %gone.kind, namespace = gone.namespace, name = gone.name, "deleted: its keys are dead");
        stop_if_told(context, gone, &effect)?;
    }
    Err(ReconcileError::Unsettled(MOST_EFFECTS))
}

async fn observe(context: &Context, live: &LiveFleet, gone: &Object) -> Result<Option<Observed>, ReconcileError> {
    Ok(match gone.kind {
        // Its database stays as it is, for whoever declares the fleet again.
        Kind::ProxyConfig => None,
        Kind::LlmProject => {
            let row = database(live.fleet.project_by_uid(&gone.uid)).await?;
            row.filter(|row| row.owner.cluster == context.cluster).map(|row| {
                Observed::Project(ProjectObserved {
                    resource: resource(context, gone, nothing_wanted_of_a_project()),
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
                    resource: resource(context, gone, nothing_wanted_of_a_token()),
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

fn resource<Spec, Status>(context: &Context, gone: &Object, spec: Spec) -> Resource<Spec, Status> {
    Resource {
        object: gone.clone(),
        cluster: context.cluster.clone(),
        spec,
        standing: Standing::Gone,
        status: None,
        replicas: Vec::new(),
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
        rate_limits: None,
        budgets: None,
    }
}

fn nothing_wanted_of_a_token() -> WitheringTokenSpec {
    WitheringTokenSpec {
        project_ref: ProjectRef { name: String::new() },
        ttl: None,
        max_requests: None,
        rate_limits: None,
        budgets: None,
        max_in_flight: None,
        state: TokenState::Revoked,
        rotation: None,
        secret: None,
    }
}

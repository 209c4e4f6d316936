//! Performing one effect: rows in the database, `.env` files on the disk, status as a row and lines in the log.
//! It refuses to know why an effect was decided.

use crds::Reason;
use crds::conditions::{Condition, ConditionStatus};
use crds::events::Severity;
use store::{DbTime, FeedVersion, Fleet, Result};

use super::env_file::EnvDir;
use crate::effect::{Effect, Notice, Status};
use crate::memory::Memory;
use crate::object::Object;
use crate::rows::{self, Performed};

/// What performing came to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// Done; the feed version that it made, if it made one.
    Done(Option<FeedVersion>),
    /// The Secret is no longer what was observed; nothing was done.
    Overtaken,
    /// It failed outside the database, for this reason; nothing was done.
    Failed(String),
}

/// Performs an effect for one object and has `memory` note it. `before` are the conditions that stand.
///
/// # Errors
/// Those of the store.
pub(super) async fn perform(
    fleet: &Fleet,
    env: &EnvDir,
    object: &Object,
    effect: &Effect,
    before: &[Condition],
    memory: &mut Memory,
    now: DbTime,
) -> Result<Outcome> {
    let outcome = match rows::perform(fleet, effect).await? {
        Performed::Done(version) => Outcome::Done(version),
        Performed::NotRows => on_disk_and_log(fleet, env, object, effect, before).await?,
    };
    match &outcome {
        Outcome::Done(version) => memory.note(effect, *version, now),
        Outcome::Overtaken => {}
        Outcome::Failed(why) => {
            tracing::error!(kind = %object.kind, namespace = object.namespace, name = object.name, "{why}");
            memory.note_failure(why.clone(), now);
        }
    }
    Ok(outcome)
}

async fn on_disk_and_log(fleet: &Fleet, env: &EnvDir, object: &Object, effect: &Effect, before: &[Condition]) -> Result<Outcome> {
    match effect {
        Effect::WriteSecret(write) => {
            let (env, namespace, write) = (env.clone(), object.namespace.clone(), write.clone());
            let path = env.path(&namespace, &write.name);
            let done = tokio::task::spawn_blocking(move || env.write(&namespace, &write)).await;
            return Ok(on_disk(done, || format!("{} cannot be written", path.display())));
        }
        Effect::DeleteSecret { name, expect } => {
            let (env, namespace, name, expect) = (env.clone(), object.namespace.clone(), name.clone(), expect.clone());
            let path = env.path(&namespace, &name);
            let done = tokio::task::spawn_blocking(move || env.delete(&namespace, &name, &expect)).await;
            return Ok(on_disk(done, || format!("{} cannot be deleted", path.display())));
        }
        Effect::SetStatus(status) => {
            let json = status.to_json().map_err(|error| store::StoreError::Corrupt {
                what: "status",
                why: error.to_string(),
            })?;
            fleet.set_file_object_status(&object.uid, &json).await?;
            log_conditions(object, before, status);
        }
        Effect::Emit(notice) => log_notice(object, notice),
        Effect::Forget(uid) => {
            fleet.forget_file_object(uid).await?;
            tracing::info!(kind = %object.kind, namespace = object.namespace, name = object.name, "deleted");
        }
        _ => {}
    }
    Ok(Outcome::Done(None))
}

fn on_disk(done: std::result::Result<std::io::Result<bool>, tokio::task::JoinError>, what: impl Fn() -> String) -> Outcome {
    match done {
        Ok(Ok(true)) => Outcome::Done(None),
        Ok(Ok(false)) => Outcome::Overtaken,
        Ok(Err(error)) => Outcome::Failed(format!("{}: {error}", what())),
        Err(error) => Outcome::Failed(format!("{}: {error}", what())),
    }
}

/// One line per condition that changed.
fn log_conditions(object: &Object, before: &[Condition], status: &Status) {
    for condition in status.conditions() {
        let same = |old: &&Condition| old.type_ == condition.type_ && old.status == condition.status && old.reason == condition.reason;
        if before.iter().find(same).is_some_and(|old| old.message == condition.message) {
            continue;
        }
        // Somebody has to do something about the file that should hold the key: what stands there is none of ours.
        let is_stuck = condition.status == ConditionStatus::False.as_str()
            && [Reason::DeliveryFailed, Reason::SecretConflict]
                .iter()
                .any(|reason| reason.as_str() == condition.reason);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    kind = %object.kind, namespace = object.namespace, name = object.name,
                    condition = condition.type_, status = condition.status, reason = condition.reason,
                    "{}", condition.message
                )
            };
        }
        if is_stuck {
            line!(warn);
        } else {
            line!(info);
        }
    }
}

fn log_notice(object: &Object, notice: &Notice) {
    let (reason, note) = (notice.reason.as_str(), &notice.note);
    match notice.reason.severity() {
        Severity::Normal => tracing::info!(kind = %object.kind, namespace = object.namespace, name = object.name, event = reason, "{note}"),
        Severity::Warning => tracing::warn!(kind = %object.kind, namespace = object.namespace, name = object.name, event = reason, "{note}"),
    }
}

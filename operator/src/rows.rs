//! The effects that are rows: performed on the database the same way by every executor.
//! It refuses to know Secrets, files and Kubernetes.

use store::{FeedVersion, Fleet, Result};

use crate::effect::Effect;

/// What performing an effect on rows came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Performed {
    /// Done; the feed version that it made, if it made one.
    Done(Option<FeedVersion>),
    /// Not an effect on rows: the executor's own.
    NotRows,
}

/// Performs an effect if it is one on rows.
///
/// # Errors
/// Those of the store; nothing of the effect was done then, or its outcome is unknown and the next observation shows it.
pub async fn perform(fleet: &Fleet, effect: &Effect) -> Result<Performed> {
    let version = match effect {
        Effect::PutProviders(providers) => Some(fleet.put_providers(providers).await?),
        Effect::PutProject(project) => Some(fleet.put_project(project).await?.1),
        Effect::SetProjectDeletion { project, policy } => {
            fleet.set_project_deletion(*project, *policy).await?;
            None
        }
        Effect::DeleteProject(project) => Some(fleet.delete_project(*project).await?),
        Effect::PurgeProject(project) => Some(fleet.purge_project(*project).await?),
        Effect::InsertPending { revision, .. } => Some(fleet.insert_pending(revision).await?.1),
        Effect::BeginSecretWrite { token, digest } => {
            fleet.begin_secret_write(*token, digest).await?;
            None
        }
        Effect::Activate { token, digest, overlap_ms } => Some(fleet.activate(*token, digest, *overlap_ms).await?.1),
        Effect::ChangeToken { token, change } => Some(fleet.change_token(*token, change).await?),
        Effect::Revoke { token, by } => Some(fleet.revoke_token(*token, *by).await?),
        Effect::WriteSecret(_) | Effect::DeleteSecret { .. } | Effect::Fleet(_) | Effect::SetStatus(_) | Effect::Emit(_) | Effect::Forget(_) => {
            return Ok(Performed::NotRows);
        }
    };
    Ok(Performed::Done(version))
}

//! What a resource's deletion means for its rows, and the removal of rows for good: of a project, and of a whole fleet.
//! It refuses to know who found the resource gone, and whether replicas still use what is removed.

use crate::error::{Result, StoreError};
use crate::feed::{FeedVersion, Subject};
use crate::fleet::Fleet;
use crate::ids::{ProjectId, ResourceUid};
use crate::projects::ProjectState;
use crate::statement::{sql, stored_as_text};

/// What becomes of the rows of a deleted fleet or project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeletionPolicy {
    /// They stay: of a project without a live token, of a fleet for whoever declares it again.
    #[default]
    Retain,
    /// They are removed once no replica uses them any more.
    Delete,
}

stored_as_text!(DeletionPolicy { Retain = "Retain", Delete = "Delete" });

/// What becomes of a token whose resource is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TokenDeletionPolicy {
    /// It is revoked.
    #[default]
    Revoke,
    /// Its values live to their ends, and no further one is issued.
    Orphan,
}

stored_as_text!(TokenDeletionPolicy { Revoke = "Revoke", Orphan = "Orphan" });

/// What the fleet's row says about its own deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetDeletion {
    /// What becomes of the rows.
    pub policy: DeletionPolicy,
    /// The ProxyConfig that said so; none as long as none has said anything.
    pub declared_by: Option<ResourceUid>,
}

/// The rows of a project, its tokens and their quotas, in an order that no reference forbids. Usage goes along, audit never: it is a chain.
const OF_A_PROJECT: [&str; 7] = [
    "DELETE FROM leases WHERE fleet_id = $1 AND quota_id IN (SELECT id FROM quotas WHERE fleet_id = $1
        AND ((subject_kind = 'Project' AND subject_id = $2)
            OR (subject_kind = 'Token' AND subject_id IN (SELECT id FROM tokens WHERE fleet_id = $1 AND project_id = $2))))",
    "DELETE FROM quotas WHERE fleet_id = $1 AND ((subject_kind = 'Project' AND subject_id = $2)
        OR (subject_kind = 'Token' AND subject_id IN (SELECT id FROM tokens WHERE fleet_id = $1 AND project_id = $2)))",
    "DELETE FROM usage WHERE fleet_id = $1 AND project_id = $2",
    "DELETE FROM token_revisions WHERE fleet_id = $1 AND token_id IN (SELECT id FROM tokens WHERE fleet_id = $1 AND project_id = $2)",
    "DELETE FROM tokens WHERE fleet_id = $1 AND project_id = $2",
    "DELETE FROM credentials WHERE fleet_id = $1 AND project_id = $2",
    "DELETE FROM projects WHERE fleet_id = $1 AND id = $2",
];

/// The rows of a fleet, its claim last.
const OF_A_FLEET: [&str; 17] = [
    "DELETE FROM leases WHERE fleet_id = $1",
    "DELETE FROM quotas WHERE fleet_id = $1",
    "DELETE FROM usage WHERE fleet_id = $1",
    "DELETE FROM usage_writers WHERE fleet_id = $1",
    "DELETE FROM token_revisions WHERE fleet_id = $1",
    "DELETE FROM tokens WHERE fleet_id = $1",
    "DELETE FROM credentials WHERE fleet_id = $1",
    "DELETE FROM projects WHERE fleet_id = $1",
    "DELETE FROM routes WHERE fleet_id = $1",
    "DELETE FROM models WHERE fleet_id = $1",
    "DELETE FROM providers WHERE fleet_id = $1",
    "DELETE FROM idempotency_keys WHERE fleet_id = $1",
    "DELETE FROM file_objects WHERE fleet_id = $1",
    "DELETE FROM audit WHERE fleet_id = $1",
    "DELETE FROM replicas WHERE fleet_id = $1",
    "DELETE FROM changes WHERE fleet_id = $1",
    "DELETE FROM feed_head WHERE fleet_id = $1",
];

impl Fleet {
    /// Notes what the deletion of a project's resource is to mean. It concerns no replica, so it makes no version.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Fenced`]; those of any write.
    pub async fn set_project_deletion(&self, id: ProjectId, policy: DeletionPolicy) -> Result<()> {
        let mut tx = self.store().begin().await?;
        self.must_lead(&mut tx).await?;
        let update = "UPDATE projects SET deletion_policy = $3 WHERE fleet_id = $1 AND id = $2";
        match sql!(tx, exec, update, self.key(), id.to_string(), policy.as_stored())? {
            0 => Err(StoreError::NotFound {
                what: format!("project {id}"),
            }),
            _ => tx.commit().await,
        }
    }

    /// Removes a deleted project with its tokens, their limits and its usage; what was audited stays. One version. What a request that is still
    /// running books afterwards stands alone.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Refused`] if it is not deleted, for its tokens may live; [`StoreError::Fenced`]; those of any write.
    pub async fn purge_project(&self, id: ProjectId) -> Result<FeedVersion> {
        let mut tx = self.store().begin().await?;
        let key = id.to_string();
        let lock = "UPDATE projects SET version = version + 1 WHERE fleet_id = $1 AND id = $2 RETURNING state";
        let Some(row) = sql!(tx, optional, lock, self.key(), key.as_str())? else {
            return Err(StoreError::NotFound {
                what: format!("project {id}"),
            });
        };
        if row.parsed::<ProjectState>("state", "projects.state")? != ProjectState::Deleted {
            tx.rollback().await?;
            return Err(StoreError::Refused(format!(
                "project {id} is not deleted: its tokens would not be revoked first"
            )));
        }
        for text in OF_A_PROJECT {
            sql!(tx, exec, text, self.key(), key.as_str())?;
        }
        self.publish(tx, &Subject::Project(id), false).await
    }

    /// What the fleet's row says about its deletion.
    ///
    /// # Errors
    /// [`StoreError::Gone`] if the fleet has no row any more; those of any read.
    pub async fn deletion(&self) -> Result<FleetDeletion> {
        let text = "SELECT deletion_policy, declared_by FROM fleets WHERE id = $1";
        let row = sql!(self.store().read().await?, optional, text, self.key())?;
        let row = row.ok_or_else(|| StoreError::Gone("it has no row of its own".to_owned()))?;
        let declared_by = row.text("declared_by")?;
        Ok(FleetDeletion {
            policy: row.parsed("deletion_policy", "fleets.deletion_policy")?,
            declared_by: (!declared_by.is_empty()).then(|| ResourceUid::new(declared_by)),
        })
    }

    /// Notes what the fleet's deletion is to mean, and who says so. It concerns no replica, so it makes no version.
    ///
    /// # Errors
    /// [`StoreError::Fenced`]; those of any write.
    pub async fn set_deletion(&self, policy: DeletionPolicy, declared_by: &ResourceUid) -> Result<()> {
        let mut tx = self.store().begin().await?;
        self.must_lead(&mut tx).await?;
        let update = "UPDATE fleets SET deletion_policy = $2, declared_by = $3 WHERE id = $1";
        sql!(tx, exec, update, self.key(), policy.as_stored(), declared_by.as_str())?;
        tx.commit().await
    }

    /// Removes every row of the fleet and its claim, audit and usage included: the database is nobody's afterwards. The schema stays. Nothing is done
    /// unless the row still says that this ProxyConfig's deletion means that.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it does not say so; [`StoreError::Fenced`]; those of any write.
    pub async fn purge(&self, declared_by: &ResourceUid) -> Result<()> {
        let mut tx = self.store().begin().await?;
        // The bump holds back whoever would write configuration until the end.
        if self.bump(&mut tx).await?.is_none() {
            tx.rollback().await?;
            return Err(StoreError::Fenced);
        }
        let lock = "UPDATE fleets SET claimed_at = claimed_at WHERE id = $1 AND deletion_policy = 'Delete' AND declared_by = $2";
        if sql!(tx, exec, lock, self.key(), declared_by.as_str())? == 0 {
            tx.rollback().await?;
            return Err(StoreError::Refused(
                "the fleet's row does not say that its rows go with its ProxyConfig".to_owned(),
            ));
        }
        for text in OF_A_FLEET {
            sql!(tx, exec, text, self.key())?;
        }
        sql!(tx, exec, "DELETE FROM fleets WHERE id = $1", self.key())?;
        tx.commit().await
    }
}

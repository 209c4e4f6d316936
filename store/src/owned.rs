//! What an operator looks over as a whole: which resources own rows, and whose request limit has run out.
//! It refuses to know which resources still exist.

use crate::error::Result;
use crate::fleet::Fleet;
use crate::ids::ResourceUid;
use crate::projects::ProjectState;
use crate::statement::{Row, sql};
use crate::tokens::{Owner, TokenState};

/// A row that a resource owns, as far as a difference between resources and rows needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned<State> {
    /// The resource.
    pub owner: Owner,
    /// How the row stands.
    pub state: State,
}

impl Fleet {
    /// The projects of a cluster's resources that are not deleted, or whose rows go with their deletion and have not gone yet, by namespace and
    /// name; one query.
    ///
    /// # Errors
    /// Those of any read; [`crate::StoreError::Corrupt`].
    pub async fn owned_projects(&self, cluster: &str) -> Result<Vec<Owned<ProjectState>>> {
        let text = "SELECT owner_cluster, owner_uid, namespace, name, state FROM projects
            WHERE fleet_id = $1 AND origin = 'Resource' AND owner_cluster = $2 AND (state <> 'Deleted' OR deletion_policy = 'Delete')
            ORDER BY namespace, name, id";
        let read = |row: &Row| {
            Ok(Owned {
                owner: Owner::read(row)?,
                state: row.parsed("state", "projects.state")?,
            })
        };
        let rows = sql!(self.store().read().await?, all, text, self.key(), cluster)?;
        rows.iter().map(read).collect()
    }

    /// The tokens of a cluster's resources that are not revoked and would be if their resource were gone, by namespace and name; one query.
    ///
    /// # Errors
    /// Those of any read; [`crate::StoreError::Corrupt`].
    pub async fn owned_tokens(&self, cluster: &str) -> Result<Vec<Owned<TokenState>>> {
        let text = "SELECT owner_cluster, owner_uid, namespace, name, state FROM tokens
            WHERE fleet_id = $1 AND origin = 'Resource' AND owner_cluster = $2 AND state <> 'Revoked' AND deletion_policy <> 'Orphan'
            ORDER BY namespace, name, id";
        let read = |row: &Row| {
            Ok(Owned {
                owner: Owner::read(row)?,
                state: row.parsed("state", "tokens.state")?,
            })
        };
        let rows = sql!(self.store().read().await?, all, text, self.key(), cluster)?;
        rows.iter().map(read).collect()
    }

    /// The resources whose tokens are not revoked and have used up the request limit of their present period, ascending. It costs one look-up
    /// per period that was used up, whatever the number of the others.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn exhausted_tokens(&self) -> Result<Vec<ResourceUid>> {
        let text = "SELECT t.owner_uid FROM tokens t JOIN quotas q ON q.fleet_id = t.fleet_id AND q.subject_kind = 'Token' AND q.subject_id = t.id
                AND q.unit = 'Requests' AND q.period = t.period AND q.window_kind = 'Lifetime' AND q.window_start = 0
            WHERE t.fleet_id = $1 AND t.origin = 'Resource' AND t.state <> 'Revoked' AND t.max_requests IS NOT NULL
                AND q.exhausted
            ORDER BY t.owner_uid";
        let rows = sql!(self.store().read().await?, all, text, self.key())?;
        rows.iter().map(|row| row.text("owner_uid").map(ResourceUid::new)).collect()
    }
}

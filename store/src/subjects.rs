//! Whose resource a change of the feed is about. It refuses to know what changed.

use crate::error::Result;
use crate::feed::Subject;
use crate::fleet::Fleet;
use crate::statement::sql;
use crate::tokens::Owner;

impl Fleet {
    /// The resource that a subject belongs to; none if it is the fleet itself, belongs to /manage, or is gone.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn owner_of(&self, subject: &Subject) -> Result<Option<Owner>> {
        let project = "SELECT owner_cluster, owner_uid, namespace, name FROM projects WHERE fleet_id = $1 AND id = $2 AND origin = 'Resource'";
        let token = "SELECT owner_cluster, owner_uid, namespace, name FROM tokens WHERE fleet_id = $1 AND id = $2 AND origin = 'Resource'";
        let row = match subject {
            Subject::Fleet => return Ok(None),
            Subject::Project(id) => sql!(self.store().read().await?, optional, project, self.key(), id.to_string())?,
            Subject::Token(id) => sql!(self.store().read().await?, optional, token, self.key(), id.to_string())?,
        };
        row.as_ref().map(Owner::read).transpose()
    }
}

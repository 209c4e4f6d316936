//! Projects through `/manage`.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, json};

use crate::clock::DbTime;
use crate::error::StoreError;
use crate::feed::{FeedVersion, Subject};
use crate::fleet::Fleet;
use crate::ids::{CredentialId, ProjectId};
use crate::manage::act::{Act, ManageError, Touched, must_be_ours, owner};
use crate::manage::idempotency::StoredAnswer;
use crate::manage::mask::mask;
use crate::projects::{CredentialSpec, ProjectState};
use crate::providers::ProviderAuth;
use crate::statement::{Conn, Row, sql, stored};
use crate::tokens::Owner;

/// A project as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedProject {
    /// Its row.
    pub id: ProjectId,
    /// Its resource; `None` if it came through the API.
    pub owner: Option<Owner>,
    /// Its name.
    pub name: String,
    /// Its provider's name.
    pub provider: Option<String>,
    /// Its provider's key, masked; `None` if there is none or it does not open.
    pub masked_key: Option<String>,
    /// Whether its tokens may be used.
    pub state: ProjectState,
    /// When it was deactivated, if it is inactive.
    pub deactivated_at: Option<DbTime>,
    /// When it was created.
    pub created_at: DbTime,
    /// When it was last changed.
    pub updated_at: DbTime,
    /// The row's version.
    pub version: i64,
}

/// A project that is to be created.
#[derive(Clone, Debug)]
pub struct NewProject {
    /// Its name.
    pub name: String,
    /// Its provider; `None`: the only one, or the one that is named `openai`.
    pub provider: Option<String>,
    /// The provider's key.
    pub key: Option<SecretString>,
}

/// What is to change; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct ProjectPatch {
    /// Another name.
    pub name: Option<String>,
    /// Another key.
    pub key: Option<SecretString>,
    /// Whether its tokens may be used.
    pub active: Option<bool>,
    /// Revoke all of its tokens, if it becomes inactive by this.
    pub revoke_tokens: bool,
}

/// The text that reads projects with their first credential, up to its last clauses.
macro_rules! select_projects {
    ($tail:literal) => {
        concat!(
            "SELECT p.id, p.origin, p.owner_cluster, p.owner_uid, p.namespace, p.name, p.state, p.deactivated_at, p.created_at, p.updated_at,
                p.version, c.id AS credential_id, c.provider, c.key_id, c.sealed
            FROM projects p LEFT JOIN credentials c ON c.fleet_id = p.fleet_id AND c.project_id = p.id AND c.id = (SELECT n.id FROM credentials n
                WHERE n.fleet_id = p.fleet_id AND n.project_id = p.id ORDER BY n.priority, n.provider LIMIT 1)
            WHERE p.fleet_id = $1 AND p.state <> 'Deleted' ",
            $tail
        )
    };
}

impl Fleet {
    /// Whether one of the projects that came through `/manage` has this name. By the time of an answer another may have taken it.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn is_project_name_taken(&self, name: &str) -> Result<bool, StoreError> {
        let text = "SELECT id FROM projects WHERE fleet_id = $1 AND origin = 'Api' AND name = $2";
        Ok(sql!(self.store().read().await?, optional, text, self.key(), name)?.is_some())
    }

    /// Projects of every origin that are not deleted, by name: `limit` of them after `after`.
    ///
    /// # Errors
    /// [`ManageError::ProjectNotFound`] if there is no project `after`; those of any read.
    pub async fn managed_projects(&self, after: Option<ProjectId>, limit: u64) -> Result<Vec<ManagedProject>, ManageError> {
        let mut snapshot = self.store().snapshot().await?;
        let (mut name, mut id) = (String::new(), String::new());
        if let Some(after) = after {
            id = after.to_string();
            let text = "SELECT name FROM projects WHERE fleet_id = $1 AND id = $2";
            let row = sql!(snapshot, optional, text, self.key(), id.as_str())?.ok_or(ManageError::ProjectNotFound)?;
            name = row.text("name")?;
        }
        let text = select_projects!("AND (p.name > $2 OR (p.name = $2 AND p.id > $3)) ORDER BY p.name, p.id LIMIT $4");
        let rows = sql!(snapshot, all, text, self.key(), name, id, stored(limit))?;
        Ok(rows.iter().map(|row| self.managed(row)).collect::<Result<_, _>>()?)
    }

    /// One project.
    ///
    /// # Errors
    /// [`ManageError::ProjectNotFound`]; those of any read.
    pub async fn managed_project(&self, id: ProjectId) -> Result<ManagedProject, ManageError> {
        self.find_managed(&mut self.store().read().await?, id).await
    }

    /// Creates a project. `answer` makes what the client gets of it.
    ///
    /// # Errors
    /// [`ManageError::NameTaken`]; those about its provider; [`ManageError::IdempotencyReused`]; those of any write.
    pub async fn create_project(
        &self,
        act: &Act,
        new: &NewProject,
        answer: impl Fn(&ManagedProject) -> StoredAnswer,
    ) -> Result<StoredAnswer, ManageError> {
        let mut tx = self.store().begin().await?;
        let now = tx.now().await?;
        let id = ProjectId::new();
        let provider = self.provider_for(&mut tx, new).await?;
        let insert = "INSERT INTO projects (fleet_id, id, origin, namespace, name, state, created_at, updated_at)
            VALUES ($1, $2, 'Api', '', $3, 'Active', $4, $4) ON CONFLICT (fleet_id, name) WHERE origin = 'Api' DO NOTHING";
        if sql!(tx, exec, insert, self.key(), id.to_string(), new.name.as_str(), now.0)? == 0 {
            // The name may be taken by this very request, whose answer was lost.
            return match self.kept_answer_in(&mut tx, act).await? {
                Some(kept) => Ok(kept),
                None => Err(ManageError::NameTaken),
            };
        }
        let credential = CredentialSpec {
            provider,
            key: new.key.clone(),
        };
        self.insert_credential(&mut tx, id, &credential).await?;
        let answer = answer(&self.find_managed(&mut tx, id).await?);
        if let Some(kept) = self.keep_answer(&mut tx, act, &answer, now).await? {
            tx.rollback().await?;
            return Ok(kept);
        }
        let mut detail = Map::new();
        detail.insert("name".into(), json!(new.name));
        detail.insert("provider".into(), json!(credential.provider));
        let touched = Touched {
            project: Some(id),
            token: None,
        };
        let version = self.bump_and_audit(&mut tx, act, touched, &detail, now).await?;
        self.finish(tx, &Subject::Project(id), version).await?;
        Ok(answer)
    }

    /// Changes a project. The version is `None` if it already stands so: then nothing is written.
    ///
    /// # Errors
    /// [`ManageError::ProjectNotFound`], [`ManageError::Owned`], [`ManageError::PreconditionFailed`], [`ManageError::NameTaken`]; those of any
    /// write.
    pub async fn change_project(&self, act: &Act, id: ProjectId, patch: &ProjectPatch) -> Result<(ManagedProject, Option<FeedVersion>), ManageError> {
        let mut tx = self.store().begin().await?;
        let found = self.lock_managed(&mut tx, id).await?;
        must_be_ours(found.owner.as_ref(), "LLMProject")?;
        act.check(found.version - 1)?;
        let now = tx.now().await?;
        let (key, row) = (self.key(), id.to_string());
        let mut changed = Vec::new();
        let mut takes_away = false;

        if let Some(name) = patch.name.as_deref().filter(|name| *name != found.name) {
            let taken = "SELECT id FROM projects WHERE fleet_id = $1 AND origin = 'Api' AND name = $2";
            if sql!(tx, optional, taken, key.as_str(), name)?.is_some() {
                return Err(ManageError::NameTaken);
            }
            let update = "UPDATE projects SET name = $3 WHERE fleet_id = $1 AND id = $2";
            sql!(tx, exec, update, key.as_str(), row.as_str(), name).map_err(name_taken)?;
            changed.push("name");
        }
        if let Some(new) = &patch.key
            && self.replace_key(&mut tx, id, new).await?
        {
            changed.push("api_key");
            takes_away = true;
        }
        let mut revoked = None;
        let state = match patch.active {
            Some(true) => ProjectState::Active,
            Some(false) => ProjectState::Inactive,
            None => found.state,
        };
        if state != found.state {
            let since = (state == ProjectState::Inactive).then_some(now.0);
            let update = "UPDATE projects SET state = $3, deactivated_at = $4 WHERE fleet_id = $1 AND id = $2";
            sql!(tx, exec, update, key.as_str(), row.as_str(), state.as_stored(), since)?;
            changed.push("is_active");
            takes_away |= state == ProjectState::Inactive;
        }
        if patch.revoke_tokens && state == ProjectState::Inactive {
            let counts = self.revoke_all(&mut tx, id, now).await?;
            takes_away |= counts.revoked > 0;
            if counts.revoked > 0 {
                changed.push("tokens");
            }
            revoked = Some(counts.revoked);
        }
        if changed.is_empty() {
            tx.rollback().await?;
            return Ok((self.managed_project(id).await?, None));
        }
        sql!(
            tx,
            exec,
            "UPDATE projects SET updated_at = $3 WHERE fleet_id = $1 AND id = $2",
            key.as_str(),
            row.as_str(),
            now.0
        )?;
        let view = self.find_managed(&mut tx, id).await?;
        let mut detail = Map::new();
        detail.insert("name".into(), json!(view.name));
        detail.insert("updated_fields".into(), json!(changed));
        if let Some(revoked) = revoked {
            detail.insert("tokens_revoked".into(), json!(revoked));
        }
        let touched = Touched {
            project: Some(id),
            token: None,
        };
        let version = self.bump_and_audit(&mut tx, act, touched, &detail, now).await?;
        if takes_away {
            self.note_tokens_taken(&mut tx, id, now, version).await?;
        }
        self.finish(tx, &Subject::Project(id), version).await?;
        Ok((view, Some(version)))
    }

    /// Locks the project's row for the rest of the transaction; the version that it shows is one more than before.
    pub(super) async fn lock_managed(&self, tx: &mut Conn, id: ProjectId) -> Result<ManagedProject, ManageError> {
        let lock = "UPDATE projects SET version = version + 1 WHERE fleet_id = $1 AND id = $2 AND state <> 'Deleted'";
        if sql!(tx, exec, lock, self.key(), id.to_string())? == 0 {
            return Err(ManageError::ProjectNotFound);
        }
        self.find_managed(tx, id).await
    }

    pub(super) async fn find_managed(&self, conn: &mut Conn, id: ProjectId) -> Result<ManagedProject, ManageError> {
        let text = select_projects!("AND p.id = $2");
        let row = sql!(conn, optional, text, self.key(), id.to_string())?.ok_or(ManageError::ProjectNotFound)?;
        Ok(self.managed(&row)?)
    }

    fn managed(&self, row: &Row) -> Result<ManagedProject, StoreError> {
        let provider = row.optional_text("provider")?;
        // A key that does not open is replaced through here, so it must not hide its project.
        let key = provider.as_ref().and_then(|_| self.open_credential(row).ok().flatten());
        Ok(ManagedProject {
            id: row.parsed("id", "projects.id")?,
            owner: owner(row)?,
            name: row.text("name")?,
            masked_key: key.as_ref().map(mask),
            provider,
            state: row.parsed("state", "projects.state")?,
            deactivated_at: row.optional_int("deactivated_at")?.map(DbTime),
            created_at: DbTime(row.int("created_at")?),
            updated_at: DbTime(row.int("updated_at")?),
            version: row.int("version")?,
        })
    }

    /// The name of the provider that a new project gets, once it is clear that it will work with it.
    async fn provider_for(&self, tx: &mut Conn, new: &NewProject) -> Result<String, ManageError> {
        let rows = sql!(tx, all, "SELECT name, auth FROM providers WHERE fleet_id = $1 ORDER BY name", self.key())?;
        let mut there = Vec::with_capacity(rows.len());
        for row in &rows {
            there.push((row.text("name")?, row.parsed::<ProviderAuth>("auth", "providers.auth")?));
        }
        let count = there.len();
        let chosen = match &new.provider {
            Some(name) => there
                .into_iter()
                .find(|(there, _)| there == name)
                .ok_or_else(|| ManageError::ProviderNotFound { name: name.clone() })?,
            None => {
                let at = if count == 1 {
                    Some(0)
                } else {
                    there.iter().position(|(name, _)| name == "openai")
                };
                at.map(|at| there.swap_remove(at)).ok_or(ManageError::ProviderUnclear { count })?
            }
        };
        match chosen {
            (provider, ProviderAuth::Bearer) if new.key.is_none() => Err(ManageError::KeyMissing { provider }),
            (provider, _) => Ok(provider),
        }
    }

    /// Puts another key into the project's first credential. False: it is the same.
    async fn replace_key(&self, tx: &mut Conn, project: ProjectId, new: &SecretString) -> Result<bool, ManageError> {
        let text = "SELECT id AS credential_id, provider, key_id, sealed FROM credentials WHERE fleet_id = $1 AND project_id = $2
            ORDER BY priority, provider LIMIT 1";
        let Some(row) = sql!(tx, optional, text, self.key(), project.to_string())? else {
            return Err(ManageError::ProviderUnclear { count: 0 });
        };
        let same = |old: &SecretString| old.expose_secret() == new.expose_secret();
        if self.open_credential(&row).ok().flatten().as_ref().is_some_and(same) {
            return Ok(false);
        }
        let id: CredentialId = row.parsed("credential_id", "credentials.id")?;
        let credential = CredentialSpec {
            provider: row.text("provider")?,
            key: Some(new.clone()),
        };
        self.update_credential(tx, id, &credential).await?;
        Ok(true)
    }
}

/// Of two renames at once the second one fails at the index.
fn name_taken(error: StoreError) -> ManageError {
    match error {
        StoreError::Refused(why) if why.contains("projects_api_name") => ManageError::NameTaken,
        error => error.into(),
    }
}

//! Projects and their sealed provider credentials.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::error::{Result, StoreError};
use crate::feed::{FeedVersion, Subject};
use crate::fleet::Fleet;
use crate::ids::{CredentialId, ProjectId, ResourceUid};
use crate::limits::{self, Limit};
use crate::statement::{Conn, Row, sql, stored_as_text};
use crate::tokens::Owner;

/// Whether a project's tokens may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProjectState {
    /// They may.
    Active,
    /// They may not, until it is active again.
    Inactive,
    /// Its resource is gone; it has no credentials and its tokens no live revisions.
    Deleted,
}

stored_as_text!(ProjectState { Active = "Active", Inactive = "Inactive", Deleted = "Deleted" });

/// A provider that the project uses; `key` is absent for keyless providers.
#[derive(Clone, Debug)]
pub struct CredentialSpec {
    /// The provider's name; it need not exist yet.
    pub provider: String,
    /// The key that the provider gave. Sealed before it is stored.
    pub key: Option<SecretString>,
}

/// A project as it is declared.
#[derive(Clone, Debug)]
pub struct ProjectSpec {
    /// Its resource.
    pub owner: Owner,
    /// Whether its tokens may be used. `Deleted` is what [`Fleet::delete_project`] does, not what is declared.
    pub state: ProjectState,
    /// One per provider; of two for one provider the last counts.
    pub credentials: Vec<CredentialSpec>,
    /// What its tokens are under, each for itself or together, in their order.
    pub limits: Vec<Limit>,
}

/// A project as it is stored.
#[derive(Clone, Debug)]
pub struct ProjectView {
    /// Its row.
    pub id: ProjectId,
    /// Its resource.
    pub owner: Owner,
    /// Whether its tokens may be used.
    pub state: ProjectState,
    /// Opened, so that a decision can compare them; they never leave the process. A database that was opened for reading only has no keys
    /// to open them with, and leaves `key` absent.
    pub credentials: Vec<CredentialSpec>,
    /// What its tokens are under, in their order.
    pub limits: Vec<Limit>,
    /// The version of the last transaction that took something away; replicas must have acknowledged it for `Programmed`.
    pub takeaway_version: FeedVersion,
}

/// A row of `credentials`, opened.
struct Credential {
    id: CredentialId,
    spec: CredentialSpec,
}

impl Fleet {
    /// Inserts or updates by owner uid; one transaction, one version. Nothing is written if it already stands so.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a state of `Deleted`; [`StoreError::WrongKey`] if a stored credential does not open;
    /// [`StoreError::Fenced`]; those of any write.
    pub async fn put_project(&self, spec: &ProjectSpec) -> Result<(ProjectId, FeedVersion)> {
        if spec.state == ProjectState::Deleted {
            return Err(StoreError::Refused(format!(
                "project {}/{} cannot be declared as deleted",
                spec.owner.namespace, spec.owner.name
            )));
        }
        let mut tx = self.store().begin().await?;
        let (cluster, uid, namespace, name) = spec.owner.columns();
        let upsert = "INSERT INTO projects (fleet_id, id, origin, owner_cluster, owner_uid, namespace, name, state, created_at, updated_at)
            VALUES ($1, $2, 'Resource', $3, $4, $5, $6, $7, (SELECT now_ms FROM clock), (SELECT now_ms FROM clock))
            ON CONFLICT (fleet_id, owner_cluster, owner_uid) DO UPDATE SET version = projects.version + 1
            RETURNING id, namespace, name, state, limits, version";
        let (fresh, state) = (ProjectId::new().to_string(), spec.state.as_stored());
        let row = sql!(tx, one, upsert, self.key(), fresh.as_str(), cluster, uid, namespace, name, state)?;
        let id: ProjectId = row.parsed("id", "projects.id")?;
        let was: ProjectState = row.parsed("state", "projects.state")?;
        let mut changed = row.text("id")? == fresh;
        let mut takes_away = was == ProjectState::Active && spec.state != ProjectState::Active;

        let renamed = row.text("namespace")? != namespace || row.text("name")? != name;
        if renamed || was != spec.state {
            let now = tx.now().await?;
            let update = "UPDATE projects SET namespace = $3, name = $4, state = $5, updated_at = $6 WHERE fleet_id = $1 AND id = $2";
            sql!(tx, exec, update, self.key(), id.to_string(), namespace, name, state, now.0)?;
            changed = true;
        }

        let limits_then = limits::read(&row, "limits", "projects.limits")?;
        if limits_then != spec.limits {
            let update = "UPDATE projects SET limits = $3, limits_version = limits_version + 1 WHERE fleet_id = $1 AND id = $2";
            sql!(tx, exec, update, self.key(), id.to_string(), limits::to_text(&spec.limits))?;
            changed = true;
            takes_away |= limits::is_narrowed(&limits_then, &spec.limits);
        }

        let mut wanted: BTreeMap<&str, &CredentialSpec> = spec.credentials.iter().map(|c| (c.provider.as_str(), c)).collect();
        for present in self.credentials(&mut tx, id).await? {
            match wanted.remove(present.spec.provider.as_str()) {
                Some(credential) if same_key(credential, &present.spec) => continue,
                Some(credential) => self.update_credential(&mut tx, present.id, credential).await?,
                None => {
                    sql!(
                        tx,
                        exec,
                        "DELETE FROM credentials WHERE fleet_id = $1 AND id = $2",
                        self.key(),
                        present.id.to_string()
                    )?;
                }
            }
            (changed, takes_away) = (true, true);
        }
        for credential in wanted.into_values() {
            self.insert_credential(&mut tx, id, credential).await?;
            changed = true;
        }

        let version = if changed {
            self.publish(tx, &Subject::Project(id), takes_away).await?
        } else {
            self.unchanged(tx).await?
        };
        Ok((id, version))
    }

    /// The project of a resource, whatever its state.
    ///
    /// # Errors
    /// Those of any read; [`StoreError::WrongKey`]; [`StoreError::Corrupt`].
    pub async fn project_by_uid(&self, uid: &ResourceUid) -> Result<Option<ProjectView>> {
        let text = "SELECT id, owner_cluster, owner_uid, namespace, name, state, limits, takeaway_version FROM projects
            WHERE fleet_id = $1 AND owner_uid = $2 ORDER BY id LIMIT 1";
        let mut snapshot = self.store().snapshot().await?;
        match sql!(snapshot, optional, text, self.key(), uid.as_str())? {
            Some(row) => self.project_view(&mut snapshot, &row).await.map(Some),
            None => Ok(None),
        }
    }

    /// All projects of resources, by namespace and name; also deleted ones.
    ///
    /// # Errors
    /// As [`Fleet::project_by_uid`].
    pub async fn projects(&self) -> Result<Vec<ProjectView>> {
        let text = "SELECT id, owner_cluster, owner_uid, namespace, name, state, limits, takeaway_version FROM projects
            WHERE fleet_id = $1 AND origin = 'Resource' ORDER BY namespace, name, id";
        let mut snapshot = self.store().snapshot().await?;
        let mut views = Vec::new();
        for row in sql!(snapshot, all, text, self.key())? {
            views.push(self.project_view(&mut snapshot, &row).await?);
        }
        Ok(views)
    }

    /// Marks it deleted, drops its credentials and ends every revision of its tokens; one version.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Fenced`]; those of any write.
    pub async fn delete_project(&self, id: ProjectId) -> Result<FeedVersion> {
        let mut tx = self.store().begin().await?;
        let key = id.to_string();
        let lock = "UPDATE projects SET version = version + 1 WHERE fleet_id = $1 AND id = $2 RETURNING state";
        let Some(row) = sql!(tx, optional, lock, self.key(), key.as_str())? else {
            return Err(StoreError::NotFound {
                what: format!("project {id}"),
            });
        };
        if row.parsed::<ProjectState>("state", "projects.state")? == ProjectState::Deleted {
            return self.unchanged(tx).await;
        }
        let now = tx.now().await?;
        let update = "UPDATE projects SET state = 'Deleted', updated_at = $3 WHERE fleet_id = $1 AND id = $2";
        sql!(tx, exec, update, self.key(), key.as_str(), now.0)?;
        sql!(
            tx,
            exec,
            "DELETE FROM credentials WHERE fleet_id = $1 AND project_id = $2",
            self.key(),
            key.as_str()
        )?;
        // Whoever issues or activates a revision holds its token's row: those that are on their way are waited for, later ones find the end.
        let lock = "UPDATE tokens SET version = version + 1 WHERE fleet_id = $1 AND project_id = $2";
        sql!(tx, exec, lock, self.key(), key.as_str())?;
        let end = "UPDATE token_revisions SET state = 'Ended', ended_early = (ends_at > $3),
                ends_at = CASE WHEN ends_at > $3 THEN $3 ELSE ends_at END
            WHERE fleet_id = $1 AND state <> 'Ended' AND token_id IN (SELECT id FROM tokens WHERE fleet_id = $1 AND project_id = $2)";
        sql!(tx, exec, end, self.key(), key.as_str(), now.0)?;
        self.publish(tx, &Subject::Project(id), true).await
    }

    async fn project_view(&self, conn: &mut Conn, row: &Row) -> Result<ProjectView> {
        let id = row.parsed("id", "projects.id")?;
        Ok(ProjectView {
            id,
            owner: Owner::read(row)?,
            state: row.parsed("state", "projects.state")?,
            credentials: self.credentials(conn, id).await?.into_iter().map(|credential| credential.spec).collect(),
            limits: limits::read(row, "limits", "projects.limits")?,
            takeaway_version: FeedVersion(row.int("takeaway_version")?),
        })
    }

    async fn credentials(&self, conn: &mut Conn, project: ProjectId) -> Result<Vec<Credential>> {
        let text = "SELECT id AS credential_id, provider, key_id, sealed FROM credentials WHERE fleet_id = $1 AND project_id = $2
            ORDER BY priority, provider";
        let rows = sql!(conn, all, text, self.key(), project.to_string())?;
        let read = |row: &Row| {
            let spec = CredentialSpec {
                provider: row.text("provider")?,
                key: self.open_credential(row)?,
            };
            Ok(Credential {
                id: row.parsed("credential_id", "credentials.id")?,
                spec,
            })
        };
        rows.iter().map(read).collect()
    }

    /// The provider's key of a row that selects `credential_id`, `key_id` and `sealed`.
    pub(crate) fn open_credential(&self, row: &Row) -> Result<Option<SecretString>> {
        match (row.optional_text("key_id")?, row.optional_bytes("sealed")?, self.store().keys()) {
            (Some(key_id), Some(sealed), Some(keys)) => keys.open(row.text("credential_id")?.as_bytes(), &key_id, &sealed).map(Some),
            _ => Ok(None),
        }
    }

    pub(crate) async fn insert_credential(&self, tx: &mut Conn, project: ProjectId, credential: &CredentialSpec) -> Result<()> {
        let id = CredentialId::new();
        let (key_id, sealed) = self.seal_credential(id, credential)?;
        let insert = "INSERT INTO credentials (fleet_id, id, project_id, provider, key_id, sealed) VALUES ($1, $2, $3, $4, $5, $6)";
        let provider = credential.provider.as_str();
        sql!(
            tx,
            exec,
            insert,
            self.key(),
            id.to_string(),
            project.to_string(),
            provider,
            key_id,
            sealed
        )?;
        Ok(())
    }

    pub(crate) async fn update_credential(&self, tx: &mut Conn, id: CredentialId, credential: &CredentialSpec) -> Result<()> {
        let (key_id, sealed) = self.seal_credential(id, credential)?;
        let update = "UPDATE credentials SET key_id = $3, sealed = $4, version = version + 1 WHERE fleet_id = $1 AND id = $2";
        sql!(tx, exec, update, self.key(), id.to_string(), key_id, sealed)?;
        Ok(())
    }

    fn seal_credential(&self, id: CredentialId, credential: &CredentialSpec) -> Result<(Option<String>, Option<Vec<u8>>)> {
        match (&credential.key, self.store().keys()) {
            (Some(key), Some(keys)) => keys
                .seal(id.to_string().as_bytes(), key)
                .map(|(key_id, sealed)| (Some(key_id), Some(sealed))),
            (Some(_), None) => Err(StoreError::ReadOnly("it was opened for reading only".into())),
            (None, _) => Ok((None, None)),
        }
    }
}

fn same_key(a: &CredentialSpec, b: &CredentialSpec) -> bool {
    match (&a.key, &b.key) {
        (Some(a), Some(b)) => a.expose_secret().as_bytes().ct_eq(b.expose_secret().as_bytes()).into(),
        (None, None) => true,
        _ => false,
    }
}

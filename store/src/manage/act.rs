//! What every act through `/manage` has in common: who does it under which precondition, and how it ends.

use serde_json::{Map, Value};

use crate::audit::{AuditEntry, AuditOutcome};
use crate::clock::DbTime;
use crate::error::StoreError;
use crate::feed::{FeedVersion, Subject};
use crate::fleet::Fleet;
use crate::ids::{AuditId, HolderId, ProjectId, TokenId};
use crate::manage::idempotency::IdempotencyKey;
use crate::statement::{Conn, Row, sql};
use crate::tokens::Owner;

/// An act: who does it, as part of which request, and under which conditions.
#[derive(Clone, Debug)]
pub struct Act {
    /// The process that writes the audit row.
    pub writer: HolderId,
    /// What is done, such as `token.create`.
    pub action: &'static str,
    /// Who does it.
    pub actor: String,
    /// The request's id.
    pub request_id: String,
    /// What else the audit row says; the act adds to it what it changed. Never a secret.
    pub detail: Map<String, Value>,
    /// The row's version that the caller has seen; `None`: any.
    pub if_version: Option<i64>,
    /// The key under which the answer is kept, if the caller may send the same request again.
    pub idempotency: Option<IdempotencyKey>,
}

/// Why an act, or a look, came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// The database's own reasons.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No such project.
    #[error("there is no such project")]
    ProjectNotFound,
    /// No such token.
    #[error("there is no such token")]
    TokenNotFound,
    /// A provider of this name does not exist.
    #[error("there is no provider {name}")]
    ProviderNotFound {
        /// The name.
        name: String,
    },
    /// No provider was named, and none is the obvious one.
    #[error("the fleet has {count} providers and none is named openai: name one as `provider`")]
    ProviderUnclear {
        /// How many there are.
        count: usize,
    },
    /// The provider wants a key and none was sent.
    #[error("provider {provider} wants a key: send `api_key`")]
    KeyMissing {
        /// The provider.
        provider: String,
    },
    /// The row belongs to a declared resource.
    #[error("{kind} {namespace}/{name} declares this: change it there")]
    Owned {
        /// The resource's kind.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Another project has this name.
    #[error("another project has this name")]
    NameTaken,
    /// The row is no longer what the caller has seen.
    #[error("the object was changed meanwhile")]
    PreconditionFailed,
    /// A revoked token stays revoked.
    #[error("the token is revoked, which is never undone")]
    Revoked,
    /// The project is not active.
    #[error("the project is not active")]
    ProjectInactive,
    /// The same idempotency key came with another request before.
    #[error("the idempotency key was used for another request")]
    IdempotencyReused,
}

/// What an act touched, for the audit row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Touched {
    pub(super) project: Option<ProjectId>,
    pub(super) token: Option<TokenId>,
}

impl Act {
    /// Whether a row of this version may be changed.
    pub(super) fn check(&self, version: i64) -> Result<(), ManageError> {
        match self.if_version {
            Some(seen) if seen != version => Err(ManageError::PreconditionFailed),
            _ => Ok(()),
        }
    }

    fn entry(&self, touched: Touched, detail: &Map<String, Value>) -> AuditEntry {
        let subject = match (touched.token, touched.project) {
            (Some(token), _) => format!("token {token}"),
            (None, Some(project)) => format!("project {project}"),
            (None, None) => String::new(),
        };
        let mut all = self.detail.clone();
        all.extend(detail.iter().map(|(k, v)| (k.clone(), v.clone())));
        AuditEntry {
            id: AuditId::new(),
            age_ms: 0,
            action: self.action.to_owned(),
            actor: self.actor.clone(),
            outcome: AuditOutcome::Allowed,
            subject,
            project: touched.project,
            token: touched.token,
            request_id: self.request_id.clone(),
            times: 1,
            detail: Value::Object(all).to_string(),
        }
    }
}

impl Fleet {
    /// Takes the version and writes the audit row under its lock, so that a process's rows form one chain. What is left is `finish`.
    pub(super) async fn bump_and_audit(
        &self,
        tx: &mut Conn,
        act: &Act,
        touched: Touched,
        detail: &Map<String, Value>,
        now: DbTime,
    ) -> Result<FeedVersion, ManageError> {
        // Dropping the transaction rolls it back.
        let Some(version) = self.bump(tx).await? else {
            return Err(StoreError::Fenced.into());
        };
        self.append_audit(tx, &act.writer.to_string(), &[act.entry(touched, detail)], now).await?;
        Ok(version)
    }

    /// Notes on each revoked token of a project, too, that this version takes it away: its resource reports it.
    pub(super) async fn note_tokens_taken(&self, tx: &mut Conn, project: ProjectId, now: DbTime, version: FeedVersion) -> Result<(), StoreError> {
        let text = "UPDATE tokens SET takeaway_version = $4 WHERE fleet_id = $1 AND project_id = $2 AND state = 'Revoked' AND state_at = $3";
        sql!(tx, exec, text, self.key(), project.to_string(), now.0, version.0)?;
        self.note_take_away(tx, &Subject::Project(project), version).await
    }
}

/// The owner of a row that selects `origin` and the four columns; `None` for one that came through the API.
pub(super) fn owner(row: &Row) -> Result<Option<Owner>, StoreError> {
    if row.text("origin")? == "Resource" {
        Owner::read(row).map(Some)
    } else {
        Ok(None)
    }
}

/// Refuses to change what a resource declares.
pub(super) fn must_be_ours(owner: Option<&Owner>, kind: &'static str) -> Result<(), ManageError> {
    match owner {
        None => Ok(()),
        Some(owner) => Err(ManageError::Owned {
            kind,
            namespace: owner.namespace.clone(),
            name: owner.name.clone(),
        }),
    }
}

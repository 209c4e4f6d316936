//! Tokens through `/manage`: created with their one value, changed, and revoked for good.

use serde_json::{Map, json};

use crate::clock::DbTime;
use crate::error::StoreError;
use crate::feed::{FeedVersion, Subject};
use crate::fleet::Fleet;
use crate::ids::{ProjectId, TokenId};
use crate::manage::act::{Act, ManageError, Touched, must_be_ours, owner};
use crate::manage::idempotency::StoredAnswer;
use crate::projects::ProjectState;
use crate::statement::{Conn, Row, count, sql, stored};
use crate::token::{TokenDigest, TokenValue};
use crate::tokens::{Owner, RevokedBy, TokenState};

/// A token's first and only period: nothing renews a token of this origin.
const PERIOD: i64 = 1;

/// A token as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedToken {
    /// Its row.
    pub id: TokenId,
    /// Its resource; `None` if it came through the API.
    pub owner: Option<Owner>,
    /// The name that it was given; of a resource's token the resource's.
    pub name: Option<String>,
    /// The public part of its value; `None` if there is no value yet.
    pub prefix: Option<String>,
    /// Its project.
    pub project: ProjectId,
    /// Whether it may be used.
    pub state: TokenState,
    /// When it came into this state.
    pub state_at: DbTime,
    /// When it stops working; `None` if there is no value yet.
    pub expires_at: Option<DbTime>,
    /// The limit.
    pub max_requests: Option<u64>,
    /// Counted against the limit; without one all that were booked.
    pub requests: u64,
    /// When it was last used.
    pub last_used_at: Option<DbTime>,
    /// When it was created.
    pub created_at: DbTime,
    /// The row's version.
    pub version: i64,
}

/// A token that is to be created.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its project.
    pub project: ProjectId,
    /// A name for people.
    pub name: Option<String>,
    /// Its life from now, in ms.
    pub ttl_ms: i64,
    /// Its limit.
    pub max_requests: Option<u64>,
    /// Its value.
    pub value: TokenValue,
}

/// What is to change; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct TokenPatch {
    /// Works, or is suspended.
    pub active: Option<bool>,
    /// Another limit, or none.
    pub max_requests: Option<Option<u64>>,
    /// Another life from now, in ms.
    pub ttl_ms: Option<i64>,
    /// Another name.
    pub name: Option<String>,
}

/// Which tokens are wanted; what is empty does not narrow.
#[derive(Clone, Debug, Default)]
pub struct TokenFilter {
    /// Of these projects: all of them must match; the first two are looked at.
    pub projects: Vec<ProjectId>,
    /// Only those that are neither suspended, revoked nor expired.
    pub active_only: bool,
    /// Those that come after this one.
    pub after: Option<TokenId>,
}

/// What a bulk revocation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkRevocation {
    /// Revoked now.
    pub revoked: u64,
    /// Revoked before.
    pub already_revoked: u64,
}

/// The text that reads tokens with their quota and their latest value, up to its last clauses.
macro_rules! select_tokens {
    ($tail:literal) => {
        concat!(
            "SELECT t.id, t.project_id, t.origin, t.owner_cluster, t.owner_uid, t.namespace, t.name, t.alias, t.state, t.state_at, t.expires_at,
                t.max_requests, t.created_at, t.version, q.used, r.prefix, r.ends_at,
                (SELECT CAST(SUM(u.requests) AS BIGINT) FROM usage u WHERE u.fleet_id = t.fleet_id AND u.token_id = t.id) AS booked,
                (SELECT MAX(u.last_at) FROM usage u WHERE u.fleet_id = t.fleet_id AND u.token_id = t.id) AS last_at
            FROM tokens t LEFT JOIN quotas q ON q.fleet_id = t.fleet_id AND q.subject_kind = 'Token' AND q.subject_id = t.id
                AND q.unit = 'Requests' AND q.period = t.period AND q.window_kind = 'Lifetime' AND q.max_units IS NOT NULL
            LEFT JOIN token_revisions r ON r.digest = (SELECT n.digest FROM token_revisions n
                WHERE n.fleet_id = t.fleet_id AND n.token_id = t.id
                ORDER BY CASE n.state WHEN 'Active' THEN 0 WHEN 'Pending' THEN 1 WHEN 'Previous' THEN 2 ELSE 3 END, n.revision DESC,
                    n.issued_at DESC LIMIT 1) ",
            $tail
        )
    };
}

impl Fleet {
    /// Tokens of every origin, newest first: `limit` of them.
    ///
    /// # Errors
    /// Those of any read; [`StoreError::Corrupt`].
    pub async fn managed_tokens(&self, filter: &TokenFilter, limit: u64) -> Result<Vec<ManagedToken>, StoreError> {
        // An id begins with the time it was made at.
        let text = select_tokens!(
            "WHERE t.fleet_id = $1 AND ($2 = '' OR t.project_id = $2) AND ($3 = '' OR t.project_id = $3)
                AND ($4 = 0 OR (t.state = 'Active' AND COALESCE(t.expires_at, r.ends_at) > (SELECT now_ms FROM clock)))
                AND ($5 = '' OR t.id < $5) ORDER BY t.id DESC LIMIT $6"
        );
        let project = |at: usize| filter.projects.get(at).map(ProjectId::to_string).unwrap_or_default();
        let after = filter.after.map(|id| id.to_string()).unwrap_or_default();
        let rows = sql!(
            self.store().read().await?,
            all,
            text,
            self.key(),
            project(0),
            project(1),
            i64::from(filter.active_only),
            after,
            stored(limit)
        )?;
        rows.iter().map(ManagedToken::read).collect()
    }

    /// One token.
    ///
    /// # Errors
    /// [`ManageError::TokenNotFound`]; those of any read.
    pub async fn managed_token(&self, id: TokenId) -> Result<ManagedToken, ManageError> {
        self.find_token(&mut self.store().read().await?, id).await
    }

    /// The token that this value belongs to, also if the value no longer works.
    ///
    /// # Errors
    /// [`ManageError::TokenNotFound`]; those of any read.
    pub async fn token_of_value(&self, digest: &TokenDigest) -> Result<TokenId, ManageError> {
        let text = "SELECT token_id FROM token_revisions WHERE fleet_id = $1 AND digest = $2";
        let row = sql!(self.store().read().await?, optional, text, self.key(), digest.0.as_slice())?;
        let row = row.ok_or(ManageError::TokenNotFound)?;
        Ok(row.parsed("token_id", "token_revisions.token_id")?)
    }

    /// Creates a token with its value. `answer` makes what the client gets of it.
    ///
    /// # Errors
    /// [`ManageError::ProjectNotFound`], [`ManageError::ProjectInactive`], [`ManageError::IdempotencyReused`]; those of any write.
    pub async fn create_token(&self, act: &Act, new: &NewToken, answer: impl Fn(&ManagedToken) -> StoredAnswer) -> Result<StoredAnswer, ManageError> {
        let mut tx = self.store().begin().await?;
        // A project that is being deleted is waited for, and one that is deleted later finds this token.
        let lock = "UPDATE projects SET version = version WHERE fleet_id = $1 AND id = $2";
        sql!(tx, exec, lock, self.key(), new.project.to_string())?;
        let project = self.find_managed(&mut tx, new.project).await?;
        if project.state != ProjectState::Active {
            return Err(ManageError::ProjectInactive);
        }
        let now = tx.now().await?;
        let id = TokenId::new();
        let ends = now.plus_ms(new.ttl_ms);
        let (key, row, prefix) = (self.key(), id.to_string(), new.value.prefix());
        let name = new.name.as_deref().unwrap_or(prefix);
        let insert = "INSERT INTO tokens (fleet_id, id, project_id, origin, namespace, name, alias, expires_at, state, state_at, period,
                max_requests, secret_name, created_at, updated_at)
            VALUES ($1, $2, $3, 'Api', '', $4, $5, $6, 'Active', $7, $8, $9, '', $7, $7)";
        let (of, alias, max) = (new.project.to_string(), new.name.as_deref(), new.max_requests.map(stored));
        sql!(tx, exec, insert, key.as_str(), row.as_str(), of, name, alias, ends.0, now.0, PERIOD, max)?;
        let revision = "INSERT INTO token_revisions (fleet_id, token_id, revision, digest, prefix, state, write_begun, issued_at, ends_at)
            VALUES ($1, $2, 1, $3, $4, 'Active', TRUE, $5, $6)";
        let digest = new.value.digest();
        sql!(tx, exec, revision, key.as_str(), row.as_str(), digest.0.as_slice(), prefix, now.0, ends.0)?;
        self.put_quota(&mut tx, id, PERIOD, new.max_requests).await?;
        let answer = answer(&self.find_token(&mut tx, id).await?);
        if let Some(kept) = self.keep_answer(&mut tx, act, &answer, now).await? {
            tx.rollback().await?;
            return Ok(kept);
        }
        let mut detail = Map::new();
        detail.insert("prefix".into(), json!(prefix));
        detail.insert("expires_at_ms".into(), json!(ends.0));
        detail.insert("max_requests".into(), json!(new.max_requests));
        let touched = Touched {
            project: Some(new.project),
            token: Some(id),
        };
        let version = self.bump_and_audit(&mut tx, act, touched, &detail, now).await?;
        self.finish(tx, &Subject::Token(id), version).await?;
        Ok(answer)
    }

    /// Changes a token. The version is `None` if it already stands so: then nothing is written.
    ///
    /// # Errors
    /// [`ManageError::TokenNotFound`], [`ManageError::Owned`], [`ManageError::PreconditionFailed`], [`ManageError::Revoked`]; those of any
    /// write.
    pub async fn change_managed_token(&self, act: &Act, id: TokenId, patch: &TokenPatch) -> Result<(ManagedToken, Option<FeedVersion>), ManageError> {
        let mut tx = self.store().begin().await?;
        let found = self.lock_token(&mut tx, id).await?;
        must_be_ours(found.owner.as_ref(), "WitheringToken")?;
        act.check(found.version - 1)?;
        let now = tx.now().await?;
        let (key, row) = (self.key(), id.to_string());
        let mut changed = Vec::new();
        let mut takes_away = false;

        let state = match patch.active {
            Some(true) => TokenState::Active,
            // A revoked token is suspended enough.
            Some(false) if found.state == TokenState::Revoked => TokenState::Revoked,
            Some(false) => TokenState::Suspended,
            None => found.state,
        };
        if state != found.state {
            let update = "UPDATE tokens SET state = $3, state_by = NULL, state_at = $4 WHERE fleet_id = $1 AND id = $2";
            sql!(tx, exec, update, key.as_str(), row.as_str(), state.as_stored(), now.0)?;
            changed.push("is_active");
            takes_away |= state == TokenState::Suspended;
        }
        if let Some(max) = patch.max_requests.filter(|max| *max != found.max_requests) {
            let update = "UPDATE tokens SET max_requests = $3 WHERE fleet_id = $1 AND id = $2";
            sql!(tx, exec, update, key.as_str(), row.as_str(), max.map(stored))?;
            self.put_quota(&mut tx, id, PERIOD, max).await?;
            if found.max_requests.is_none() {
                // While there was no limit nobody reported to the quota; usage was booked all the same.
                let count_on = "UPDATE quotas SET used = $3 WHERE fleet_id = $1 AND subject_kind = 'Token' AND subject_id = $2
                    AND unit = 'Requests' AND window_kind = 'Lifetime' AND period = $4 AND used < $3";
                sql!(tx, exec, count_on, key.as_str(), row.as_str(), stored(found.requests), PERIOD)?;
            }
            changed.push("max_requests");
            takes_away |= max.is_some_and(|max| found.max_requests.is_none_or(|was| max < was));
        }
        if let Some(ttl_ms) = patch.ttl_ms {
            let ends = now.plus_ms(ttl_ms);
            let token = "UPDATE tokens SET expires_at = $3 WHERE fleet_id = $1 AND id = $2";
            sql!(tx, exec, token, key.as_str(), row.as_str(), ends.0)?;
            let value = "UPDATE token_revisions SET ends_at = $3 WHERE fleet_id = $1 AND token_id = $2 AND state <> 'Ended'";
            sql!(tx, exec, value, key.as_str(), row.as_str(), ends.0)?;
            changed.push("expires_at");
            takes_away |= found.expires_at.is_some_and(|was| ends < was);
        }
        if let Some(name) = patch.name.as_deref().filter(|name| Some(*name) != found.name.as_deref()) {
            let update = "UPDATE tokens SET name = $3, alias = $3 WHERE fleet_id = $1 AND id = $2";
            sql!(tx, exec, update, key.as_str(), row.as_str(), name)?;
            changed.push("name");
        }
        if changed.is_empty() {
            tx.rollback().await?;
            return Ok((self.managed_token(id).await?, None));
        }
        if found.state == TokenState::Revoked {
            return Err(ManageError::Revoked);
        }
        let update = "UPDATE tokens SET updated_at = $3 WHERE fleet_id = $1 AND id = $2";
        sql!(tx, exec, update, key.as_str(), row.as_str(), now.0)?;
        let view = self.find_token(&mut tx, id).await?;
        let mut detail = Map::new();
        detail.insert("updated_fields".into(), json!(changed));
        let version = self.bump_and_audit(&mut tx, act, touched(&found), &detail, now).await?;
        if takes_away {
            self.note_take_away(&mut tx, &Subject::Token(id), version).await?;
        }
        self.finish(tx, &Subject::Token(id), version).await?;
        Ok((view, Some(version)))
    }

    /// Revokes a token of any origin, for good. `None`: it was revoked before, and nothing is written.
    ///
    /// # Errors
    /// [`ManageError::TokenNotFound`], [`ManageError::PreconditionFailed`]; those of any write.
    pub async fn revoke_managed_token(&self, act: &Act, id: TokenId) -> Result<Option<FeedVersion>, ManageError> {
        let mut tx = self.store().begin().await?;
        let found = self.lock_token(&mut tx, id).await?;
        if found.state == TokenState::Revoked {
            tx.rollback().await?;
            return Ok(None);
        }
        act.check(found.version - 1)?;
        let now = tx.now().await?;
        let (key, row, by) = (self.key(), id.to_string(), RevokedBy::Manage.as_stored());
        let revoke = "UPDATE tokens SET state = 'Revoked', state_by = $3, state_at = $4, updated_at = $4 WHERE fleet_id = $1 AND id = $2";
        sql!(tx, exec, revoke, key.as_str(), row.as_str(), by, now.0)?;
        let end = "UPDATE token_revisions SET state = 'Ended', ended_early = (ends_at > $3),
                ends_at = CASE WHEN ends_at > $3 THEN $3 ELSE ends_at END
            WHERE fleet_id = $1 AND token_id = $2 AND state <> 'Ended'";
        sql!(tx, exec, end, key.as_str(), row.as_str(), now.0)?;
        let version = self.bump_and_audit(&mut tx, act, touched(&found), &owner_detail(&found), now).await?;
        self.note_take_away(&mut tx, &Subject::Token(id), version).await?;
        Ok(Some(self.finish(tx, &Subject::Token(id), version).await?))
    }

    /// Revokes all tokens of a project, of any origin: one transaction, one version.
    ///
    /// # Errors
    /// [`ManageError::ProjectNotFound`], [`ManageError::PreconditionFailed`], [`ManageError::IdempotencyReused`]; those of any write.
    pub async fn revoke_tokens_of(
        &self,
        act: &Act,
        project: ProjectId,
        answer: impl Fn(BulkRevocation) -> StoredAnswer,
    ) -> Result<StoredAnswer, ManageError> {
        let mut tx = self.store().begin().await?;
        let found = self.lock_managed(&mut tx, project).await?;
        act.check(found.version - 1)?;
        let now = tx.now().await?;
        let counts = self.revoke_all(&mut tx, project, now).await?;
        let answer = answer(counts);
        if let Some(kept) = self.keep_answer(&mut tx, act, &answer, now).await? {
            tx.rollback().await?;
            return Ok(kept);
        }
        let mut detail = Map::new();
        detail.insert("revoked_count".into(), json!(counts.revoked));
        detail.insert("already_revoked_count".into(), json!(counts.already_revoked));
        let touched = Touched {
            project: Some(project),
            token: None,
        };
        let version = self.bump_and_audit(&mut tx, act, touched, &detail, now).await?;
        if counts.revoked > 0 {
            self.note_tokens_taken(&mut tx, project, now, version).await?;
        }
        self.finish(tx, &Subject::Project(project), version).await?;
        Ok(answer)
    }

    /// Revokes whatever is not revoked yet among a project's tokens.
    pub(super) async fn revoke_all(&self, tx: &mut Conn, project: ProjectId, now: DbTime) -> Result<BulkRevocation, ManageError> {
        let (key, of) = (self.key(), project.to_string());
        let row = sql!(
            tx,
            one,
            "SELECT COUNT(*) AS n FROM tokens WHERE fleet_id = $1 AND project_id = $2 AND state = 'Revoked'",
            key.as_str(),
            of.as_str()
        )?;
        let already_revoked = row.count("n")?;
        let revoke = "UPDATE tokens SET state = 'Revoked', state_by = $3, state_at = $4, updated_at = $4, version = version + 1
            WHERE fleet_id = $1 AND project_id = $2 AND state <> 'Revoked'";
        let by = RevokedBy::Manage.as_stored();
        let revoked = sql!(tx, exec, revoke, key.as_str(), of.as_str(), by, now.0)?;
        let end = "UPDATE token_revisions SET state = 'Ended', ended_early = (ends_at > $3),
                ends_at = CASE WHEN ends_at > $3 THEN $3 ELSE ends_at END
            WHERE fleet_id = $1 AND state <> 'Ended' AND token_id IN (SELECT id FROM tokens
                WHERE fleet_id = $1 AND project_id = $2 AND state = 'Revoked')";
        sql!(tx, exec, end, key.as_str(), of.as_str(), now.0)?;
        Ok(BulkRevocation { revoked, already_revoked })
    }

    async fn lock_token(&self, tx: &mut Conn, id: TokenId) -> Result<ManagedToken, ManageError> {
        let lock = "UPDATE tokens SET version = version + 1 WHERE fleet_id = $1 AND id = $2";
        if sql!(tx, exec, lock, self.key(), id.to_string())? == 0 {
            return Err(ManageError::TokenNotFound);
        }
        self.find_token(tx, id).await
    }

    async fn find_token(&self, conn: &mut Conn, id: TokenId) -> Result<ManagedToken, ManageError> {
        let text = select_tokens!("WHERE t.fleet_id = $1 AND t.id = $2");
        let row = sql!(conn, optional, text, self.key(), id.to_string())?.ok_or(ManageError::TokenNotFound)?;
        Ok(ManagedToken::read(&row)?)
    }
}

impl ManagedToken {
    fn read(row: &Row) -> Result<Self, StoreError> {
        let owner = owner(row)?;
        let max_requests = row.optional_int("max_requests")?.map(count);
        // What a limit counts is exact; what was booked lags a little, and knows no limit's periods.
        let used = row.optional_int("used")?.filter(|_| max_requests.is_some());
        let booked = row.optional_int("booked")?;
        Ok(Self {
            id: row.parsed("id", "tokens.id")?,
            name: match &owner {
                Some(owner) => Some(owner.name.clone()),
                None => row.optional_text("alias")?,
            },
            owner,
            prefix: row.optional_text("prefix")?,
            project: row.parsed("project_id", "tokens.project_id")?,
            state: row.parsed("state", "tokens.state")?,
            state_at: DbTime(row.int("state_at")?),
            expires_at: row.optional_int("expires_at")?.or(row.optional_int("ends_at")?).map(DbTime),
            max_requests,
            requests: count(used.or(booked).unwrap_or(0)),
            // Zero in rows that are older than the column.
            last_used_at: row.optional_int("last_at")?.filter(|at| *at > 0).map(DbTime),
            created_at: DbTime(row.int("created_at")?),
            version: row.int("version")?,
        })
    }
}

fn touched(token: &ManagedToken) -> Touched {
    Touched {
        project: Some(token.project),
        token: Some(token.id),
    }
}

/// Names the resource whose token was revoked.
fn owner_detail(token: &ManagedToken) -> Map<String, serde_json::Value> {
    let owner = token.owner.as_ref();
    owner
        .map(|owner| ("resource".to_owned(), json!(format!("{}/{}", owner.namespace, owner.name))))
        .into_iter()
        .collect()
}

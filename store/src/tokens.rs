//! Tokens and their revisions (contracts.md §2), as they stand. Only digests are stored.
//! What happens to them: `tokens/issue.rs` (new values) and `tokens/change.rs` (everything else).

mod change;
mod issue;

pub use change::TokenChange;
pub use issue::PendingRevision;

use std::collections::HashMap;

use crate::clock::DbTime;
use crate::error::{Result, StoreError};
use crate::feed::FeedVersion;
use crate::fleet::Fleet;
use crate::ids::{ProjectId, ResourceUid, TokenId};
use crate::limits::{self, Limit};
use crate::quota::QuotaView;
use crate::statement::{Conn, Row, sql, stored_as_text};
use crate::token::TokenDigest;

/// The declared resource that owns a row. Identity is (cluster, uid); namespace and name are for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The cluster's uid, or the mode of a process without one.
    pub cluster: String,
    /// The resource's uid: a re-created resource has another one and inherits nothing.
    pub uid: ResourceUid,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Owner {
    /// From a row that selects the four columns.
    pub(crate) fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            cluster: row.text("owner_cluster")?,
            uid: ResourceUid::new(row.text("owner_uid")?),
            namespace: row.text("namespace")?,
            name: row.text("name")?,
        })
    }

    /// (owner_cluster, owner_uid, namespace, name), to be bound.
    pub(crate) fn columns(&self) -> (&str, &str, &str, &str) {
        (&self.cluster, self.uid.as_str(), &self.namespace, &self.name)
    }
}

/// Whether a token may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenState {
    /// It may, as long as one of its revisions lives.
    Active,
    /// It may not, until it is active again.
    Suspended,
    /// Never again.
    Revoked,
}

stored_as_text!(TokenState { Active = "Active", Suspended = "Suspended", Revoked = "Revoked" });

/// Who revoked a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RevokedBy {
    /// Its resource says so.
    Spec,
    /// Its resource is gone.
    Deletion,
    /// Somebody through `/manage`.
    Manage,
}

stored_as_text!(RevokedBy { Spec = "Spec", Deletion = "Deletion", Manage = "Manage" });

/// Where a revision stands between its minting and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RevisionState {
    /// Authenticates already; its Secret may or may not be written.
    Pending,
    /// The one whose value the Secret holds.
    Active,
    /// Replaced; authenticates until its end.
    Previous,
    /// Dead.
    Ended,
}

stored_as_text!(RevisionState { Pending = "Pending", Active = "Active", Previous = "Previous", Ended = "Ended" });

/// One value that was issued for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionView {
    /// Its number; several pending ones may share one.
    pub revision: i64,
    /// SHA-256 of its value.
    pub digest: TokenDigest,
    /// `sk-lp-` and 8 public characters.
    pub prefix: String,
    /// Where it stands.
    pub state: RevisionState,
    /// Whether a Secret write of this pending value may have begun (such a row is never overwritten).
    pub write_begun: bool,
    /// When its row was written.
    pub issued_at: DbTime,
    /// When it stops authenticating; of an ended one, when it did.
    pub ends_at: DbTime,
    /// The resource's `rotation.trigger` when it was issued.
    pub rotation_trigger: Option<String>,
}

impl RevisionView {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            revision: row.int("revision")?,
            digest: digest(row)?,
            prefix: row.text("prefix")?,
            state: row.parsed("state", "token_revisions.state")?,
            write_begun: row.flag("write_begun")?,
            issued_at: DbTime(row.int("issued_at")?),
            ends_at: DbTime(row.int("ends_at")?),
            rotation_trigger: row.optional_text("rotation_trigger")?,
        })
    }
}

/// A token as it is stored.
#[derive(Clone, Debug)]
pub struct TokenView {
    /// Its row.
    pub id: TokenId,
    /// Its resource.
    pub owner: Owner,
    /// The project whose providers it may use.
    pub project: ProjectId,
    /// Whether it may be used.
    pub state: TokenState,
    /// Who revoked it, if it is.
    pub revoked_by: Option<RevokedBy>,
    /// The quota's period: renewal opens a new one.
    pub period: i64,
    /// The limit of requests in this period.
    pub max_requests: Option<u64>,
    /// Its own further limits, in their order.
    pub limits: Vec<Limit>,
    /// The Secret that holds its value.
    pub secret_name: String,
    /// The version of the last transaction that took something away.
    pub takeaway_version: FeedVersion,
    /// All that are not ended, and the newest ended one; ascending.
    pub revisions: Vec<RevisionView>,
    /// The lifetime request quota of the current period.
    pub quota: Option<QuotaView>,
}

impl TokenView {
    fn read(row: &Row, revisions: Vec<RevisionView>) -> Result<Self> {
        let state = row.parsed("state", "tokens.state")?;
        let by = row.optional_text("state_by")?.filter(|_| state == TokenState::Revoked);
        let corrupt = |why: &str| StoreError::Corrupt {
            what: "tokens.state_by",
            why: why.to_owned(),
        };
        Ok(Self {
            id: row.parsed("id", "tokens.id")?,
            owner: Owner::read(row)?,
            project: row.parsed("project_id", "tokens.project_id")?,
            state,
            revoked_by: by.map(|by| by.parse().map_err(corrupt)).transpose()?,
            period: row.int("period")?,
            max_requests: row.optional_int("max_requests")?.map(crate::statement::count),
            limits: limits::read(row, "limits", "tokens.limits")?,
            secret_name: row.text("secret_name")?,
            takeaway_version: FeedVersion(row.int("takeaway_version")?),
            revisions,
            quota: QuotaView::read(row)?,
        })
    }
}

/// The text that reads tokens with the quota of their current period, up to its last clauses.
macro_rules! select_tokens {
    ($tail:literal) => {
        concat!(
            "SELECT t.id, t.project_id, t.owner_cluster, t.owner_uid, t.namespace, t.name, t.state, t.state_by, t.period, t.max_requests, t.limits,
                t.secret_name, t.takeaway_version, q.id AS quota_id, q.max_units, q.used, q.reserved, q.forfeited
            FROM tokens t LEFT JOIN quotas q ON q.fleet_id = t.fleet_id AND q.subject_kind = 'Token' AND q.subject_id = t.id
                AND q.unit = 'Requests' AND q.period = t.period AND q.window_kind = 'Lifetime' AND q.max_units IS NOT NULL ",
            $tail
        )
    };
}

impl Fleet {
    /// The token of a resource, whatever its state.
    ///
    /// # Errors
    /// Those of any read; [`StoreError::Corrupt`].
    pub async fn token_by_uid(&self, uid: &ResourceUid) -> Result<Option<TokenView>> {
        let text = select_tokens!("WHERE t.fleet_id = $1 AND t.owner_uid = $2 ORDER BY t.id LIMIT 1");
        let mut snapshot = self.store().snapshot().await?;
        let Some(row) = sql!(snapshot, optional, text, self.key(), uid.as_str())? else {
            return Ok(None);
        };
        let revisions = "SELECT revision, digest, prefix, state, write_begun, issued_at, ends_at, rotation_trigger FROM token_revisions
            WHERE fleet_id = $1 AND token_id = $2 ORDER BY revision, issued_at, digest";
        let rows = sql!(snapshot, all, revisions, self.key(), row.text("id")?)?;
        let revisions = rows.iter().map(RevisionView::read).collect::<Result<_>>()?;
        TokenView::read(&row, without_older_ended(revisions)).map(Some)
    }

    /// All tokens of resources, by namespace and name; also revoked ones.
    ///
    /// # Errors
    /// Those of any read; [`StoreError::Corrupt`].
    pub async fn tokens(&self) -> Result<Vec<TokenView>> {
        let text = select_tokens!("WHERE t.fleet_id = $1 AND t.origin = 'Resource' ORDER BY t.namespace, t.name, t.id");
        let mut snapshot = self.store().snapshot().await?;
        let rows = sql!(snapshot, all, text, self.key())?;
        let mut revisions = self.revisions_by_token(&mut snapshot).await?;
        let view = |row: &Row| TokenView::read(row, without_older_ended(revisions.remove(&row.text("id")?).unwrap_or_default()));
        rows.iter().map(view).collect()
    }

    async fn revisions_by_token(&self, conn: &mut Conn) -> Result<HashMap<String, Vec<RevisionView>>> {
        // Ended rows are kept for a while; of those only the newest number of each token is looked at.
        let text = "SELECT r.token_id, r.revision, r.digest, r.prefix, r.state, r.write_begun, r.issued_at, r.ends_at, r.rotation_trigger
            FROM token_revisions r
            WHERE r.fleet_id = $1 AND (r.state <> 'Ended' OR r.revision = (SELECT MAX(n.revision) FROM token_revisions n
                WHERE n.fleet_id = r.fleet_id AND n.token_id = r.token_id AND n.state = 'Ended'))
            ORDER BY r.token_id, r.revision, r.issued_at, r.digest";
        let mut by_token = HashMap::<String, Vec<RevisionView>>::new();
        for row in sql!(conn, all, text, self.key())? {
            by_token.entry(row.text("token_id")?).or_default().push(RevisionView::read(&row)?);
        }
        Ok(by_token)
    }
}

/// Of ascending revisions: those that are not ended, and the newest ended one.
fn without_older_ended(mut ascending: Vec<RevisionView>) -> Vec<RevisionView> {
    let newest_ended = ascending.iter().rposition(|revision| revision.state == RevisionState::Ended);
    let mut at = 0;
    ascending.retain(|revision| {
        let keep = revision.state != RevisionState::Ended || Some(at) == newest_ended;
        at += 1;
        keep
    });
    ascending
}

fn digest(row: &Row) -> Result<TokenDigest> {
    let wrong = |bytes: Vec<u8>| StoreError::Corrupt {
        what: "token_revisions.digest",
        why: format!("{} bytes, not 32", bytes.len()),
    };
    Ok(TokenDigest(row.bytes("digest")?.try_into().map_err(wrong)?))
}

/// A token's row under its lock, as far as changes depend on it.
struct Locked {
    project: ProjectId,
    state: TokenState,
    period: i64,
    max_requests: Option<u64>,
    limits: Vec<Limit>,
    secret_name: String,
    namespace: String,
    name: String,
}

impl Locked {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            project: row.parsed("project_id", "tokens.project_id")?,
            state: row.parsed("state", "tokens.state")?,
            period: row.int("period")?,
            max_requests: row.optional_int("max_requests")?.map(crate::statement::count),
            limits: limits::read(row, "limits", "tokens.limits")?,
            secret_name: row.text("secret_name")?,
            namespace: row.text("namespace")?,
            name: row.text("name")?,
        })
    }

    /// Locks the token's row for the rest of the transaction, the same way on both engines.
    async fn lock(fleet: &Fleet, tx: &mut Conn, token: TokenId) -> Result<Self> {
        let lock = "UPDATE tokens SET version = version + 1 WHERE fleet_id = $1 AND id = $2
            RETURNING project_id, state, period, max_requests, limits, secret_name, namespace, name";
        match sql!(tx, optional, lock, fleet.key(), token.to_string())? {
            Some(row) => Self::read(&row),
            None => Err(StoreError::NotFound {
                what: format!("token {token}"),
            }),
        }
    }

    /// Whether `max` lets through less than what stands now.
    fn is_narrowed_by(&self, max: Option<u64>) -> bool {
        match (self.max_requests, max) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(now), Some(then)) => then < now,
        }
    }
}

impl Fleet {
    /// Sets the limit of the token's lifetime request quota of a period, and makes the quota if there is none yet. Without a limit the row
    /// stays with `max_units` NULL: its holders still report to it, and a limit that is set again counts on from `used`.
    pub(crate) async fn put_quota(&self, tx: &mut Conn, token: TokenId, period: i64, max: Option<u64>) -> Result<()> {
        let (token, max) = (token.to_string(), max.map(crate::statement::stored));
        let update = "UPDATE quotas SET max_units = $4, version = version + 1
            WHERE fleet_id = $1 AND subject_kind = 'Token' AND subject_id = $2 AND unit = 'Requests' AND period = $3 AND window_kind = 'Lifetime'";
        if sql!(tx, exec, update, self.key(), token.as_str(), period, max)? == 0 && max.is_some() {
            let insert = "INSERT INTO quotas (fleet_id, subject_kind, subject_id, unit, period, window_kind, max_units)
                VALUES ($1, 'Token', $2, 'Requests', $3, 'Lifetime', $4)";
            sql!(tx, exec, insert, self.key(), token.as_str(), period, max)?;
        }
        Ok(())
    }
}

//! The audit: rows that are only ever added, each writer's own chained by hashes. It refuses to know what the acts mean.
//!
//! A row's hash is SHA-256(prev ‖ canonical bytes), where `prev` is the hash of the writer's row before it (32 zero bytes before the first) and
//! the canonical bytes are `llm-proxy audit 1`, then fleet_id, writer, seq, id, at, action, actor, outcome, subject, project_id, token_id,
//! request_id, times, detail: each as its length in bytes in decimal digits, a colon, and its UTF-8 text. Numbers are decimal digits, times are
//! milliseconds since 1970, detail is the JSON text as it is stored. `seq` counts from 1 without gaps.

mod query;
mod verify;

pub use query::{AuditFilter, AuditRecord};
pub use verify::ChainView;

use sha2::{Digest as _, Sha256};

use crate::clock::DbTime;
use crate::error::{Result, StoreError};
use crate::fleet::Fleet;
use crate::ids::{AuditId, HolderId, ProjectId, TokenId};
use crate::statement::{Conn, sql, stored, stored_as_text};

/// How an act ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuditOutcome {
    /// It was done.
    Allowed,
    /// It was refused.
    Denied,
    /// It could not be done.
    Failed,
}

stored_as_text!(AuditOutcome { Allowed = "Allowed", Denied = "Denied", Failed = "Failed" });

/// What is to be written about an act.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// The row's id: the same entry again, after a commit of unknown outcome, is written once.
    pub id: AuditId,
    /// How long ago it happened, in ms.
    pub age_ms: i64,
    /// What was done, such as `token.create`.
    pub action: String,
    /// Who did it.
    pub actor: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// What it was done to: a kind and an id, or nothing.
    pub subject: String,
    /// The project that it concerns.
    pub project: Option<ProjectId>,
    /// The token that it concerns.
    pub token: Option<TokenId>,
    /// The request's id.
    pub request_id: String,
    /// How many alike this row stands for.
    pub times: u64,
    /// A JSON object with more about it; never a secret.
    pub detail: String,
}

/// A row's place in its writer's chain.
struct Link {
    seq: i64,
    hash: [u8; 32],
}

/// Everything of a row that its hash covers besides the row before it.
struct Canonical<'a> {
    fleet: &'a str,
    writer: &'a str,
    seq: i64,
    id: &'a str,
    at: i64,
    action: &'a str,
    actor: &'a str,
    outcome: &'a str,
    subject: &'a str,
    project: &'a str,
    token: &'a str,
    request_id: &'a str,
    times: i64,
    detail: &'a str,
}

impl Canonical<'_> {
    fn hash(&self, prev: &[u8]) -> [u8; 32] {
        let (seq, at, times) = (self.seq.to_string(), self.at.to_string(), self.times.to_string());
        let fields = [
            self.fleet,
            self.writer,
            &seq,
            self.id,
            &at,
            self.action,
            self.actor,
            self.outcome,
            self.subject,
            self.project,
            self.token,
            self.request_id,
            &times,
            self.detail,
        ];
        let mut hash = Sha256::new();
        hash.update(prev);
        hash.update(b"llm-proxy audit 1");
        for field in fields {
            hash.update(field.len().to_string().as_bytes());
            hash.update(b":");
            hash.update(field.as_bytes());
        }
        hash.finalize().into()
    }
}

impl Fleet {
    /// Adds rows in a transaction of their own, under the writer `<holder>/denials`: for what happens outside of configuration transactions.
    /// Only one task of a process may call it, since nothing else serialises this writer.
    ///
    /// # Errors
    /// Those of any write; the same entries again are safe.
    pub async fn record_denials(&self, holder: HolderId, entries: &[AuditEntry]) -> Result<()> {
        let Some(first) = entries.first() else { return Ok(()) };
        let mut tx = self.store().begin().await?;
        let there = "SELECT 1 AS there FROM audit WHERE fleet_id = $1 AND id = $2";
        if sql!(tx, optional, there, self.key(), first.id.to_string())?.is_some() {
            return tx.rollback().await;
        }
        let now = tx.now().await?;
        self.append_audit(&mut tx, &format!("{holder}/denials"), entries, now).await?;
        tx.commit().await
    }

    /// Adds rows to a writer's chain. Whoever calls it makes sure that nobody adds to the same chain meanwhile.
    pub(crate) async fn append_audit(&self, tx: &mut Conn, writer: &str, entries: &[AuditEntry], now: DbTime) -> Result<()> {
        let mut link = self.last_link(tx, writer).await?;
        let fleet = self.key();
        for entry in entries {
            let seq = link.seq + 1;
            let (id, at) = (entry.id.to_string(), now.plus_ms(-entry.age_ms).0);
            let project = entry.project.map(|id| id.to_string()).unwrap_or_default();
            let token = entry.token.map(|id| id.to_string()).unwrap_or_default();
            let (outcome, times) = (entry.outcome.as_stored(), stored(entry.times));
            let canonical = Canonical {
                fleet: &fleet,
                writer,
                seq,
                id: &id,
                at,
                action: &entry.action,
                actor: &entry.actor,
                outcome,
                subject: &entry.subject,
                project: &project,
                token: &token,
                request_id: &entry.request_id,
                times,
                detail: &entry.detail,
            };
            let hash = canonical.hash(&link.hash);
            let insert = "INSERT INTO audit (fleet_id, writer, seq, prev, hash, id, at, action, actor, outcome, subject, project_id, token_id,
                    request_id, times, detail)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
            let (action, actor, subject) = (entry.action.as_str(), entry.actor.as_str(), entry.subject.as_str());
            let (request_id, detail, prev) = (entry.request_id.as_str(), entry.detail.as_str(), link.hash.as_slice());
            sql!(
                tx,
                exec,
                insert,
                fleet.as_str(),
                writer,
                seq,
                prev,
                hash.as_slice(),
                id.as_str(),
                at,
                action,
                actor,
                outcome,
                subject,
                project.as_str(),
                token.as_str(),
                request_id,
                times,
                detail
            )?;
            link = Link { seq, hash };
        }
        Ok(())
    }

    async fn last_link(&self, tx: &mut Conn, writer: &str) -> Result<Link> {
        let last = "SELECT seq, hash FROM audit WHERE fleet_id = $1 AND writer = $2 ORDER BY seq DESC LIMIT 1";
        let Some(row) = sql!(tx, optional, last, self.key(), writer)? else {
            return Ok(Link { seq: 0, hash: [0; 32] });
        };
        let hash = row.bytes("hash")?.try_into().map_err(|bytes: Vec<u8>| StoreError::Corrupt {
            what: "audit.hash",
            why: format!("{} bytes, not 32", bytes.len()),
        })?;
        Ok(Link { seq: row.int("seq")?, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_what_the_documented_format_says() {
        let row = Canonical {
            fleet: "f",
            writer: "w",
            seq: 1,
            id: "i",
            at: -5,
            action: "token.create",
            actor: "management",
            outcome: "Allowed",
            subject: "token ü",
            project: "",
            token: "t",
            request_id: "",
            times: 1,
            detail: "{}",
        };
        let text = "llm-proxy audit 11:f1:w1:11:i2:-512:token.create10:management7:Allowed8:token ü0:1:t0:1:12:{}";
        let wanted: [u8; 32] = Sha256::digest([[0_u8; 32].as_slice(), text.as_bytes()].concat()).into();
        assert_eq!(row.hash(&[0; 32]), wanted);
    }
}

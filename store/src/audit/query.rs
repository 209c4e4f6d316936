//! The audit as it is read: filtered, newest first, by pages, or one row by its id.

use crate::audit::AuditOutcome;
use crate::clock::DbTime;
use crate::error::{Result, StoreError};
use crate::fleet::Fleet;
use crate::ids::{AuditId, ProjectId, TokenId};
use crate::statement::{Row, count, sql, stored};

/// A row of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its id.
    pub id: AuditId,
    /// Whose chain it stands in.
    pub writer: String,
    /// Where in that chain, from 1.
    pub seq: u64,
    /// SHA-256 over the row before it and this one.
    pub hash: Vec<u8>,
    /// When it happened.
    pub at: DbTime,
    /// What was done.
    pub action: String,
    /// Who did it.
    pub actor: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// What it was done to.
    pub subject: String,
    /// The project that it concerns.
    pub project: Option<ProjectId>,
    /// The token that it concerns.
    pub token: Option<TokenId>,
    /// The request's id; may be empty.
    pub request_id: String,
    /// How many alike it stands for.
    pub times: u64,
    /// A JSON object with more about it.
    pub detail: String,
}

/// Which rows are wanted; what is `None` or empty does not narrow.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// This action.
    pub action: Option<String>,
    /// This actor.
    pub actor: Option<String>,
    /// This outcome.
    pub outcome: Option<AuditOutcome>,
    /// This project.
    pub project: Option<ProjectId>,
    /// This request.
    pub request_id: Option<String>,
    /// Not before.
    pub from: Option<DbTime>,
    /// Not after.
    pub to: Option<DbTime>,
    /// A text within action, actor, subject, request id or detail, whatever its case (of ASCII letters).
    pub search: Option<String>,
}

/// The columns of a record.
macro_rules! select_audit {
    ($tail:literal) => {
        concat!(
            "SELECT id, writer, seq, hash, at, action, actor, outcome, subject, project_id, token_id, request_id, times, detail FROM audit ",
            $tail
        )
    };
}

/// The filter, as a clause over $1 to $9.
macro_rules! matching {
    ($head:literal, $tail:literal) => {
        concat!(
            $head,
            " WHERE fleet_id = $1 AND ($2 = '' OR action = $2) AND ($3 = '' OR actor = $3) AND ($4 = '' OR outcome = $4)
                AND ($5 = '' OR project_id = $5) AND ($6 = '' OR request_id = $6) AND at >= $7 AND at <= $8
                AND ($9 = '' OR LOWER(action) LIKE $9 ESCAPE '\\' OR LOWER(actor) LIKE $9 ESCAPE '\\' OR LOWER(subject) LIKE $9 ESCAPE '\\'
                    OR LOWER(request_id) LIKE $9 ESCAPE '\\' OR LOWER(detail) LIKE $9 ESCAPE '\\') ",
            $tail
        )
    };
}

impl Fleet {
    /// Rows that match, newest first: `limit` of them after the first `offset`; and how many match in all.
    ///
    /// # Errors
    /// Those of any read; [`StoreError::Corrupt`].
    pub async fn audit(&self, filter: &AuditFilter, offset: u64, limit: u64) -> Result<(Vec<AuditRecord>, u64)> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (action, actor, request_id) = (text(&filter.action), text(&filter.actor), text(&filter.request_id));
        let outcome = filter.outcome.map_or("", AuditOutcome::as_stored);
        let project = filter.project.map(|id| id.to_string()).unwrap_or_default();
        let from = filter.from.map_or(i64::MIN, |at| at.0);
        let to = filter.to.map_or(i64::MAX, |at| at.0);
        let search = filter.search.as_deref().map(like).unwrap_or_default();

        let mut snapshot = self.store().snapshot().await?;
        let number = matching!("SELECT COUNT(*) AS n FROM audit", "");
        let row = sql!(
            snapshot,
            one,
            number,
            self.key(),
            action.as_str(),
            actor.as_str(),
            outcome,
            project.as_str(),
            request_id.as_str(),
            from,
            to,
            search.as_str()
        )?;
        let total = row.count("n")?;
        let page = matching!(
            "SELECT id, writer, seq, hash, at, action, actor, outcome, subject, project_id, token_id, request_id, times, detail FROM audit",
            "ORDER BY at DESC, writer DESC, seq DESC LIMIT $10 OFFSET $11"
        );
        let rows = sql!(
            snapshot,
            all,
            page,
            self.key(),
            action.as_str(),
            actor.as_str(),
            outcome,
            project.as_str(),
            request_id.as_str(),
            from,
            to,
            search.as_str(),
            stored(limit),
            stored(offset)
        )?;
        Ok((rows.iter().map(AuditRecord::read).collect::<Result<_>>()?, total))
    }

    /// The row of this id.
    ///
    /// # Errors
    /// As [`Fleet::audit`].
    pub async fn audit_record(&self, id: AuditId) -> Result<Option<AuditRecord>> {
        let text = select_audit!("WHERE fleet_id = $1 AND id = $2");
        let row = sql!(self.store().read().await?, optional, text, self.key(), id.to_string())?;
        row.as_ref().map(AuditRecord::read).transpose()
    }
}

impl AuditRecord {
    pub(super) fn read(row: &Row) -> Result<Self> {
        let (project, token) = (row.text("project_id")?, row.text("token_id")?);
        let corrupt = |e: uuid::Error| StoreError::Corrupt {
            what: "audit.project_id or audit.token_id",
            why: e.to_string(),
        };
        Ok(Self {
            id: row.parsed("id", "audit.id")?,
            writer: row.text("writer")?,
            seq: count(row.int("seq")?),
            hash: row.bytes("hash")?,
            at: DbTime(row.int("at")?),
            action: row.text("action")?,
            actor: row.text("actor")?,
            outcome: row.parsed("outcome", "audit.outcome")?,
            subject: row.text("subject")?,
            project: (!project.is_empty()).then(|| project.parse().map_err(corrupt)).transpose()?,
            token: (!token.is_empty()).then(|| token.parse().map_err(corrupt)).transpose()?,
            request_id: row.text("request_id")?,
            times: row.count("times")?,
            detail: row.text("detail")?,
        })
    }
}

/// A LIKE pattern that finds this text anywhere. PostgreSQL's LIKE heeds case and SQLite's does not: both compare lower case.
fn like(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c.to_ascii_lowercase());
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_a_pattern_are_searched_for_as_they_are() {
        assert_eq!(like(r"50%_A\"), r"%50\%\_a\\%");
    }
}

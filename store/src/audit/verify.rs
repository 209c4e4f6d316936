//! Whether the chains of the audit still hold: every row's hash is computed anew.

use crate::audit::Canonical;
use crate::error::Result;
use crate::fleet::Fleet;
use crate::statement::{Row, sql};

/// Rows that are read at once.
const AT_ONCE: i64 = 1_000;

/// One writer's chain after a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainView {
    /// The writer.
    pub writer: String,
    /// Its rows.
    pub rows: u64,
    /// The first row that is missing, changed or out of order.
    pub first_broken_seq: Option<u64>,
}

impl Fleet {
    /// Checks all chains, by writer. Rows that were cut off at a chain's end cannot be missed.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn verify_audit(&self) -> Result<Vec<ChainView>> {
        let writers = "SELECT writer, COUNT(*) AS n FROM audit WHERE fleet_id = $1 GROUP BY writer ORDER BY writer LIMIT 100000";
        let writers = sql!(self.store().read().await?, all, writers, self.key())?;
        let mut views = Vec::with_capacity(writers.len());
        for row in &writers {
            let writer = row.text("writer")?;
            let first_broken_seq = self.first_broken(&writer).await?;
            views.push(ChainView {
                rows: row.count("n")?,
                first_broken_seq,
                writer,
            });
        }
        Ok(views)
    }

    async fn first_broken(&self, writer: &str) -> Result<Option<u64>> {
        let page = "SELECT seq, prev, hash, id, at, action, actor, outcome, subject, project_id, token_id, request_id, times, detail FROM audit
            WHERE fleet_id = $1 AND writer = $2 AND seq > $3 ORDER BY seq LIMIT $4";
        let (fleet, mut seen, mut prev) = (self.key(), 0, vec![0; 32]);
        loop {
            // A connection per page: a long check never holds one from its start to its end.
            let rows = sql!(self.store().read().await?, all, page, fleet.as_str(), writer, seen, AT_ONCE)?;
            for row in &rows {
                if !holds(row, &fleet, writer, seen + 1, &prev)? {
                    return Ok(Some(seen.unsigned_abs() + 1));
                }
                (seen, prev) = (seen + 1, row.bytes("hash")?);
            }
            if (rows.len() as i64) < AT_ONCE {
                return Ok(None);
            }
        }
    }
}

/// Whether a row is the one that is wanted next, and says what it said when it was written.
fn holds(row: &Row, fleet: &str, writer: &str, seq: i64, prev: &[u8]) -> Result<bool> {
    let (id, action, actor) = (row.text("id")?, row.text("action")?, row.text("actor")?);
    let (outcome, subject, project) = (row.text("outcome")?, row.text("subject")?, row.text("project_id")?);
    let (token, request_id, detail) = (row.text("token_id")?, row.text("request_id")?, row.text("detail")?);
    let canonical = Canonical {
        fleet,
        writer,
        seq: row.int("seq")?,
        id: &id,
        at: row.int("at")?,
        action: &action,
        actor: &actor,
        outcome: &outcome,
        subject: &subject,
        project: &project,
        token: &token,
        request_id: &request_id,
        times: row.int("times")?,
        detail: &detail,
    };
    Ok(canonical.seq == seq && row.bytes("prev")? == prev && row.bytes("hash")? == canonical.hash(prev))
}

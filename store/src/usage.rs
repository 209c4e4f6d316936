//! Usage per day, project, token, model and provider: added up by the data plane, read by people.

use crate::clock::DbTime;
use crate::error::{Result, StoreError};
use crate::fleet::Fleet;
use crate::ids::{HolderId, ProjectId, TokenId};
use crate::statement::{Row, sql, sql_built, stored};

/// What came on top since the last call.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UsageDelta {
    /// Days since 1970-01-01 (UTC, the database's clock).
    pub day: i32,
    /// The project that it is booked on, if any.
    pub project: Option<ProjectId>,
    /// The token that it is booked on, if any.
    pub token: Option<TokenId>,
    /// The model as it was asked for.
    pub model: String,
    /// The provider's name.
    pub provider: String,
    /// Requests whose head went upstream.
    pub requests: u64,
    /// LLM tokens of prompts.
    pub input_tokens: u64,
    /// How many of the input tokens the provider took from its cache.
    pub cached_tokens: u64,
    /// LLM tokens of answers.
    pub output_tokens: u64,
    /// How many of the output tokens were spent on reasoning.
    pub reasoning_tokens: u64,
    /// How many of the requests were booked by estimate.
    pub estimated: u64,
    /// USD micro-cents.
    pub cost: i64,
    /// When the last of these requests was booked.
    pub last_at: DbTime,
}

/// A row of the usage table: the same figures, summed.
pub type UsageRow = UsageDelta;

/// Lines of a batch that go into one statement; engines bound how many values one takes.
const LINES: usize = 1_000;

/// How long after its last batch a holder's number is remembered: none repeats one so late.
const KEPT_MS: i64 = 7 * 24 * 3_600_000;

impl Fleet {
    /// Books a batch of what a holder has seen since its last one. Batches of a holder are numbered from 1 and booked one after the other;
    /// one that was booked before, under the same number, is not booked again. So after an error, which may mean that only the answer was
    /// lost, the caller repeats the same deltas under the same number.
    ///
    /// # Errors
    /// Those of any write; then all of it, nothing of it, or (beyond a thousand rows) a part of it was booked.
    pub async fn add_usage(&self, holder: HolderId, seq: u64, deltas: &[UsageDelta]) -> Result<()> {
        if deltas.is_empty() {
            return Ok(());
        }
        // One order for everybody: two adders never wait for each other's rows crosswise.
        let mut ordered: Vec<_> = deltas.iter().collect();
        ordered.sort_by(|a, b| (a.day, a.project, a.token, &a.model, &a.provider).cmp(&(b.day, b.project, b.token, &b.model, &b.provider)));
        let lines: Vec<_> = ordered.into_iter().zip(0_i64..).collect();
        let (fleet, holder, seq) = (self.key(), holder.to_string(), stored(seq));
        let mut conn = self.store().begin_optimistic().await?;
        for chunk in lines.chunks(LINES) {
            sql_built!(conn, chunk.len() == 1, |text| {
                text.push(
                    "INSERT INTO usage_batches (fleet_id, holder, seq, line, day, project_id, token_id, model, provider,
                        requests, input_tokens, cached_tokens, output_tokens, reasoning_tokens, estimated, cost, last_at) ",
                );
                text.push_values(chunk, |mut row, (delta, line)| {
                    row.push_bind(fleet.clone()).push_bind(holder.clone()).push_bind(seq).push_bind(*line);
                    row.push_bind(i64::from(delta.day));
                    row.push_bind(delta.project.map(|id| id.to_string()).unwrap_or_default());
                    row.push_bind(delta.token.map(|id| id.to_string()).unwrap_or_default());
                    row.push_bind(delta.model.clone()).push_bind(delta.provider.clone());
                    row.push_bind(stored(delta.requests))
                        .push_bind(stored(delta.input_tokens))
                        .push_bind(stored(delta.cached_tokens));
                    row.push_bind(stored(delta.output_tokens))
                        .push_bind(stored(delta.reasoning_tokens))
                        .push_bind(stored(delta.estimated));
                    row.push_bind(delta.cost).push_bind(delta.last_at.0);
                });
            })?;
        }
        if seq == 1 {
            let forget = "DELETE FROM usage_writers WHERE fleet_id = $1 AND at < (SELECT now_ms FROM clock) - $2";
            sql!(conn, exec, forget, self.key(), KEPT_MS)?;
        }
        conn.commit().await
    }

    /// All rows, newest day first.
    ///
    /// # Errors
    /// Those of any read; [`StoreError::Corrupt`].
    pub async fn usage(&self) -> Result<Vec<UsageRow>> {
        let text = "SELECT day, project_id, token_id, model, provider,
                requests, input_tokens, cached_tokens, output_tokens, reasoning_tokens, estimated, cost, last_at
            FROM usage WHERE fleet_id = $1 ORDER BY day DESC, project_id, token_id, model, provider";
        sql!(self.store().read().await?, all, text, self.key())?.iter().map(read).collect()
    }
}

fn read(row: &Row) -> Result<UsageRow> {
    let (project, token) = (row.text("project_id")?, row.text("token_id")?);
    let corrupt = |e: uuid::Error| StoreError::Corrupt {
        what: "usage.project_id or usage.token_id",
        why: e.to_string(),
    };
    Ok(UsageRow {
        day: i32::try_from(row.int("day")?).map_err(|e| StoreError::Corrupt {
            what: "usage.day",
            why: e.to_string(),
        })?,
        project: (!project.is_empty()).then(|| project.parse().map_err(corrupt)).transpose()?,
        token: (!token.is_empty()).then(|| token.parse().map_err(corrupt)).transpose()?,
        model: row.text("model")?,
        provider: row.text("provider")?,
        requests: row.count("requests")?,
        input_tokens: row.count("input_tokens")?,
        cached_tokens: row.count("cached_tokens")?,
        output_tokens: row.count("output_tokens")?,
        reasoning_tokens: row.count("reasoning_tokens")?,
        estimated: row.count("estimated")?,
        cost: row.int("cost")?,
        last_at: DbTime(row.int("last_at")?),
    })
}

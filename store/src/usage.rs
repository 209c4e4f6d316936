//! Usage per day, project, token, model and provider: added up by the data plane, read by people.

use crate::error::{Result, StoreError};
use crate::fleet::Fleet;
use crate::ids::{ProjectId, TokenId};
use crate::statement::{Row, sql, stored};

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
}

/// A row of the usage table: the same figures, summed.
pub type UsageRow = UsageDelta;

impl Fleet {
    /// Adds all of them in one transaction.
    ///
    /// # Errors
    /// Those of any write; after [`StoreError::Unavailable`] at the commit it is unknown whether they were added.
    pub async fn add_usage(&self, deltas: &[UsageDelta]) -> Result<()> {
        if deltas.is_empty() {
            return Ok(());
        }
        let add = "INSERT INTO usage (fleet_id, day, project_id, token_id, model, provider,
                requests, input_tokens, cached_tokens, output_tokens, reasoning_tokens, estimated, cost)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
            ON CONFLICT (fleet_id, day, project_id, token_id, model, provider) DO UPDATE SET
                requests = usage.requests + excluded.requests,
                input_tokens = usage.input_tokens + excluded.input_tokens,
                cached_tokens = usage.cached_tokens + excluded.cached_tokens,
                output_tokens = usage.output_tokens + excluded.output_tokens,
                reasoning_tokens = usage.reasoning_tokens + excluded.reasoning_tokens,
                estimated = usage.estimated + excluded.estimated,
                cost = usage.cost + excluded.cost";
        // One order for everybody: two adders never wait for each other's rows crosswise.
        let mut ordered: Vec<_> = deltas.iter().collect();
        ordered.sort_by(|a, b| (a.day, a.project, a.token, &a.model, &a.provider).cmp(&(b.day, b.project, b.token, &b.model, &b.provider)));
        let mut tx = self.store().begin().await?;
        for delta in ordered {
            let project = delta.project.map(|id| id.to_string()).unwrap_or_default();
            let token = delta.token.map(|id| id.to_string()).unwrap_or_default();
            let (day, model, provider) = (i64::from(delta.day), delta.model.as_str(), delta.provider.as_str());
            let (requests, estimated) = (stored(delta.requests), stored(delta.estimated));
            let (input, cached) = (stored(delta.input_tokens), stored(delta.cached_tokens));
            let (output, reasoning) = (stored(delta.output_tokens), stored(delta.reasoning_tokens));
            sql!(
                tx,
                exec,
                add,
                self.key(),
                day,
                project,
                token,
                model,
                provider,
                requests,
                input,
                cached,
                output,
                reasoning,
                estimated,
                delta.cost
            )?;
        }
        tx.commit().await
    }

    /// All rows, newest day first.
    ///
    /// # Errors
    /// Those of any read; [`StoreError::Corrupt`].
    pub async fn usage(&self) -> Result<Vec<UsageRow>> {
        let text = "SELECT day, project_id, token_id, model, provider,
                requests, input_tokens, cached_tokens, output_tokens, reasoning_tokens, estimated, cost
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
    })
}

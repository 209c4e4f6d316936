//! Sums over the usage table, grouped as the caller asks.

use crate::error::{Result, StoreError};
use crate::fleet::Fleet;
use crate::ids::{ProjectId, TokenId};
use crate::statement::{Row, sql, stored};

/// Which usage is summed; what is `None` does not narrow.
#[derive(Clone, Debug, Default)]
pub struct UsageFilter {
    /// Of these projects: all of them must match.
    pub projects: Vec<ProjectId>,
    /// Of this token.
    pub token: Option<TokenId>,
    /// Of this model, as it was asked for.
    pub model: Option<String>,
    /// Not before this day (days since 1970-01-01).
    pub from: Option<i32>,
    /// Not after this day.
    pub to: Option<i32>,
}

/// What the sums are kept apart by.
#[derive(Clone, Copy, Debug, Default)]
pub struct UsageGrouping {
    /// Per project.
    pub project: bool,
    /// Per token.
    pub token: bool,
    /// Per model.
    pub model: bool,
    /// Per day.
    pub day: bool,
}

/// A sum. Of the first four those are there that were grouped by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageSum {
    /// Days since 1970-01-01 (UTC).
    pub day: Option<i32>,
    /// The project; `None` also for usage that is booked on none.
    pub project: Option<ProjectId>,
    /// The token; `None` also for usage that is booked on none.
    pub token: Option<TokenId>,
    /// The model.
    pub model: Option<String>,
    /// Requests whose head went upstream.
    pub requests: u64,
    /// LLM tokens of prompts.
    pub input_tokens: u64,
    /// Of those, taken from the provider's cache.
    pub cached_tokens: u64,
    /// LLM tokens of answers.
    pub output_tokens: u64,
    /// Of those, spent on reasoning.
    pub reasoning_tokens: u64,
    /// Requests that were booked by estimate.
    pub estimated: u64,
    /// USD micro-cents.
    pub cost: u64,
}

impl Fleet {
    /// `limit` sums after the first `offset`, newest day first.
    ///
    /// # Errors
    /// Those of any read; [`StoreError::Corrupt`].
    pub async fn usage_sums(&self, filter: &UsageFilter, by: UsageGrouping, offset: u64, limit: u64) -> Result<Vec<UsageSum>> {
        // SUM of a BIGINT is NUMERIC on PostgreSQL. The columns of a group that is not asked for hold one value, so that they part nothing.
        let text = "SELECT CASE WHEN $2 = 1 THEN day ELSE 0 END AS by_day, CASE WHEN $3 = 1 THEN project_id ELSE '' END AS by_project,
                CASE WHEN $4 = 1 THEN token_id ELSE '' END AS by_token, CASE WHEN $5 = 1 THEN model ELSE '' END AS by_model,
                CAST(SUM(requests) AS BIGINT) AS requests, CAST(SUM(input_tokens) AS BIGINT) AS input_tokens,
                CAST(SUM(cached_tokens) AS BIGINT) AS cached_tokens, CAST(SUM(output_tokens) AS BIGINT) AS output_tokens,
                CAST(SUM(reasoning_tokens) AS BIGINT) AS reasoning_tokens, CAST(SUM(estimated) AS BIGINT) AS estimated,
                CAST(SUM(cost) AS BIGINT) AS cost
            FROM usage
            WHERE fleet_id = $1 AND ($6 = '' OR project_id = $6) AND ($7 = '' OR project_id = $7) AND ($8 = '' OR token_id = $8)
                AND ($9 = 0 OR model = $10) AND day >= $11 AND day <= $12
            GROUP BY 1, 2, 3, 4 ORDER BY 1 DESC, 2, 3, 4 LIMIT $13 OFFSET $14";
        let project = |at: usize| filter.projects.get(at).map(ProjectId::to_string).unwrap_or_default();
        let token = filter.token.map(|id| id.to_string()).unwrap_or_default();
        let from = i64::from(filter.from.unwrap_or(i32::MIN));
        let to = i64::from(filter.to.unwrap_or(i32::MAX));
        let rows = sql!(
            self.store().read().await?,
            all,
            text,
            self.key(),
            i64::from(by.day),
            i64::from(by.project),
            i64::from(by.token),
            i64::from(by.model),
            project(0),
            project(1),
            token,
            i64::from(filter.model.is_some()),
            filter.model.clone().unwrap_or_default(),
            from,
            to,
            stored(limit),
            stored(offset)
        )?;
        rows.iter().map(|row| read(row, by)).collect()
    }
}

fn read(row: &Row, by: UsageGrouping) -> Result<UsageSum> {
    let (project, token) = (row.text("by_project")?, row.text("by_token")?);
    let corrupt = |why: String| StoreError::Corrupt { what: "usage", why };
    let day = i32::try_from(row.int("by_day")?).map_err(|e| corrupt(e.to_string()))?;
    let uuid = |e: uuid::Error| corrupt(e.to_string());
    Ok(UsageSum {
        day: by.day.then_some(day),
        project: (!project.is_empty()).then(|| project.parse().map_err(uuid)).transpose()?,
        token: (!token.is_empty()).then(|| token.parse().map_err(uuid)).transpose()?,
        model: by.model.then(|| row.text("by_model")).transpose()?,
        requests: row.count("requests")?,
        input_tokens: row.count("input_tokens")?,
        cached_tokens: row.count("cached_tokens")?,
        output_tokens: row.count("output_tokens")?,
        reasoning_tokens: row.count("reasoning_tokens")?,
        estimated: row.count("estimated")?,
        cost: row.count("cost")?,
    })
}

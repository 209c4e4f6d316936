//! Usage on the wire: sums over what the data planes booked.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// What the sums are kept apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UsageGroup {
    /// Per project.
    Project,
    /// Per token.
    Token,
    /// Per model, as it was asked for.
    Model,
    /// Per day (UTC, the database's clock).
    Day,
}

impl UsageGroup {
    /// As the query names it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "project" => Some(Self::Project),
            "token" => Some(Self::Token),
            "model" => Some(Self::Model),
            "day" => Some(Self::Day),
            _ => None,
        }
    }
}

/// A row of `GET /manage/usage`. Of `day`, `project_id`, `token_id` and `model` those are there that were grouped by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageRow {
    /// The day (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = Date, max_length = 10)]
    pub day: Option<Date>,
    /// The project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub project_id: Option<Uuid>,
    /// The token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub token_id: Option<Uuid>,
    /// The model as it was asked for; empty where none was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 1024)]
    pub model: Option<String>,
    /// Requests that went to the provider.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub requests: u64,
    /// LLM tokens of prompts.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub input_tokens: u64,
    /// How many of the input tokens the provider took from its cache.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub cached_tokens: u64,
    /// LLM tokens of answers.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub output_tokens: u64,
    /// How many of the output tokens were spent on reasoning.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub reasoning_tokens: u64,
    /// Requests whose tokens were estimated, because the provider reported none.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub estimated_requests: u64,
    /// What it cost, in micro-cents of a US dollar.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub cost_microcents: u64,
}

//! The audit on the wire: who did what to what, and whether the chain of rows still holds.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

/// How an act ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditOutcome {
    /// It was done.
    Allowed,
    /// It was refused: credentials, limits, rules.
    Denied,
    /// It could not be done.
    Failed,
}

impl AuditOutcome {
    /// As the query and the answer name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }

    /// The outcome of this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Allowed, Self::Denied, Self::Failed]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

/// A row of the audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEvent {
    /// Its id.
    pub id: Uuid,
    /// When it happened, on the database's clock.
    #[schema(value_type = String, format = DateTime, max_length = 40)]
    pub timestamp: Timestamp,
    /// What was done, such as `token.create`.
    #[schema(max_length = 64)]
    pub action: String,
    /// Who did it: `management` (whoever holds the management token), `anonymous`, or `proxy`.
    #[schema(max_length = 128)]
    pub actor: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// What it was done to: a kind and an id, or nothing.
    #[schema(max_length = 512)]
    pub subject: String,
    /// The project that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub project_id: Option<Uuid>,
    /// The token that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub token_id: Option<Uuid>,
    /// The request's id, as the answer's `x-request-id` says it. Of several that were gathered into one row, the first one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 128)]
    pub request_id: Option<String>,
    /// How many of one kind were gathered into this row; 1 for everything but denials.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    pub count: u64,
    /// More about it, such as the error's code, the client's address, or which fields were changed. Never a secret.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// Whose chain it stands in.
    #[schema(max_length = 128)]
    pub writer: String,
    /// Where it stands in that chain, from 1.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    pub seq: u64,
    /// SHA-256 over the row before it and this one, in hexadecimal digits.
    #[schema(min_length = 64, max_length = 64, pattern = "^[0-9a-f]{64}$")]
    pub hash: String,
}

/// Where a page stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pagination {
    /// This page, from 1.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    pub page: u64,
    /// Events of a page.
    #[schema(minimum = 1, maximum = 100)]
    pub page_size: u64,
    /// Events that match.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub total_count: u64,
    /// Pages that they fill.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub total_pages: u64,
    /// Whether there is a later page.
    pub has_next: bool,
    /// Whether there is an earlier page.
    pub has_prev: bool,
}

/// The answer of `GET /manage/audit`: newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The events of this page; never null.
    #[schema(max_items = 100)]
    pub events: Vec<AuditEvent>,
    /// Where it stands.
    pub pagination: Pagination,
}

/// One writer's chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WriterVerification {
    /// The writer: a process, or one of its side books.
    #[schema(max_length = 128)]
    pub writer: String,
    /// Its rows.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub rows: u64,
    /// The first row that is missing, changed, or out of order; null if the chain holds.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    pub first_broken_seq: Option<u64>,
}

/// The answer of `GET /manage/audit/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerification {
    /// Whether every chain holds. Rows that were cut off at a chain's end cannot be missed: compare `rows` with what was seen before.
    pub ok: bool,
    /// The chains, by writer.
    #[schema(max_items = 100_000)]
    pub writers: Vec<WriterVerification>,
}

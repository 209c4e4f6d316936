//! Tokens on the wire. The clear text is shown once, when a token is created.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::project::Owner;
use crate::secret::Secret;

/// A token as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its id.
    pub id: Uuid,
    /// Its value, masked: the public beginning and `…`.
    #[schema(max_length = 64)]
    pub token: String,
    /// The name that it was given; null if none.
    #[schema(max_length = 253)]
    pub name: Option<String>,
    /// Its project.
    pub project_id: Uuid,
    /// When it stops working; null if its first value is not issued yet.
    #[schema(value_type = Option<String>, format = DateTime, max_length = 40)]
    pub expires_at: Option<Timestamp>,
    /// False once it is suspended or revoked. (Expiry shows in `expires_at`.)
    pub is_active: bool,
    /// When it was revoked, for good; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, max_length = 40)]
    pub revoked_at: Option<Timestamp>,
    /// Requests counted against the limit; without a limit all that were booked.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub request_count: u64,
    /// The limit of requests; null if there is none.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub max_requests: Option<u64>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime, max_length = 40)]
    pub created_at: Timestamp,
    /// When it was last used; null if never.
    #[schema(value_type = Option<String>, format = DateTime, max_length = 40)]
    pub last_used_at: Option<Timestamp>,
    /// Answers that came from the response cache. There is none yet: always 0.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub cache_hit_count: u64,
    /// The resource that declares it; absent for a token that came through `/manage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub owner: Option<Owner>,
}

/// The body of `POST /manage/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreateToken {
    /// The project whose provider it may use.
    pub project_id: Uuid,
    /// How long it lives.
    #[schema(minimum = 1, maximum = 525_600)]
    pub duration_minutes: u64,
    /// How many requests it may make; 0, null or absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub max_requests: Option<u64>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 128,
        pattern = r"^[^\s\x00-\x1f\x7f-\x9f](?:[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$"
    )]
    pub name: Option<String>,
}

/// The answer of `POST /manage/tokens`: the only one that holds the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedToken {
    /// Its id.
    pub id: Uuid,
    /// Its value, in clear and for the only time.
    #[schema(value_type = String, max_length = 512)]
    pub token: Secret,
    /// When it stops working.
    #[schema(value_type = String, format = DateTime, max_length = 40)]
    pub expires_at: Timestamp,
    /// The limit of requests; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub max_requests: Option<u64>,
}

/// The body of `PATCH /manage/tokens/{id}`: at least one field; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpdateToken {
    /// False suspends it, true lets it work again. A revoked token stays revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub is_active: Option<bool>,
    /// A new limit; 0 removes it. What was counted stays counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub max_requests: Option<u64>,
    /// A new life, counted from now: longer or shorter than what is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 525_600)]
    pub duration_minutes: Option<u64>,
    /// A new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 128,
        pattern = r"^[^\s\x00-\x1f\x7f-\x9f](?:[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$"
    )]
    pub name: Option<String>,
}

//! Projects on the wire. Provider keys go in clear and come out masked.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::secret::Secret;

/// What kind of resource owns a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum OwnerKind {
    /// A declared project.
    LLMProject,
    /// A declared token.
    WitheringToken,
}

impl OwnerKind {
    /// The kind as manifests write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LLMProject => "LLMProject",
            Self::WitheringToken => "WitheringToken",
        }
    }
}

/// The declared resource that owns a row: it is changed there, and here only revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Owner {
    /// Its kind.
    pub kind: OwnerKind,
    /// Its namespace.
    #[schema(max_length = 253)]
    pub namespace: String,
    /// Its name.
    #[schema(max_length = 253)]
    pub name: String,
}

/// A project as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// Its id.
    pub id: Uuid,
    /// Its name, unique among the projects that came through `/manage`.
    #[schema(min_length = 1, max_length = 253)]
    pub name: String,
    /// The provider that its requests go to; null if it has none.
    #[schema(max_length = 253)]
    pub provider: Option<String>,
    /// The provider's key, masked: its beginning, `...`, its last four characters. Null if there is none, or none that this server can open.
    #[schema(max_length = 32)]
    pub api_key: Option<String>,
    /// Whether its tokens may be used.
    pub is_active: bool,
    /// When it was deactivated; absent while it is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, max_length = 40)]
    pub deactivated_at: Option<Timestamp>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime, max_length = 40)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime, max_length = 40)]
    pub updated_at: Timestamp,
    /// The resource that declares it; absent for a project that came through `/manage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub owner: Option<Owner>,
}

/// The body of `POST /manage/projects`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreateProject {
    /// Its name: 1 to 128 characters without control characters, and none of them white space at either end.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = r"^[^\s\x00-\x1f\x7f-\x9f](?:[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$"
    )]
    pub name: String,
    /// The key that the provider gave: visible ASCII, and not a masked one (no `*`, no `...`). A provider without
    /// authentication is never given it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, min_length = 1, max_length = 4096,
        pattern = r"^[!-)+\-/-~]+(?:\.{1,2}[!-)+\-/-~]+)*$", write_only)]
    pub api_key: Option<Secret>,
    /// The older name of `api_key`; only one of the two may be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, min_length = 1, max_length = 4096,
        pattern = r"^[!-)+\-/-~]+(?:\.{1,2}[!-)+\-/-~]+)*$", write_only)]
    pub openai_api_key: Option<Secret>,
    /// The provider that its requests go to. Without it: the fleet's only provider, or the one that is named `openai`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 63, pattern = "^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?$")]
    pub provider: Option<String>,
}

/// The body of `PATCH /manage/projects/{id}`: what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpdateProject {
    /// A new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 128,
        pattern = r"^[^\s\x00-\x1f\x7f-\x9f](?:[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$"
    )]
    pub name: Option<String>,
    /// A new key of the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, min_length = 1, max_length = 4096,
        pattern = r"^[!-)+\-/-~]+(?:\.{1,2}[!-)+\-/-~]+)*$", write_only)]
    pub api_key: Option<Secret>,
    /// The older name of `api_key`; only one of the two may be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, min_length = 1, max_length = 4096,
        pattern = r"^[!-)+\-/-~]+(?:\.{1,2}[!-)+\-/-~]+)*$", write_only)]
    pub openai_api_key: Option<Secret>,
    /// Whether its tokens may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub is_active: Option<bool>,
    /// With `is_active: false`: revoke all of its tokens too, for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub revoke_tokens: Option<bool>,
}

/// The answer of `POST /manage/projects/{id}/tokens/revoke`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevokedTokens {
    /// Tokens that were revoked now.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub revoked_count: u64,
    /// Tokens that were revoked before.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub already_revoked_count: u64,
    /// All tokens of the project.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    pub total_tokens: u64,
}

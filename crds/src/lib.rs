//! Floor 0: the three custom resources of group `llm-proxy.dev`, with their rules, conditions, reasons, events and names.
//! It refuses to know the database, HTTP, files and the API server: everything here is a value or a pure function over values.
//! Rules stand twice, as CEL in the schema and as Rust; the accept/reject table under `table/` holds the two together.

#[expect(unreachable_pub, reason = "derived code")]
mod allowed;
mod base_url;
mod closed_set;
pub mod conditions;
#[expect(unreachable_pub, reason = "derived code")]
mod database;
#[expect(unreachable_pub, reason = "derived code")]
mod delivery;
pub mod duration;
pub mod events;
mod kind;
// `KubeSchema` repeats each struct, with its `pub`, inside a function; clippy takes the like-named settings of two columns for repetitions.
#[expect(unreachable_pub, reason = "derived code")]
mod limits;
#[expect(unreachable_pub, clippy::duplicated_attributes, reason = "derived code")]
mod llmproject;
mod money;
pub mod names;
#[expect(unreachable_pub, reason = "derived code")]
mod pods;
#[expect(unreachable_pub, reason = "derived code")]
mod price;
#[expect(unreachable_pub, reason = "derived code")]
mod provider;
#[expect(unreachable_pub, clippy::duplicated_attributes, reason = "derived code")]
mod proxyconfig;
mod quantity;
mod reasons;
mod schema;
mod strict;
mod validate;
#[expect(unreachable_pub, clippy::duplicated_attributes, reason = "derived code")]
mod witheringtoken;

pub use allowed::{AllowedFrom, AllowedProjects, LabelExpression, LabelOperator, NamespaceSelector};
pub use closed_set::UnknownWord;
pub use database::{DEFAULT_DATABASE_KEYS, Database, DatabaseSecretRef, DatabaseStatus, Engine, Postgres, Sqlite};
pub use delivery::{Rotation, SecretFormat, TokenSecret};
pub use kind::{Kind, UnknownKind};
pub use limits::{Budget, BudgetAction, BudgetPeriod, ProjectRateLimit, RatePeriod, RateScope, RateUnit, TokenRateLimit};
pub use llmproject::{
    DEFAULT_CREDENTIAL_KEY, LlmProject, LlmProjectSpec, LlmProjectStatus, ProjectProvider, ProjectState, ProviderCredentials, ProxyRef, SecretKeyRef,
};
pub use pods::{
    Amounts, ContainerResources, DEFAULT_GRACE_PERIOD_SECONDS, DEFAULT_PRE_STOP_SECONDS, DEFAULT_REPLICAS, Drain, Image, MAX_REPLICAS, PullPolicy,
};
pub use price::ModelPrice;
pub use provider::{Provider, ProviderApi, ProviderAuth};
pub use proxyconfig::{ProxyConfig, ProxyConfigSpec, ProxyConfigStatus};
pub use quantity::same_amount;
pub use reasons::Reason;
pub use strict::{UnknownField, unknown_fields};
pub use validate::{Mode, Validate, Violation, object_meta};
pub use witheringtoken::{
    DEFAULT_TTL, MAX_TTL, MIN_TTL, PreviousRevision, ProjectRef, TokenState, WitheringToken, WitheringTokenSpec, WitheringTokenStatus,
};

/// The API group of all three kinds.
pub const GROUP: &str = "llm-proxy.dev";
/// The one version that is served and stored.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` as it stands in a manifest.
pub const API_VERSION: &str = "llm-proxy.dev/v1alpha1";

//! Floor 1: domain values and typed SQL over the database. Tokens are minted here, keys sealed, quotas leased, changes fed.
//! It refuses to know Kubernetes, HTTP, manifests and providers' wire formats.
//!
//! Errors "of any read" are `Unavailable` (try again), `Corrupt` and `Refused`; "of any write" also `ReadOnly` and `Full`.
//! Of a call whose future is dropped half-way each transaction has happened whole or not at all.

mod audit;
mod clock;
mod engine;
mod error;
mod feed;
mod files;
mod fleet;
mod grants;
mod health;
mod ids;
mod keyring;
mod ledger;
mod limits;
mod listen;
mod manage;
mod migrate;
mod owned;
mod projects;
mod providers;
mod quota;
mod random;
mod replicas;
mod statement;
mod subjects;
mod token;
mod tokens;
mod usage;
mod window;
mod windows;

pub use audit::{AuditEntry, AuditFilter, AuditOutcome, AuditRecord, ChainView};
pub use clock::DbTime;
pub use engine::{PostgresOptions, Store};
pub use error::{Result, StoreError};
pub use feed::{Change, FeedHead, FeedVersion, Subject};
pub use files::{FileObject, FileObjectKey};
pub use fleet::{Claim, Fleet};
pub use grants::{GrantRecord, ProviderRecord, QuotaRecord};
pub use ids::{AuditId, CredentialId, FleetId, HolderId, ProjectId, QuotaId, ResourceUid, TokenId};
pub use keyring::{KeyRing, SealingKey};
pub use limits::{GrantedLimit, Limit, LimitAction, LimitScope, LimitUnit, in_order as limits_in_order};
pub use manage::{
    Act, BulkRevocation, IdempotencyKey, ManageError, ManagedProject, ManagedToken, NewProject, NewToken, ProjectPatch, StoredAnswer, TokenFilter,
    TokenPatch, UsageFilter, UsageGrouping, UsageSum,
};
pub use migrate::SchemaInfo;
pub use owned::Owned;
pub use projects::{CredentialSpec, ProjectSpec, ProjectState, ProjectView};
pub use providers::{ProviderApi, ProviderAuth, ProviderSpec};
pub use quota::{LeaseAnswer, LeaseReport, QuotaView};
pub use replicas::ReplicaView;
pub use token::{TokenDigest, TokenFormatError, TokenValue};
pub use tokens::{Owner, PendingRevision, RevisionState, RevisionView, RevokedBy, TokenChange, TokenState, TokenView};
pub use usage::{UsageDelta, UsageRow};
pub use window::Window;
pub use windows::WindowQuota;

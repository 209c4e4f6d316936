//! Floor 0: what two processes agree on over HTTP outside of `/v1`: requests, answers and errors of `/manage`, with the bounds of every field.
//! No I/O; it refuses to know LLM dialects, whose errors are `llm`'s, and the database.

mod audit;
mod error;
mod limits;
mod project;
mod secret;
mod token;
mod usage;

pub use audit::{AuditEvent, AuditOutcome, AuditPage, AuditVerification, Pagination, WriterVerification};
pub use error::ErrorBody;
pub use limits::{
    MAX_BODY_BYTES, MAX_COUNT, MAX_DURATION_MINUTES, MAX_NAME, MAX_PAGE, MAX_PROVIDER, MAX_PROVIDER_KEY, MAX_SEARCH, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX,
};
pub use project::{CreateProject, Owner, OwnerKind, Project, RevokedTokens, UpdateProject};
pub use secret::Secret;
pub use token::{CreateToken, IssuedToken, Token, UpdateToken};
pub use usage::{UsageGroup, UsageRow};

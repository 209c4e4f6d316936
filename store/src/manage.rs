//! Projects and tokens as `/manage` reads and writes them: one transaction per act, with its version, its audit row and its stored answer.
//! Rows of declared resources are shown, and only revoked. It refuses to know HTTP.

mod act;
mod idempotency;
mod mask;
mod projects;
mod tokens;
mod usage;

pub use act::{Act, ManageError};
pub use idempotency::{IdempotencyKey, StoredAnswer};
pub use projects::{ManagedProject, NewProject, ProjectPatch};
pub use tokens::{BulkRevocation, ManagedToken, NewToken, TokenFilter, TokenPatch};
pub use usage::{UsageFilter, UsageGrouping, UsageSum};

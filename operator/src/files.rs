//! The `files` executor: manifests in folders instead of an API server, `.env` files instead of Secrets, rows instead of status (contracts.md §7).
//! It decides nothing about resources; it reads, observes, performs and reports. It refuses to know how requests are served.

mod absence;
mod check;
mod claim;
mod cross;
mod document;
mod env_file;
mod fault;
mod locate;
mod manifest;
mod note;
mod object_key;
mod observe;
mod passed_over;
mod perform;
mod place;
mod reconciler;
mod redact;
mod run;
mod scan;
mod secret_manifest;
mod sources;
mod world;

pub use check::{CheckReport, check};
pub use claim::{CLUSTER, ClaimError, claim_of};
pub use fault::Fault;
pub use object_key::ObjectKey;
pub use reconciler::{FilesError, FilesReconciler, PassReport};
pub use sources::Sources;

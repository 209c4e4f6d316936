//! The executor for a Kubernetes cluster: watches tell what is declared, the pure core decides, effects become rows and API writes, all by one
//! leader. It refuses to know how decisions are made and how requests are proxied.

mod context;
mod dependants;
mod events;
mod fleets;
mod gate;
mod http;
mod lease;
mod metrics;
mod mirror;
mod options;
mod references;
mod scope;
mod secret_watch;
mod stores;
mod wake;
mod watched;
mod watching;

pub use context::Hook;
pub use options::{Concurrency, LeaseTiming, Options};
pub use scope::Scope;

/// The field manager of everything but status.
pub const FIELD_MANAGER: &str = "llm-proxy-operator";
/// The field manager of status.
pub const STATUS_MANAGER: &str = "llm-proxy-operator-status";

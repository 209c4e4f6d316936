//! The executor for a Kubernetes cluster: watches tell what is declared, the pure core decides, effects become rows and API writes, all by one
//! leader. It refuses to know how decisions are made and how requests are proxied.

mod children;
mod context;
mod database;
mod departures;
mod drive;
mod driven;
mod events;
mod failure;
mod follow;
mod fleets;
mod gate;
mod in_force;
mod leave;
mod listing;
mod memories;
mod observe_project;
mod observe_proxy_config;
mod observe_token;
mod options;
mod pass;
mod observe_proxy_config;
mod perform;
mod perform_fleet;
mod permission;
mod references;
mod scope;
mod secret_claim;
mod status;
mod stores;
mod token_secret;
mod wake;
mod workload;

pub use options::{Concurrency, Options};
pub use scope::Scope;

/// The field manager of everything but status.
pub const FIELD_MANAGER: &str = "llm-proxy-operator";
/// The field manager of status.
pub const STATUS_MANAGER: &str = "llm-proxy-operator-status";

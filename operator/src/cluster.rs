//! The executor for a Kubernetes cluster: watches tell what is declared, the pure core decides, effects become rows and API writes, all by one
//! leader. It refuses to know how decisions are made and how requests are proxied.

mod children;
mod context;
mod controllers;
mod database;
mod departures;
mod dependants;
mod drive;
mod driven;
mod events;
mod failure;
mod fleets;
mod follow;
mod gate;
mod http;
mod in_force;
mod lease;
mod leave;
mod listing;
mod live_fleet;
mod memories;
mod metrics;
mod mirror;
mod observe_project;
mod observe_proxy_config;
mod observe_token;
mod options;
mod pass;
mod perform;
mod perform_fleet;
mod permission;
mod pods;
mod references;
mod run;
mod scope;
mod secret_claim;
mod secret_watch;
mod status;
mod stores;
mod token_secret;
mod wake;
mod watched;
mod watches;
mod watching;
mod workload;

pub use context::Hook;
pub use options::{Concurrency, LeaseTiming, Options};
pub use run::{OperatorError, connect, run, run_with_hook};
pub use scope::Scope;

/// The field manager of everything but status.
pub const FIELD_MANAGER: &str = "llm-proxy-operator";
/// The field manager of status.
pub const STATUS_MANAGER: &str = "llm-proxy-operator-status";

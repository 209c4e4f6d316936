//! Floor 2, the data plane: the /v1 pipeline, quotas in memory, health and metrics. It follows the database's change feed
//! and refuses to know Kubernetes, manifests and how projects and tokens come into the database.

mod access;
mod admit;
mod answer;
mod block;
mod body;
mod clock;
mod connection;
mod control;
mod cors;
mod data_thread;
mod database;
mod dispatch;
mod drain;
mod forward;
mod grant;
mod headers;
mod idle;
mod inbound;
mod limit_hit;
mod listener;
mod manage;
mod meter;
mod metrics;
mod operations;
mod outbound;
mod outcome;
mod permit;
mod rate_headers;
mod refusal;
mod reply;
mod server;
mod settings;
mod shared;
mod silence;
mod upstream;

pub use drain::DrainReport;
pub use manage::{ManageSettings, ManagementToken, openapi_document};
pub use server::{Proxy, StartError};
pub use settings::{DrainSettings, EgressProxies, EgressSettings, Limits, Reporting, Settings};

//! `/manage`: projects, tokens, usage and audit over HTTP, on the control runtime. The data threads only hand requests over.
//! It refuses to know SQL and how requests to `/v1` are served.

mod act;
mod audit;
mod auth;
mod denials;
mod fields;
mod inbound;
mod listener;
mod openapi;
mod page;
mod problem;
mod projects;
mod query;
mod router;
mod service;
mod settings;
mod throttle;
mod tokens;
mod usage;
mod wire;

pub(crate) use denials::follow as follow_denials;
pub(crate) use listener::{bind, listen};
pub use openapi::document as openapi_document;
pub(crate) use service::{Manage, is_ours};
pub use settings::{ManageSettings, ManagementToken};

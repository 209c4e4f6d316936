//! Tests over real processes, one module per topic. One binary, because linking is what costs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail loudly, at the place that is wrong"
)]
#![allow(clippy::print_stderr, reason = "figures that a person wants to see beside a pass")]

mod bodies;
mod credentials;
mod data_dir;
mod drain;
mod edges;
mod files;
mod fleet;
mod hang_up;
mod leaks;
mod limits;
mod manage;
mod outages;
mod replicas;
mod revocation;
mod sdk;
mod server;
mod statements;
mod store_on_postgres;
mod upstream;
mod usage;
mod windows;
mod with_postgres;

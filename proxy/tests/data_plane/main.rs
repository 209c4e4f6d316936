//! The data plane in process, over real sockets and a real database: one module per topic, one binary, because linking is what costs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail loudly, at the place that is wrong"
)]

mod client;
mod provider;
mod stage;
mod wait;

mod chaos;
mod database;
mod drain;
mod egress;
mod http;
mod limits;
mod manage;
mod permits;
mod replicas;
mod revocation;
mod streams;

//! Tests against a real API server, one module per topic. One binary, because its control plane is started once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail loudly, at the place that is wrong"
)]
#![allow(clippy::print_stderr, reason = "figures that a person wants to see beside a pass")]

mod burst;
mod calm;
mod control_plane;
mod crash;
mod crds;
mod databases;
mod deletions;
mod documents;
mod first_light;
mod fleet_stage;
mod fleets;
mod foreign_secrets;
mod installation;
mod leadership;
mod leaks;
mod manual;
mod namespaces;
mod operating;
mod outages;
mod projects;
mod rbac;
mod tokens;
mod transcript;
mod tunnel;
mod unready_cluster;

//! Tests on a real node: pods run. One binary, because nodes are shared in it. Root on Linux only; elsewhere each test says that it proves nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail loudly, at the place that is wrong"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures that a person wants to see beside a pass")]

mod chart;
mod drain;
mod figures;
mod first_day;
mod full_disk;
mod images;
mod machine;
mod namespaced;
mod remains;
mod rendered;
mod sdk;
mod site;
mod stage;
mod terminal;
mod traces;
mod trouble;
mod workers;

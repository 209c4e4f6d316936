//! Tests on a real node: pods run. One binary, because a node is started for it. Root on Linux only; elsewhere each test says that it proves nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail loudly, at the place that is wrong"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures that a person wants to see beside a pass")]

mod chart;
mod machine;
mod rendered;
mod stage;
mod story;
mod trouble;

//! Tests over real processes, one module per topic. One binary, because linking is what costs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail loudly, at the place that is wrong"
)]
#![allow(clippy::print_stderr, reason = "figures that a person wants to see beside a pass")]

mod edges;

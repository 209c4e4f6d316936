//! Support for tests over real processes: a scripted provider, the `standalone` process, a raw HTTP/1 client, a leak scanner.
//! It knows the product only from outside (files, ports, exit codes) and links none of its crates, so it can also judge an installed binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a support library of tests fails loudly, at the place that is wrong"
)]
#![allow(clippy::print_stderr, reason = "what a test skips or measures is said where the test runner shows it")]

pub mod canary;
pub mod charts;
pub mod client;
pub mod cluster;
pub mod database;
pub mod dead_end;
pub mod image;
pub mod manage;
pub mod manifests;
pub mod masks;
pub mod mount;
pub mod operator_process;
pub mod postgres;
pub mod process;
pub mod program;
pub mod provider;
pub mod random;
pub mod replica;
pub mod schemathesis;
pub mod sdk;
pub mod server;
pub mod stage;
pub mod standalone;
pub mod status;
pub mod token;
pub mod venv;
pub mod wait;

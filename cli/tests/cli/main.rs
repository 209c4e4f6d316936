//! The real binary from outside: what it prints, where, and how it exits. One test binary, because linking is what costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod by_hand;
mod chat;
mod check;
mod classic;
mod fleet;
mod manage;
mod manual;
mod migrate;
mod pod;
mod postgres;
mod process;
mod reach;
mod scripted;
mod setup;
mod spend;
mod start;
mod terminal;
mod usage;

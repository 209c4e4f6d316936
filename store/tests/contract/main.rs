//! The contract of the store: what it promises, said as functions over a claimed database. Each engine runs all of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly, in its helpers too")]

mod audit;
mod claims;
mod concurrency;
mod feed;
mod files;
mod grants;
mod harness;
mod leading;
mod manage;
mod projects;
mod quotas;
mod secrecy;
mod server;
mod tokens;
mod traffic;
mod windows;

//! The bench: what one process adds to a stream and costs per request, beside a direct control and nginx, in one run.
//! It measures and prints; whether a figure is good enough is said in its table and decided by people.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measuring tool stops where it cannot measure"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

mod chunks;
mod cost;
mod footprint;
mod instructions;
mod load;
mod nginx;
mod process;
mod report;
mod stream;
mod syscalls;

use std::path::PathBuf;
use std::time::Duration;

use report::Report;

const USAGE: &str =
    "usage: bench [stream] [chunks] [cost] [syscalls] [instructions] [footprint] [--rounds N] [--seconds N] [--idle-seconds N] [--out DIR]
Without a name it measures everything. --rounds and --seconds: how many rounds of chunks and cost, and how long each (5 of 3 s).
--idle-seconds: how long a process idles before its memory is read (60). --out: where bench.md and bench.json go (target/bench).
LLM_PROXY_BIN names another binary than the workspace's own; LLM_PROXY_BENCH_KEEP a folder that keeps callgrind's dumps.";

/// What to measure, and how long.
struct Plan {
    parts: Vec<String>,
    rounds: usize,
    round: Duration,
    idle: Duration,
    out: PathBuf,
}

impl Plan {
    fn of(args: impl Iterator<Item = String>) -> Option<Self> {
        let out = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
        let mut plan = Self {
            parts: Vec::new(),
            rounds: 5,
            round: Duration::from_secs(3),
            idle: Duration::from_secs(60),
            out,
        };
        let mut args = args;
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "stream" | "chunks" | "cost" | "syscalls" | "instructions" | "footprint" => plan.parts.push(arg),
                "--rounds" => plan.rounds = args.next()?.parse().ok().filter(|rounds| *rounds > 0)?,
                "--seconds" => plan.round = Duration::from_secs(args.next()?.parse().ok().filter(|seconds| *seconds > 0)?),
                "--idle-seconds" => plan.idle = Duration::from_secs(args.next()?.parse().ok()?),
                "--out" => plan.out = PathBuf::from(args.next()?),
                _ => return None,
            }
        }
        Some(plan)
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }
}

fn main() -> std::process::ExitCode {
    let Some(plan) = Plan::of(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return std::process::ExitCode::FAILURE;
    };
    let mut report = Report::begin();
    if plan.wants("stream") {
        stream::measure(&mut report);
    }
    if plan.wants("chunks") {
        chunks::measure(&mut report, plan.rounds, plan.round);
    }
    if plan.wants("cost") {
        cost::measure(&mut report, plan.rounds, plan.round);
    }
    if plan.wants("syscalls") {
        syscalls::measure(&mut report);
    }
    if plan.wants("instructions") {
        instructions::measure(&mut report);
    }
    if plan.wants("footprint") {
        footprint::measure(&mut report, plan.idle);
    }
    report.finish(&plan.out);
    std::process::ExitCode::SUCCESS
}

//! System calls per request, counted by `strace -c -f` in a run of its own (tracing makes every figure of time worthless).

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use testkit::wait;

use crate::cost;
use crate::load::Load;
use crate::nginx::Nginx;
use crate::process;
use crate::report::Report;

const CONNECTIONS: usize = 32;

/// Requests per count: enough that what runs beside them (settling, timers) is spread thin as in real life.
const REQUESTS: u64 = 30_000;

/// Counts for nginx and for us.
pub(crate) fn measure(report: &mut Report) {
    let upstream = cost::upstream();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let nginx = Nginx::start(upstream.addr(), workers);
    let product = cost::product(&upstream, "warn");
    let subjects = [
        ("nginx", nginx.addr(), nginx.workers().to_vec(), "none".to_owned()),
        ("llm-proxy", product.addr(), vec![product.pid()], product.key("limited")),
    ];
    let mut figures = json!({"connections": CONNECTIONS});
    let mut rows = Vec::new();
    for (name, addr, pids, key) in subjects {
        eprintln!("syscalls: {name}");
        let (total, calls) = count(addr, &pids, &key);
        let most: Vec<_> = calls.iter().take(8).map(|(call, count)| format!("{call} {count:.2}")).collect();
        rows.push(vec![name.to_owned(), format!("{total:.2}"), most.join(", ")]);
        figures[name] = json!({"per_request": total, "calls": calls});
    }
    report.section(
        "syscalls",
        "System calls per request, c=32 (`strace -c -f`)",
        &["", "per request", "the most frequent"],
        &rows,
        figures,
    );
}

/// All calls per request, and each kind, the most frequent first.
fn count(addr: SocketAddr, pids: &[u32], key: &str) -> (f64, Vec<(String, f64)>) {
    let summary = tempfile::NamedTempFile::new().expect("a temporary file");
    let load = Load::start(addr, CONNECTIONS, &cost::request(addr, key));
    wait::until("a warm load", wait::SOON, || load.done() > 1000);
    let mut command = Command::new("strace");
    command
        .args(["-c", "-f", "-S", "calls", "-U", "calls,name", "-o"])
        .arg(summary.path())
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    for pid in pids {
        command.args(["-p", &pid.to_string()]);
    }
    let mut strace = command
        .spawn()
        .unwrap_or_else(|error| panic!("strace does not start ({error}): apt-get install strace"));
    wait::until("strace on every thread", wait::SOON, || {
        pids.iter().all(|pid| process::traced_threads(*pid) == process::threads(*pid))
    });
    let before = load.done();
    wait::until("enough requests", std::time::Duration::from_secs(300), || {
        load.done() - before >= REQUESTS
    });
    let tracer = i32::try_from(strace.id()).ok().and_then(Pid::from_raw).expect("the process id of strace");
    let requests = (load.done() - before) as f64;
    kill_process(tracer, Signal::INT).expect("strace takes a signal");
    strace.wait().expect("strace ends");
    load.stop();
    let text = fs::read_to_string(summary.path()).expect("the summary of strace");
    let mut calls: Vec<(String, f64)> = text.lines().filter_map(row).map(|(name, calls)| (name, calls / requests)).collect();
    calls.sort_by(|a, b| b.1.total_cmp(&a.1));
    (calls.iter().map(|(_, calls)| calls).sum(), calls)
}

/// A line of the summary: the number of calls and their name.
fn row(line: &str) -> Option<(String, f64)> {
    let (calls, name) = line.trim().split_once(char::is_whitespace)?;
    let name = name.trim();
    (name != "total").then_some(())?;
    Some((name.to_owned(), calls.parse().ok()?))
}

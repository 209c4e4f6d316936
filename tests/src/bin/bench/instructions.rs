//! Instructions and allocations per request, counted by valgrind's callgrind in a run of its own: the one figure that a busy machine does not move.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use testkit::wait;

use crate::cost;
use crate::load::Load;
use crate::nginx::Nginx;
use crate::report::Report;

const CONNECTIONS: usize = 8;

/// Requests per count.
const REQUESTS: u64 = 2_000;

/// What hands out memory in libc.
const ALLOCATORS: [&str; 6] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"];

/// What one process did for one request.
struct Count {
    instructions: f64,
    allocations: f64,
}

/// Counts for nginx and for us. nginx has one worker here, since callgrind runs one thread at a time anyway.
pub(crate) fn measure(report: &mut Report) {
    let upstream = cost::upstream();
    let mut figures = json!({"connections": CONNECTIONS, "requests": REQUESTS});
    let mut rows = Vec::new();
    let mut tell = |name: &str, count: &Count| {
        rows.push(vec![
            name.to_owned(),
            format!("{:.1}k", count.instructions / 1000.0),
            format!("{:.1}", count.allocations),
        ]);
        figures[name] = json!({"instructions_per_request": count.instructions, "allocations_per_request": count.allocations});
    };

    let dir = tempfile::tempdir().expect("a temporary folder");
    eprintln!("instructions: nginx");
    let nginx = Nginx::start_under(&callgrind(dir.path()), upstream.addr(), 1);
    tell("nginx", &count(dir.path(), "nginx", nginx.workers()[0], (nginx.addr(), "none")));
    drop(nginx);

    let dir = tempfile::tempdir().expect("a temporary folder");
    let product = cost::setup(&upstream, "warn").under(&callgrind(dir.path())).start();
    for token in ["limited", "unlimited"] {
        eprintln!("instructions: llm-proxy, {token}");
        tell(
            &format!("llm-proxy, {token} key"),
            &count(dir.path(), token, product.pid(), (product.addr(), &product.key(token))),
        );
    }
    let heading = format!("Instructions and allocations per request in user space, c={CONNECTIONS} (`valgrind --tool=callgrind`)");
    report.section("instructions", &heading, &["", "instructions", "allocations"], &rows, figures);
}

fn callgrind(out: &Path) -> Vec<String> {
    let out = format!("--callgrind-out-file={}/%p", out.display());
    let words = [
        "valgrind",
        "--quiet",
        "--tool=callgrind",
        "--instr-atstart=no",
        "--trace-children=yes",
        "--fair-sched=yes",
        &out,
    ];
    words.into_iter().map(str::to_owned).collect()
}

fn control(pid: u32, argument: &[&str]) {
    let mut command = Command::new("callgrind_control");
    command.args(argument).arg(pid.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().expect("callgrind_control runs");
    assert!(status.success(), "callgrind_control {argument:?}: {status}");
}

fn count(dir: &Path, name: &str, pid: u32, (addr, key): (SocketAddr, &str)) -> Count {
    let load = Load::start(addr, CONNECTIONS, &cost::request(addr, key));
    wait::until("a warm load", wait::SOON, || load.done() > 500);
    control(pid, &["-i", "on"]);
    let before = load.done();
    wait::until("enough requests", std::time::Duration::from_secs(300), || {
        load.done() - before >= REQUESTS
    });
    control(pid, &["-i", "off"]);
    let requests = (load.done() - before) as f64;
    load.stop();
    control(pid, &["-d"]);
    let newest = || {
        let dumps = fs::read_dir(dir)
            .ok()?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().contains('.'));
        dumps
            .max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok())
            .map(|entry| entry.path())
    };
    let dump = wait::some("a dump of callgrind", wait::SOON, || {
        fs::read_to_string(newest()?).ok().filter(|text| text.contains("totals: "))
    });
    if let Some(kept) = std::env::var_os("LLM_PROXY_BENCH_KEEP") {
        fs::write(Path::new(&kept).join(format!("callgrind.{name}")), &dump).expect("the dump is kept");
    }
    let (instructions, allocations) = read(&dump);
    Count {
        instructions: instructions as f64 / requests,
        allocations: allocations as f64 / requests,
    }
}

/// All instructions of a dump, and how often memory was asked for.
fn read(dump: &str) -> (u64, u64) {
    let (mut names, mut callee, mut allocations) = (HashMap::new(), false, 0);
    let mut instructions = 0;
    for line in dump.lines() {
        if let Some(total) = line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")) {
            instructions = total.split(' ').next().and_then(|total| total.parse().ok()).unwrap_or(instructions);
        } else if let Some(name) = line.strip_prefix("cfn=").or(line.strip_prefix("fn=")) {
            // `(id) name` the first time, `(id)` from then on.
            let (id, name) = name.split_once(' ').unwrap_or((name, ""));
            if !name.is_empty() {
                names.insert(id.to_owned(), ALLOCATORS.contains(&name.split('\'').next().unwrap_or(name)));
            }
            callee = line.starts_with("cfn=") && names.get(id).copied().unwrap_or(false);
        } else if let Some(calls) = line.strip_prefix("calls=")
            && std::mem::take(&mut callee)
        {
            allocations += calls.split(' ').next().and_then(|calls| calls.parse::<u64>().ok()).unwrap_or_default();
        }
    }
    (instructions, allocations)
}

//! What a process weighs: its binary, and its memory after idling.

use std::time::Duration;

use serde_json::json;
use testkit::program;

use crate::cost;
use crate::process;
use crate::report::Report;

/// Starts a process, leaves it alone for `idle`, reads its memory; then says how large the binary is.
pub(crate) fn measure(report: &mut Report, idle: Duration) {
    let upstream = cost::upstream();
    let product = cost::product(&upstream, "info");
    eprintln!("footprint: idling for {idle:?}");
    let cpu = process::cpu_us(&[product.pid()]);
    std::thread::sleep(idle);
    let cpu = (process::cpu_us(&[product.pid()]) - cpu) / idle.as_secs_f64().max(1.0);
    let (rss, anonymous, threads) = (
        process::memory_kib(product.pid(), "VmRSS"),
        process::memory_kib(product.pid(), "RssAnon"),
        process::threads(product.pid()),
    );
    let binary = std::fs::metadata(program::path()).expect("the binary").len();
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    let rows = [
        vec![format!("resident after {} s idle", idle.as_secs()), mib(rss)],
        vec!["of it anonymous".to_owned(), mib(anonymous)],
        vec!["CPU while idle".to_owned(), format!("{cpu:.0} µs/s")],
        vec!["threads".to_owned(), threads.to_string()],
        vec!["binary".to_owned(), mib(binary / 1024)],
    ];
    let figures = json!({
        "idle_seconds": idle.as_secs(), "rss_kib": rss, "rss_anonymous_kib": anonymous, "idle_cpu_us_per_second": cpu, "threads": threads, "binary_bytes": binary,
    });
    report.section("footprint", "Footprint", &["", ""], &rows, figures);
}

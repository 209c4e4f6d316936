//! CPU time per streamed event, through us with its usage watched and through nginx without buffering, in interleaved rounds.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use testkit::client::Request;
use testkit::provider::{Provider, Reply, wire};

use crate::cost;
use crate::load::Load;
use crate::nginx::{self, Nginx};
use crate::process;
use crate::report::{Report, median, quantile, verdict};

/// Streams at once; each asks for the next one when it has ended.
const STREAMS: usize = 64;
const EVENTS: usize = 100;
/// Between two events, so that each is a read and a write of its own.
const PAUSE: Duration = Duration::from_millis(5);
const WARM_UP: Duration = Duration::from_millis(1_000);
/// The most that an event may cost, in nginx events.
const LIMIT: f64 = 1.05;

struct Subject {
    name: &'static str,
    addr: SocketAddr,
    pids: Vec<u32>,
    key: String,
    cpu: Vec<f64>,
}

/// Measures both, turn by turn.
pub(crate) fn measure(report: &mut Report, rounds: usize, length: Duration) {
    let provider = Provider::start_counting(events());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let nginx = Nginx::start(provider.addr(), workers);
    let product = cost::product(&provider, "warn");
    let subject = |name, addr, pids, key| Subject {
        name,
        addr,
        pids,
        key,
        cpu: Vec::new(),
    };
    let mut subjects = [
        subject("nginx, buffering off", nginx.addr(), nginx.workers().to_vec(), "none".to_owned()),
        subject("llm-proxy, limited key", product.addr(), vec![product.pid()], product.key("limited")),
    ];
    for round in 0..rounds {
        eprintln!("chunks: round {} of {rounds}", round + 1);
        for turn in 0..subjects.len() {
            let index = (turn + round) % subjects.len();
            subjects[index].round(length);
        }
    }
    let ratios: Vec<f64> = subjects[1].cpu.iter().zip(&subjects[0].cpu).map(|(ours, theirs)| ours / theirs).collect();
    let (ratio, low, high) = (median(&ratios), quantile(&ratios, 0.0), quantile(&ratios, 1.0));
    let rows = [
        vec![
            subjects[0].name.to_owned(),
            format!("{:.1}", median(&subjects[0].cpu)),
            "1.00".to_owned(),
            String::new(),
        ],
        vec![
            subjects[1].name.to_owned(),
            format!("{:.1}", median(&subjects[1].cpu)),
            format!("{ratio:.2} ({low:.2}–{high:.2})"),
            format!("≤ {LIMIT}: {}", verdict(ratio <= LIMIT)),
        ],
    ];
    let figures = json!({
        "streams": STREAMS, "pause_ms": PAUSE.as_millis(), "nginx_cpu_us": subjects[0].cpu, "cpu_us": subjects[1].cpu, "ratio": ratio, "limit": LIMIT,
    });
    let heading = format!(
        "CPU per streamed event, {STREAMS} streams with an event per {} ms each, medians of {rounds} interleaved rounds ({})",
        PAUSE.as_millis(),
        nginx::version()
    );
    report.section("chunks", &heading, &["", "CPU µs/event", "÷ nginx (min–max)", "limit"], &rows, figures);
}

/// A stream with its usage at the end, which nginx is told not to buffer.
fn events() -> Reply {
    let words: Vec<String> = (0..EVENTS).map(|number| format!(" word{number}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\nx-accel-buffering: no\r\n\r\n";
    Reply::raw(head)
        .chunks(&wire::chat_events("gpt-4o-mini", &words, true), PAUSE)
        .last_chunk()
}

impl Subject {
    fn round(&mut self, length: Duration) {
        let request = Request::chat(true).bearer(&self.key).bytes(self.addr);
        let load = Load::start(self.addr, STREAMS, &request);
        std::thread::sleep(WARM_UP);
        let (reads, cpu) = (load.reads(), process::cpu_us(&self.pids));
        std::thread::sleep(length);
        let (reads, cpu) = ((load.reads() - reads) as f64, process::cpu_us(&self.pids) - cpu);
        load.stop();
        self.cpu.push(cpu / reads.max(1.0));
    }
}

//! CPU time and latency per request, through us and through nginx, in interleaved rounds of the same load.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::client::Request;
use testkit::manifests::{self, Folder};
use testkit::provider::{Provider, Reply, wire};
use testkit::standalone::{Setup, Standalone};

use crate::load::Load;
use crate::nginx::{self, Nginx};
use crate::process;
use crate::report::{Report, median, quantile, verdict};

/// The most that a request may cost, in nginx requests.
const LIMIT: f64 = 1.0;

/// Before a round counts: connections are open and caches warm.
const WARM_UP: Duration = Duration::from_millis(500);

/// The subject that the limit is about.
const LIMITED: &str = "llm-proxy, limited key";

/// Requests that the token allows: more than any run sends.
const REQUESTS: u64 = 10_000_000;

/// The bench's provider: the same small answer to everything.
pub(crate) fn upstream() -> Provider {
    let mut answer = wire::chat("gpt-4o-mini");
    let length = answer.to_string().len();
    let padding = "x".repeat(1024_usize.saturating_sub(length));
    answer["choices"][0]["message"]["content"] = json!(format!("{}{padding}", wire::WORDS.concat()));
    Provider::start_counting(Reply::json(200, &answer))
}

/// One process in front of it with a limited and an unlimited token; `log_level` `info` writes an access line per request to a file.
pub(crate) fn setup(upstream: &Provider, log_level: &str) -> Setup {
    let folder = Folder::with_tokens(
        &upstream.base_url(),
        "sk-bench-upstream-key",
        &[("limited", &manifests::max_requests(REQUESTS)), ("unlimited", "")],
    );
    Setup::new(&folder).arg("--log-level").arg(log_level)
}

/// The same, started.
pub(crate) fn product(upstream: &Provider, log_level: &str) -> Standalone {
    setup(upstream, log_level).start()
}

/// A chat completion with a body of about 400 bytes.
pub(crate) fn request(addr: SocketAddr, key: &str) -> Vec<u8> {
    let content = "word ".repeat(62);
    let body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": content}], "temperature": 0});
    Request::post("/v1/chat/completions", &body).bearer(key).bytes(addr)
}

/// One thing that is measured, and what came out in each round.
struct Subject {
    name: &'static str,
    addr: SocketAddr,
    pids: Vec<u32>,
    key: String,
    cpu: Vec<f64>,
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Subject {
    fn new(name: &'static str, addr: SocketAddr, pids: Vec<u32>, key: String) -> Self {
        Self {
            name,
            addr,
            pids,
            key,
            cpu: Vec::new(),
            rate: Vec::new(),
            p50: Vec::new(),
            p99: Vec::new(),
        }
    }

    fn round(&mut self, connections: usize, length: Duration) {
        let load = Load::start(self.addr, connections, &request(self.addr, &self.key));
        std::thread::sleep(WARM_UP);
        load.keep_latencies();
        let (start, done, cpu) = (Instant::now(), load.done(), process::cpu_us(&self.pids));
        std::thread::sleep(length);
        let (seconds, done, cpu) = (
            start.elapsed().as_secs_f64(),
            (load.done() - done) as f64,
            process::cpu_us(&self.pids) - cpu,
        );
        let latencies = load.stop();
        self.cpu.push(cpu / done.max(1.0));
        self.rate.push(done / seconds);
        self.p50.push(quantile(&latencies, 0.5));
        self.p99.push(quantile(&latencies, 0.99));
    }
}

/// Measures at 32 connections, the figure that counts, at one and at 256.
pub(crate) fn measure(report: &mut Report, rounds: usize, length: Duration) {
    let upstream = upstream();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let nginx = Nginx::start(upstream.addr(), workers);
    let (quiet, logging) = (product(&upstream, "warn"), product(&upstream, "info"));
    for connections in [32, 1, 256] {
        let mut subjects = [
            Subject::new("direct", upstream.addr(), Vec::new(), "none".to_owned()),
            Subject::new("nginx", nginx.addr(), nginx.workers().to_vec(), "none".to_owned()),
            Subject::new(LIMITED, quiet.addr(), vec![quiet.pid()], quiet.key("limited")),
            Subject::new("llm-proxy, unlimited key", quiet.addr(), vec![quiet.pid()], quiet.key("unlimited")),
            Subject::new(
                "llm-proxy, limited key, access lines",
                logging.addr(),
                vec![logging.pid()],
                logging.key("limited"),
            ),
        ];
        for round in 0..rounds {
            eprintln!("cost: c={connections}, round {} of {rounds}", round + 1);
            for turn in 0..subjects.len() {
                // Nobody always runs behind the same one.
                let index = (turn + round) % subjects.len();
                subjects[index].round(connections, length);
            }
        }
        tell(report, &subjects, connections, workers);
    }
}

fn tell(report: &mut Report, subjects: &[Subject], connections: usize, workers: usize) {
    let nginx = &subjects[1];
    let mut figures = json!({"connections": connections, "workers": workers, "nginx": nginx::version(), "limit": LIMIT});
    let mut rows = Vec::new();
    for subject in subjects {
        // The ratio of each round, since a drift of the machine hits neighbours alike.
        let ratios: Vec<f64> = subject.cpu.iter().zip(&nginx.cpu).map(|(ours, theirs)| ours / theirs).collect();
        let (cpu, ratio) = (median(&subject.cpu), median(&ratios));
        let (low, high) = (quantile(&ratios, 0.0), quantile(&ratios, 1.0));
        let measured = !subject.pids.is_empty();
        let judged = measured && subject.name == LIMITED && connections == 32;
        rows.push(vec![
            subject.name.to_owned(),
            if measured { format!("{cpu:.1}") } else { "–".to_owned() },
            if measured {
                format!("{ratio:.2} ({low:.2}–{high:.2})")
            } else {
                "–".to_owned()
            },
            format!("{:.1}k", median(&subject.rate) / 1000.0),
            format!("{:.0} / {:.0}", median(&subject.p50), median(&subject.p99)),
            if judged {
                format!("≤ {LIMIT}: {}", verdict(ratio <= LIMIT))
            } else {
                String::new()
            },
        ]);
        figures[subject.name] = json!({
            "cpu_us": subject.cpu, "ratio": ratio, "requests_per_second": subject.rate, "p50_us": subject.p50, "p99_us": subject.p99,
        });
    }
    let heading = format!(
        "CPU per request, c={connections}, {workers} workers each, medians of {} interleaved rounds ({})",
        nginx.cpu.len(),
        nginx::version()
    );
    let columns = ["", "CPU µs/request", "÷ nginx (min–max)", "req/s", "p50 / p99 µs", "limit"];
    report.section(&format!("cost_c{connections}"), &heading, &columns, &rows, figures);
}

//! What we add to a stream: 500 events 20 ms apart, through us and directly at the same time; from the provider's write to the client's read.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use testkit::client::{Arrival, Connection, Request};
use testkit::manifests::Folder;
use testkit::provider::{Provider, Reply, wire};
use testkit::standalone::Setup;

use crate::report::{Report, median, quantile, verdict};

const EVENTS: usize = 500;
const PAUSE: Duration = Duration::from_millis(20);
const ROUNDS: usize = 3;

/// The most that may be added at the median and at the 99th percentile, in ms; and the least share of reads that hold exactly one event.
const LIMITS: (f64, f64, f64) = (0.5, 5.0, 0.99);

/// One stream as its client saw it.
struct Seen {
    /// From write to read in ms, per event.
    delays: Vec<f64>,
    reads: usize,
    reads_of_one_event: usize,
}

/// Runs the pairs and judges what came out.
pub(crate) fn measure(report: &mut Report) {
    let provider = Provider::start();
    let words: Vec<String> = (0..EVENTS).map(|number| format!(" w{number}.")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let events = wire::chat_events("gpt-4o-mini", &words, true);
    provider.always(Reply::events(&events, PAUSE));
    let product = Setup::new(&Folder::with_tokens(&provider.base_url(), "sk-through-the-proxy", &[("bench", "")])).start();
    let key = product.key("bench");
    let (mut direct, mut proxied) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        eprintln!("stream: round {} of {ROUNDS}", round + 1);
        let control = run(provider.addr(), "directly");
        // Half a pause later, so that the two streams do not wait for each other's events.
        std::thread::sleep(PAUSE / 2);
        let through = run(product.addr(), &key);
        let arrivals = [control.join().expect("the control ends"), through.join().expect("the stream ends")];
        for (arrivals, upstream_key, seen) in [
            (&arrivals[0], "directly", &mut direct),
            (&arrivals[1], "sk-through-the-proxy", &mut proxied),
        ] {
            let bearer = format!("Bearer {upstream_key}");
            let exchange = provider
                .exchanges()
                .into_iter()
                .rfind(|exchange| exchange.header("authorization") == Some(&bearer));
            let writes = exchange.expect("the request at the provider").writes();
            // The first write is the head; every event is one write.
            let by_event = events.iter().map(String::as_str).zip(writes.into_iter().skip(1)).collect();
            seen.push(judge(arrivals, &by_event));
        }
    }
    tell(report, &direct, &proxied);
}

fn run(addr: SocketAddr, key: &str) -> std::thread::JoinHandle<Vec<Arrival>> {
    let request = Request::chat(true).bearer(key);
    std::thread::spawn(move || {
        let response = Connection::open(addr)
            .and_then(|mut connection| connection.send(&request))
            .expect("a stream");
        assert_eq!(response.status, 200, "{}", response.text());
        response.arrivals
    })
}

fn judge(arrivals: &[Arrival], writes: &HashMap<&str, std::time::Instant>) -> Seen {
    let mut seen = Seen {
        delays: Vec::new(),
        reads: 0,
        reads_of_one_event: 0,
    };
    let mut open = String::new();
    for arrival in arrivals {
        let (before, text) = (open.len(), String::from_utf8_lossy(&arrival.bytes));
        open += &text;
        seen.reads += 1;
        seen.reads_of_one_event += usize::from(before == 0 && open.ends_with("\n\n") && open.matches("\n\n").count() == 1);
        while let Some(end) = open.find("\n\n") {
            let event: String = open.drain(..end + 2).collect();
            let written = writes
                .get(event.as_str())
                .unwrap_or_else(|| panic!("an event that the provider did not write: {event}"));
            let delay = arrival.at.saturating_duration_since(*written);
            seen.delays.push(delay.as_secs_f64() * 1000.0);
        }
    }
    assert_eq!((seen.delays.len(), open.as_str()), (writes.len(), ""), "every event arrives whole");
    seen
}

fn tell(report: &mut Report, direct: &[Seen], proxied: &[Seen]) {
    let delays = |seen: &[Seen]| seen.iter().flat_map(|seen| seen.delays.iter().copied()).collect::<Vec<_>>();
    let share = |seen: &[Seen]| {
        seen.iter().map(|seen| seen.reads_of_one_event).sum::<usize>() as f64 / seen.iter().map(|seen| seen.reads).sum::<usize>() as f64
    };
    let (control, through) = (delays(direct), delays(proxied));
    let row = |name: &str, delays: &[f64], share: f64| {
        vec![
            name.to_owned(),
            format!("{:.3}", median(delays)),
            format!("{:.3}", quantile(delays, 0.99)),
            format!("{:.3}", quantile(delays, 1.0)),
            format!("{:.2} %", share * 100.0),
        ]
    };
    let added = (median(&through) - median(&control), quantile(&through, 0.99) - quantile(&control, 0.99));
    let one = share(proxied);
    let limits = format!("≤ {} ms: {}", LIMITS.0, verdict(added.0 <= LIMITS.0));
    let limits = [
        limits,
        format!("≤ {} ms: {}", LIMITS.1, verdict(added.1 <= LIMITS.1)),
        String::new(),
        format!("≥ {} %: {}", LIMITS.2 * 100.0, verdict(one >= LIMITS.2)),
    ];
    let rows = [
        row("direct", &control, share(direct)),
        row("through llm-proxy", &through, one),
        vec![
            "added".to_owned(),
            format!("{:.3}", added.0),
            format!("{:.3}", added.1),
            String::new(),
            String::new(),
        ],
        [vec!["limit".to_owned()], limits.to_vec()].concat(),
    ];
    let figures = json!({
        "events": through.len(), "direct_ms": {"p50": median(&control), "p99": quantile(&control, 0.99), "max": quantile(&control, 1.0), "one_event": share(direct)},
        "proxied_ms": {"p50": median(&through), "p99": quantile(&through, 0.99), "max": quantile(&through, 1.0), "one_event": one},
        "added_ms": {"p50": added.0, "p99": added.1},
    });
    let heading = format!(
        "Stream timing, {} events 20 ms apart, from the provider's write to the client's read, in ms",
        through.len()
    );
    report.section("stream", &heading, &["", "median", "p99", "max", "reads of one event"], &rows, figures);
}

//! What a limited token costs the database: statements per 1,000 requests, counted by the server itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use testkit::client::Connection;
use testkit::wait;

use crate::fleet::{Fleet, Over};

const CLIENTS: usize = 16;
/// Requests a second in all.
const RATE: u64 = 1_000;
const BOUND: f64 = 20.0;

/// Statements by what they are for. Those of a transaction that only one purpose has are counted with it; BEGIN and COMMIT are shared out by the
/// number of transactions.
struct Counts {
    ledger_and_usage: i64,
    poll: i64,
    heartbeat: i64,
    sweep: i64,
}

impl Counts {
    fn of(statements: &[(String, i64)]) -> Self {
        let calls = |part: &str| -> i64 { statements.iter().filter(|(text, _)| text.contains(part)).map(|(_, calls)| calls).sum() };
        let total: i64 = statements.iter().map(|(_, calls)| calls).sum();
        let poll = calls("FROM feed_head");
        // BEGIN, the clock, two statements on replicas, COMMIT.
        let heartbeat = calls("INSERT INTO replicas") * 5;
        let sweep = calls("SELECT DISTINCT quota_id FROM leases");
        Self {
            ledger_and_usage: total - poll - heartbeat - sweep,
            poll,
            heartbeat,
            sweep,
        }
    }
}

/// A steady load of one token with a limit of 10⁷ over so many processes: what 1,000 requests cost.
fn cost(processes: usize) -> f64 {
    let (warm_up, measured) = if wait::long_variant() { (20, 60) } else { (5, 12) };
    let fleet = Fleet::new();
    let token = fleet.token("app", Some(10_000_000));
    let servers = fleet.start(processes);
    let addresses: Vec<_> = servers.iter().map(|process| process.addr()).collect();
    let (served, over, begun) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        let _over = Over(&over);
        for client in 0..CLIENTS {
            let (address, token, served, over) = (addresses[client % processes], &token, &served, &over);
            scope.spawn(move || {
                let mut connection = Connection::open(address).unwrap();
                let pause = Duration::from_secs(CLIENTS as u64) / u32::try_from(RATE).unwrap();
                let mut next = Instant::now();
                while !over.load(Ordering::Relaxed) {
                    let response = connection.send(&token.chat()).unwrap();
                    assert_eq!(response.status, 200, "{}", response.text());
                    served.fetch_add(1, Ordering::Relaxed);
                    next += pause;
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
        }
        let until = |seconds| std::thread::sleep((begun + Duration::from_secs(seconds)).saturating_duration_since(Instant::now()));
        until(warm_up);
        let (before, from) = (served.load(Ordering::Relaxed), Instant::now());
        fleet.database.reset_statement_counts();
        until(warm_up + measured);
        let statements = fleet.database.statement_counts();
        let (requests, took) = (served.load(Ordering::Relaxed) - before, from.elapsed());
        let counts = Counts::of(&statements);
        // On a machine that is too slow for the rate, each second counts as if it had been served at it: what is done by the clock is not
        // done more often for that.
        let thousands = (requests as f64 / 1e3).max(took.as_secs_f64() * RATE as f64 / 1e3);
        let cost = counts.ledger_and_usage as f64 / thousands;
        eprintln!(
            "{processes} processes, {:.0} requests/s: {cost:.1} statements per 1,000 requests; in {took:.1?} besides {} to poll, {} to \
             acknowledge, {} to look for expired leases",
            requests as f64 / took.as_secs_f64(),
            counts.poll,
            counts.heartbeat,
            counts.sweep
        );
        if cost > BOUND {
            for (text, calls) in &statements {
                eprintln!("{calls:6} {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
        cost
    })
}

#[test]
fn a_thousand_requests_of_one_process_cost_at_most_20_statements() {
    assert!(cost(1) <= BOUND);
}

#[test]
fn a_thousand_requests_over_five_processes_cost_at_most_20_statements() {
    assert!(cost(5) <= BOUND);
}

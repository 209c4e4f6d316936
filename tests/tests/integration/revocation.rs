//! How soon a revoked token is refused by every process of a fleet under load: by notification, and by polling where none arrives.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::client::Connection;
use testkit::server::Server;
use testkit::wait;

use crate::fleet::{Fleet, Over, Token};

const PROCESSES: usize = 5;
const BACKGROUND_CLIENTS: usize = 8;
/// Of each client: a load of some thousand requests/s, and not a machine without a free moment, which would measure the scheduler.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(5);

/// Latencies of all processes over all revocations, sorted.
struct Latencies(Vec<Duration>);

impl Latencies {
    fn quantile(&self, of: f64) -> Duration {
        let last = self.0.len() - 1;
        self.0[((last as f64 * of).ceil() as usize).min(last)]
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} refusals: p50 {:?}, p99 {:?}, max {:?}",
            self.0.len(),
            self.quantile(0.5),
            self.quantile(0.99),
            self.quantile(1.0)
        )
    }
}

/// Asks one process with a token without a pause until it is refused; meets the others at the barrier once it was served.
fn ask_until_refused(address: SocketAddr, token: &Token, served: &Barrier) -> Instant {
    let mut connection = Connection::open(address).unwrap();
    let request = token.chat();
    let mut met = false;
    loop {
        let response = connection.send(&request).unwrap();
        match response.status {
            200 if met => std::thread::sleep(BETWEEN_REQUESTS),
            200 => {
                met = true;
                served.wait();
            }
            401 => {
                assert!(met, "refused before it was revoked: {}", response.text());
                assert_eq!(response.code(), "token_inactive");
                return Instant::now();
            }
            other => panic!("{other} {}", response.text()),
        }
    }
}

/// Revokes so many tokens one after the other, each while every process serves it. The clock of each begins before its transaction does.
fn revoke(fleet: &Fleet, servers: &[Server], count: usize) -> Latencies {
    let (background, over) = (fleet.token("background", None), AtomicBool::new(false));
    let mut latencies = Vec::new();
    std::thread::scope(|scope| {
        let _over = Over(&over);
        for client in 0..BACKGROUND_CLIENTS {
            let (address, background, over) = (servers[client % servers.len()].addr(), &background, &over);
            scope.spawn(move || {
                let mut connection = Connection::open(address).unwrap();
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(connection.send(&background.chat()).unwrap().status, 200);
                    std::thread::sleep(BETWEEN_REQUESTS);
                }
            });
        }
        for n in 0..count {
            let token = fleet.token(&format!("revoked-{n}"), None);
            let served = Barrier::new(servers.len() + 1);
            std::thread::scope(|scope| {
                let asking: Vec<_> = servers
                    .iter()
                    .map(|server| scope.spawn(|| ask_until_refused(server.addr(), &token, &served)))
                    .collect();
                served.wait();
                let begun = Instant::now();
                fleet.revoke(&token);
                latencies.extend(asking.into_iter().map(|process| process.join().unwrap() - begun));
            });
        }
    });
    latencies.sort();
    Latencies(latencies)
}

#[test]
fn a_revoked_token_is_refused_everywhere_within_250_ms() {
    let fleet = Fleet::new();
    let servers = fleet.start(PROCESSES);
    wait::until("notifications everywhere", wait::SOON, || {
        servers.iter().all(|server| server.metric("llm_proxy_database_notifies") > 0.0)
    });
    let latencies = revoke(&fleet, &servers, if wait::long_variant() { 200 } else { 20 });
    eprintln!("by notification, {latencies}");
    // A machine that builds something else beside a run of `make test` delays single ones; the quantile that is promised is measured alone.
    let promised = if wait::long_variant() { 0.99 } else { 0.5 };
    assert!(latencies.quantile(promised) <= Duration::from_millis(250), "{latencies}");
}

#[test]
fn without_notifications_a_revoked_token_is_refused_everywhere_within_a_second_and_a_half() {
    let fleet = Fleet::new();
    let servers = fleet.start(PROCESSES);
    fleet.database.execute("DROP TRIGGER notify_feed ON feed_head");
    let latencies = revoke(&fleet, &servers, if wait::long_variant() { 50 } else { 4 });
    eprintln!("by polling, {latencies}");
    assert!(latencies.quantile(1.0) <= Duration::from_millis(1_500), "{latencies}");
}

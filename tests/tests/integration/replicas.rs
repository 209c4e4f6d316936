//! `maxRequests` is exact over several processes on one PostgreSQL, also while they are killed and started again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use testkit::client::{Connection, Response};
use testkit::random::Random;
use testkit::wait;

use crate::fleet::{Fleet, Token};

const PROCESSES: usize = 5;
const CLIENTS: usize = 64;

/// What a load is: so many tokens, with limits from here to there.
struct Size {
    tokens: u64,
    limits: std::ops::RangeInclusive<u64>,
    patience: Duration,
}

fn size() -> Size {
    if wait::long_variant() {
        Size {
            tokens: 20,
            limits: 500..=5_000,
            patience: Duration::from_secs(600),
        }
    } else {
        Size {
            tokens: 8,
            limits: 50..=400,
            patience: Duration::from_secs(120),
        }
    }
}

/// A token under load.
struct Target {
    token: Token,
    limit: u64,
    /// A process has said that nothing is left.
    final_word: AtomicBool,
}

#[derive(Debug, Default)]
struct Tally {
    served: AtomicU64,
    busy: AtomicU64,
    unavailable: AtomicU64,
    lost: AtomicU64,
    other: Mutex<HashMap<String, u64>>,
}

impl Tally {
    /// Whether the answer was the last word about the token's limit.
    fn note(&self, response: &Response) -> bool {
        let counter = match response.status {
            200 => &self.served,
            429 if response.header("x-should-retry") == Some("false") => return true,
            429 if response.header("retry-after") == Some("1") => &self.busy,
            503 if response.header("retry-after").is_some() => &self.unavailable,
            _ => {
                *self
                    .other
                    .lock()
                    .unwrap()
                    .entry(format!("{} {}", response.status, response.text()))
                    .or_default() += 1;
                return false;
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        false
    }
}

fn targets(fleet: &Fleet, size: &Size, random: &mut Random) -> Vec<Target> {
    let (from, to) = (*size.limits.start(), *size.limits.end());
    (0..size.tokens)
        .map(|n| {
            let limit = from + random.below(to - from + 1);
            Target {
                token: fleet.token(&format!("app-{n}"), Some(limit)),
                limit,
                final_word: AtomicBool::new(false),
            }
        })
        .collect()
}

/// Asks with every token at every process until each token's last word has been spoken.
fn exhaust(targets: &[Target], addresses: &(dyn Fn() -> Vec<SocketAddr> + Sync), seed: u64, tally: &Tally, patience: Duration) {
    let deadline = Instant::now() + patience;
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut random = Random::seeded(seed ^ (client as u64) << 32);
                let mut connections: HashMap<SocketAddr, Connection> = HashMap::new();
                loop {
                    let open: Vec<_> = targets.iter().filter(|target| !target.final_word.load(Ordering::Relaxed)).collect();
                    if open.is_empty() {
                        return;
                    }
                    assert!(Instant::now() < deadline, "no last word for {} tokens; {tally:?}", open.len());
                    let target = open[usize::try_from(random.below(open.len() as u64)).unwrap()];
                    let addresses = addresses();
                    let address = addresses[usize::try_from(random.below(addresses.len() as u64)).unwrap()];
                    let connection = match connections.remove(&address) {
                        Some(connection) => Ok(connection),
                        None => Connection::open(address),
                    };
                    let answer = connection.and_then(|mut connection| {
                        let response = connection.send(&target.token.chat())?;
                        Ok((connection, response))
                    });
                    match answer {
                        Ok((connection, response)) => {
                            connections.insert(address, connection);
                            if tally.note(&response) {
                                target.final_word.store(true, Ordering::Relaxed);
                            } else if response.status != 200 {
                                std::thread::sleep(Duration::from_millis(20));
                            }
                        }
                        Err(_) => {
                            tally.lost.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn five_processes_on_one_postgresql_admit_exactly_each_limit() {
    let (size, mut random) = (size(), Random::announced("five processes"));
    let fleet = Fleet::new();
    let targets = targets(&fleet, &size, &mut random);
    let mut servers = fleet.start(PROCESSES);
    let addresses: Vec<_> = servers.iter().map(|process| process.addr()).collect();
    let (tally, begun) = (Tally::default(), Instant::now());
    exhaust(&targets, &|| addresses.clone(), random.next_u64(), &tally, size.patience);
    let total: u64 = targets.iter().map(|target| target.limit).sum();
    eprintln!(
        "{} tokens with {total} requests in all took {:?}: {tally:?}",
        targets.len(),
        begun.elapsed()
    );
    for target in &targets {
        assert_eq!(fleet.received_of(&target.token), target.limit, "{}", target.token.model);
    }
    assert_eq!((fleet.provider.heads(), tally.served.load(Ordering::Relaxed)), (total, total));
    assert_eq!(*tally.other.lock().unwrap(), HashMap::new());
    servers.iter_mut().for_each(|process| process.stop());
    for target in &targets {
        let quota = fleet.quota(&target.token);
        assert_eq!((quota.used, quota.reserved, quota.forfeited), (target.limit, 0, 0));
    }
    assert_eq!(fleet.used(), total, "usage");
    assert_eq!(fleet.database.number("SELECT COUNT(*) FROM replicas"), 0, "every process has signed off");
}

#[test]
fn killing_a_process_every_second_never_exceeds_a_limit_and_forfeits_no_more_than_was_out() {
    let (size, mut random) = (size(), Random::announced("kill -9 of a fleet"));
    let kills = if wait::long_variant() { 40 } else { 4 };
    let fleet = Fleet::new();
    let targets = targets(&fleet, &size, &mut random);
    let servers: Vec<_> = fleet.start(PROCESSES).into_iter().map(Mutex::new).collect();
    let addresses = Mutex::new(servers.iter().map(|server| server.lock().unwrap().addr()).collect::<Vec<_>>());
    let (tally, outstanding) = (Tally::default(), AtomicU64::new(0));
    let (seed, done) = (random.next_u64(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..kills {
                std::thread::sleep(Duration::from_secs(1));
                if done.load(Ordering::Relaxed) {
                    return;
                }
                let victim = usize::try_from(random.below(PROCESSES as u64)).unwrap();
                let mut server = servers[victim].lock().unwrap();
                let of = server.pid();
                server.kill();
                // What anybody has out bounds what this one had out.
                let out = fleet.outstanding();
                outstanding.fetch_add(out, Ordering::Relaxed);
                *server = fleet.setup.start();
                addresses.lock().unwrap()[victim] = server.addr();
                eprintln!("killed {of}; {out} units out");
            }
            // A dead process's lease is forfeited after 30 s, and only then is the last word spoken. The leases of the living expire with it,
            // and come back to life with their next reports.
            if !wait::long_variant() {
                fleet.database.move_clock(31_000);
            }
        });
        exhaust(
            &targets,
            &|| addresses.lock().unwrap().clone(),
            seed,
            &tally,
            size.patience + Duration::from_secs(60),
        );
        done.store(true, Ordering::Relaxed);
    });
    let total: u64 = targets.iter().map(|target| target.limit).sum();
    for server in servers {
        server.into_inner().unwrap().stop();
    }
    let (mut received, mut forfeited) = (0, 0);
    for target in &targets {
        let (quota, of) = (fleet.quota(&target.token), fleet.received_of(&target.token));
        assert!(of <= target.limit, "{}: {of} of {}", target.token.model, target.limit);
        assert!(of + quota.forfeited >= target.limit, "{}: {of} received, {quota:?}", target.token.model);
        assert!(
            quota.used <= of && quota.used + quota.forfeited <= target.limit,
            "{}: {of} received, {quota:?}",
            target.token.model
        );
        received += of;
        forfeited += quota.forfeited;
    }
    let outstanding = outstanding.load(Ordering::Relaxed);
    eprintln!("of {total} the provider received {received}; forfeited {forfeited}, out at the kills at most {outstanding}; {tally:?}");
    assert!(total - received <= forfeited && forfeited <= outstanding);
    assert_eq!(*tally.other.lock().unwrap(), HashMap::new());
}

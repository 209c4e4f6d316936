//! `maxRequests` is exact: what the provider receives is the limit, however many ask at once and however often the process dies.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::client::{Connection, Request, Response};
use testkit::manifests::{self, Folder};
use testkit::provider::{Provider, Reply, wire};
use testkit::random::Random;
use testkit::stage::{PROVIDER_KEY, Stage};
use testkit::standalone::{Setup, Standalone};
use testkit::wait;

const CLIENTS: usize = 64;

/// What the answers of many clients were.
#[derive(Debug, Default)]
struct Tally {
    served: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    other: Mutex<Vec<String>>,
}

impl Tally {
    fn note(&self, answer: std::io::Result<Response>) -> bool {
        match answer {
            Ok(response) if response.status == 200 => self.served.fetch_add(1, Ordering::Relaxed),
            Ok(response) if response.status == 429 && response.code() == "rate_limit_exceeded" => self.refused.fetch_add(1, Ordering::Relaxed),
            Ok(response) => {
                self.other.lock().unwrap().push(format!("{} {}", response.status, response.text()));
                0
            }
            Err(_) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return false;
            }
        };
        true
    }
}

#[test]
fn of_2000_attempts_by_64_clients_exactly_1000_reach_the_provider() {
    let provider = Provider::start_counting(Reply::json(200, &wire::chat("m")));
    let process = Setup::new(&Folder::with_tokens(
        &provider.base_url(),
        PROVIDER_KEY,
        &[("app", &manifests::max_requests(1000))],
    ))
    .start();
    let (key, addr) = (process.key("app"), process.addr());
    let (attempts, tally) = (AtomicU64::new(0), Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = Connection::open(addr).unwrap();
                let request = Request::chat(false).bearer(&key);
                while attempts.fetch_add(1, Ordering::Relaxed) < 2000 {
                    tally.note(connection.send(&request));
                }
            });
        }
    });
    eprintln!("of 2000 attempts: {tally:?}, the provider received {}", provider.heads());
    assert_eq!(provider.heads(), 1000);
    assert_eq!(*tally.other.lock().unwrap(), Vec::<String>::new());
    assert_eq!(
        (tally.served.into_inner(), tally.refused.into_inner(), tally.lost.into_inner()),
        (1000, 1000, 0)
    );
    wait::until("a settled quota", wait::SOON, || {
        process
            .setup()
            .status()
            .quota("app")
            .is_some_and(|quota| (quota.used, quota.reserved, quota.forfeited) == (1000, 0, 0))
    });
    wait::until("the usage", wait::SOON, || process.setup().status().used("app", "requests") == 1000);
}

#[test]
fn nobody_is_refused_while_the_limit_has_room() {
    let provider = Provider::start_counting(Reply::json(200, &wire::chat("m")));
    let process = Setup::new(&Folder::with_tokens(
        &provider.base_url(),
        PROVIDER_KEY,
        &[("app", &manifests::max_requests(1000))],
    ))
    .start();
    let (key, addr) = (process.key("app"), process.addr());
    let (attempts, tally) = (AtomicU64::new(0), Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = Connection::open(addr).unwrap();
                let request = Request::chat(false).bearer(&key);
                while attempts.fetch_add(1, Ordering::Relaxed) < 1000 {
                    tally.note(connection.send(&request));
                }
            });
        }
    });
    eprintln!("of 1000 attempts at a limit of 1000: {tally:?}");
    assert_eq!((tally.served.into_inner(), tally.refused.into_inner()), (1000, 0));
}

#[test]
fn the_last_refusal_is_final_and_says_what_is_used_up() {
    let stage = Stage::new(&manifests::max_requests(3));
    for _ in 0..3 {
        assert_eq!(stage.send(Request::chat(false)).status, 200);
    }
    let response = stage.send(Request::chat(false));
    assert_eq!((response.status, response.code().as_str()), (429, "rate_limit_exceeded"));
    assert_eq!((response.header("x-should-retry"), response.header("retry-after")), (Some("false"), None));
    let message = response.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("team/app") && message.contains('3'), "{message}");
    assert_eq!(stage.provider.heads(), 3);
}

#[test]
fn a_raised_and_a_lowered_limit_hold_for_the_next_request() {
    let stage = Stage::new(&manifests::max_requests(2));
    let limit = |limit: u64| {
        stage
            .folder
            .put("token-app.yaml", &manifests::token("app", "app", &manifests::max_requests(limit)))
    };
    let served = || stage.send(Request::chat(false)).status == 200;
    assert!(served() && served() && !served());
    limit(4);
    wait::until("the raised limit", wait::SOON, served);
    assert!(served() && !served());
    limit(100);
    wait::until("the raised limit", wait::SOON, served);
    limit(6);
    let setup = stage.process.setup();
    wait::until("the lowered limit in the database", wait::SOON, || {
        setup.status().token("app").is_some_and(|token| token["maxRequests"] == 6)
    });
    wait::until("the lowered limit in the process", wait::SOON, || {
        setup
            .status()
            .condition("WitheringToken", "app", "Programmed")
            .is_some_and(|condition| condition["status"] == "True")
    });
    let before = stage.provider.heads();
    while served() {
        assert!(stage.provider.heads() <= before.max(6), "the lowered limit is passed");
    }
    assert_eq!(stage.provider.heads(), before.max(6));
}

#[test]
fn two_tokens_of_a_project_have_limits_of_their_own() {
    let stage = Stage::with_tokens(&[("app", &manifests::max_requests(1)), ("other", &manifests::max_requests(2))]);
    let other = stage.process.key("other");
    assert_eq!(stage.send(Request::chat(false)).status, 200);
    assert_eq!(stage.send(Request::chat(false)).status, 429);
    let chat = Request::chat(false).bearer(&other);
    assert_eq!([1, 2, 3].map(|_| stage.process.send(&chat).status), [200, 200, 429]);
}

/// A process that is killed and started again while clients go on asking.
struct Restarting {
    setup: Setup,
    process: Mutex<Option<Standalone>>,
}

impl Restarting {
    fn addr(&self) -> Option<std::net::SocketAddr> {
        self.process.lock().unwrap().as_ref().map(|process| process.addr())
    }

    /// Kills it, starts it again, and returns what the dead one had leased and not reported.
    fn kill_and_start(&self) -> u64 {
        let process = self.process.lock().unwrap().take();
        process.unwrap().kill();
        let open = self.setup.status().quota("app").unwrap().reserved;
        *self.process.lock().unwrap() = Some(self.setup.start());
        open
    }
}

#[test]
fn kill_minus_nine_costs_at_most_the_open_blocks_and_never_passes_the_limit() {
    let (limit, attempts, kills) = (1000, 3000, 20);
    let mut random = Random::announced("kill -9");
    let provider = Provider::start_counting(Reply::json(200, &wire::chat("m")));
    let folder = Folder::with_tokens(&provider.base_url(), PROVIDER_KEY, &[("app", &manifests::max_requests(limit))]);
    let setup = Setup::new(&folder);
    let first = setup.start();
    let key = first.key("app");
    let mut moments: Vec<u64> = (0..kills).map(|_| random.below(attempts - 100)).collect();
    moments.sort_unstable();
    let restarting = Arc::new(Restarting {
        setup: setup.clone(),
        process: Mutex::new(Some(first)),
    });
    let (asked, tally) = (AtomicU64::new(0), Tally::default());
    let mut open_blocks = 0;
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let request = Request::chat(false).bearer(&key);
                let mut open: Option<Connection> = None;
                loop {
                    let Some(mut connection) = open.take().or_else(|| Connection::open(restarting.addr()?).ok()) else {
                        std::thread::sleep(Duration::from_millis(2));
                        continue;
                    };
                    if asked.fetch_add(1, Ordering::Relaxed) >= attempts {
                        return;
                    }
                    if tally.note(connection.send(&request)) {
                        open = Some(connection);
                    }
                }
            });
        }
        for moment in &moments {
            wait::until("the moment to kill", Duration::from_secs(60), || asked.load(Ordering::Relaxed) >= *moment);
            open_blocks += restarting.kill_and_start();
        }
    });
    // Whatever the process still holds goes back while nobody asks; what is free is then spent, so that the books can be closed.
    let process = restarting.process.lock().unwrap().take().unwrap();
    let mut more = 0;
    wait::until("the final refusal", Duration::from_secs(60), || {
        let response = process.send(&Request::chat(false).bearer(&key));
        more += 1;
        response.status == 429 && response.header("x-should-retry") == Some("false")
    });
    let quota = wait::some("closed books", wait::SOON, || {
        setup
            .status()
            .quota("app")
            .filter(|quota| quota.used + quota.forfeited == limit && quota.reserved == 0)
    });
    let received = provider.heads();
    eprintln!("killed at attempts {moments:?}; {tally:?}; {more} more; the provider received {received}, {quota:?}, open blocks {open_blocks}");
    assert_eq!(
        quota.forfeited, open_blocks,
        "a start closes the books of the dead process, and nothing else is lost"
    );
    assert!(
        (limit - open_blocks..=limit).contains(&received),
        "the provider received {received}, open blocks {open_blocks}"
    );
    assert!(quota.used <= received, "what was booked went upstream");
    for other in tally.other.lock().unwrap().iter() {
        assert!(other.starts_with("503"), "{other}");
    }
}

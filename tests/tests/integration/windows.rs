//! Limits over windows are exact over several processes on one PostgreSQL, also while they are killed and started again; and from a manifest
//! they reach the request.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use store::{Limit, LimitAction, LimitScope, LimitUnit, Subject, Window};
use testkit::client::{Connection, Request};
use testkit::manifests;
use testkit::provider::{Provider, Reply, wire};
use testkit::random::Random;
use testkit::stage::{PROVIDER_KEY, Stage};
use testkit::standalone::Setup;
use testkit::wait;

use crate::fleet::{Fleet, Over, Token};

const PROCESSES: usize = 3;
const CLIENTS: usize = 24;
const OWN: u64 = 150;
const SHARED: u64 = 240;

/// A month does not end while a test runs, or once in a month.
fn monthly(unit: LimitUnit, scope: LimitScope, max_units: u64) -> Limit {
    Limit {
        unit,
        window: Window::Month,
        scope,
        max_units,
        action: LimitAction::Block,
    }
}

/// Asks until every token has been refused for good.
fn exhaust(tokens: &[Token], addresses: &Mutex<Vec<SocketAddr>>, over: &AtomicBool, odd: &Mutex<Vec<String>>) {
    let refused: Vec<_> = tokens.iter().map(|_| AtomicBool::new(false)).collect();
    let turn = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) && !refused.iter().all(|refused| refused.load(Ordering::Relaxed)) {
                    let turn = turn.fetch_add(1, Ordering::Relaxed);
                    let address = addresses.lock().unwrap()[turn % PROCESSES];
                    let which = (turn / PROCESSES) % tokens.len();
                    let answer = Connection::open(address).and_then(|mut connection| connection.send(&tokens[which].chat()));
                    match answer {
                        Ok(response) if response.status == 429 && response.header("x-should-retry") == Some("false") => {
                            refused[which].store(true, Ordering::Relaxed);
                        }
                        Ok(response) if response.status == 200 => {}
                        Ok(response) if matches!(response.status, 429 | 503) && response.header("retry-after").is_some() => {
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        Ok(response) => odd.lock().unwrap().push(format!("{} {}", response.status, response.text())),
                        // Killed under it.
                        Err(_) => std::thread::sleep(Duration::from_millis(5)),
                    }
                }
            });
        }
    });
}

#[test]
fn of_limits_over_windows_nothing_is_exceeded_while_processes_are_killed() {
    let mut random = Random::announced("kill -9 under windows");
    let fleet = Fleet::new();
    let limits = || {
        vec![
            monthly(LimitUnit::Requests, LimitScope::Token, OWN),
            monthly(LimitUnit::TotalTokens, LimitScope::Token, 1_000_000_000),
        ]
    };
    fleet.limit_project(vec![monthly(LimitUnit::Requests, LimitScope::Project, SHARED)]);
    let tokens = [fleet.token_under("a", None, limits()), fleet.token_under("b", None, limits())];
    let servers: Vec<_> = fleet.start(PROCESSES).into_iter().map(Mutex::new).collect();
    let addresses = Mutex::new(servers.iter().map(|server| server.lock().unwrap().addr()).collect::<Vec<_>>());
    let (over, odd) = (AtomicBool::new(false), Mutex::default());
    std::thread::scope(|scope| {
        let _over = Over(&over);
        let load = scope.spawn(|| exhaust(&tokens, &addresses, &over, &odd));
        for kill in 1..=3_u64 {
            let total = || tokens.iter().map(|token| fleet.received_of(token)).sum::<u64>();
            wait::until("some more requests", Duration::from_secs(60), || {
                total() >= kill * 40 || load.is_finished()
            });
            let victim = usize::try_from(random.below(PROCESSES as u64)).unwrap();
            let mut server = servers[victim].lock().unwrap();
            server.kill();
            *server = fleet.setup.start();
            addresses.lock().unwrap()[victim] = server.addr();
        }
        // What the dead had leased is forfeited after 30 s, and only then is the last word spoken.
        fleet.database.move_clock(31_000);
        let until = Instant::now() + Duration::from_secs(90);
        wait::until("the last word", Duration::from_secs(100), || load.is_finished() || Instant::now() > until);
        assert!(load.is_finished(), "nobody had the last word");
    });
    for server in servers {
        server.into_inner().unwrap().stop();
    }
    let shared = fleet.window(fleet.project(), LimitUnit::Requests, Window::Month).unwrap();
    let received: Vec<_> = tokens.iter().map(|token| fleet.received_of(token)).collect();
    eprintln!("the provider received {received:?} of {OWN} each and {SHARED} together; {shared:?}");
    for (token, received) in tokens.iter().zip(&received) {
        let own = fleet.window(Subject::Token(token.id), LimitUnit::Requests, Window::Month).unwrap();
        assert!(
            *received <= OWN && own.used <= *received && *received <= own.used + own.forfeited,
            "{received}, {own:?}"
        );
        let counted = fleet.window(Subject::Token(token.id), LimitUnit::TotalTokens, Window::Month).unwrap();
        assert_eq!(counted.reserved, 0, "{counted:?}");
    }
    let together: u64 = received.iter().sum();
    assert!(
        together <= SHARED && shared.used <= together && together <= shared.used + shared.forfeited,
        "{shared:?}"
    );
    assert_eq!(shared.reserved, 0);
    assert_eq!(*odd.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn limits_in_manifests_hold_for_the_next_request_and_change_with_the_file() {
    let of = |limit: u64| format!("  rateLimits: [{{unit: Requests, limit: {limit}, period: Day}}]\n  maxInFlight: 5");
    let stage = Stage::new(&of(2));
    let served = || stage.send(Request::chat(false)).status == 200;
    assert!(served() && served() && !served());
    let refused = stage.send(Request::chat(false));
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(refused.header("x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    stage.folder.put("token-app.yaml", &manifests::token("app", "app", &of(4)));
    wait::until("the raised limit", wait::SOON, served);
    assert!(served() && !served());
    stage.folder.put("token-app.yaml", &manifests::token("app", "app", ""));
    wait::until("no limit", wait::SOON, served);
    assert!((0..10).all(|_| served()));
}

#[test]
fn a_budget_in_a_manifest_reckons_with_the_prices_of_the_fleet() {
    let provider = Provider::start_counting(Reply::json(200, &wire::chat("m")));
    let folder = manifests::Folder::with_tokens(&provider.base_url(), PROVIDER_KEY, &[("app", "")]);
    let budget = "  budgets: [{period: Total, amount: \"1\"}]\n";
    folder.put(
        "project.yaml",
        &format!("{}---\n{}", manifests::project("app", budget), manifests::key_secret("app", PROVIDER_KEY)),
    );
    let process = Setup::new(&folder).start();
    let body = serde_json::json!({"model": "in-house", "messages": []});
    let chat = Request::post("/v1/chat/completions", &body).bearer(&process.key("app"));
    let refused = process.send(&chat);
    assert_eq!((refused.status, refused.code().as_str()), (403, "model_not_priced"), "{}", refused.text());
    assert_eq!(provider.heads(), 0);
    // So dear that the answer passes the budget, and the prompt's estimate does not.
    let fleet = manifests::fleet(&provider.base_url());
    let priced = fleet.replace("}]", ", prices: [{model: \"*\", input: \"1\", output: \"900000000\"}]}]");
    assert_ne!(fleet, priced);
    folder.put("fleet.yaml", &priced);
    wait::until("the price", wait::SOON, || process.send(&chat).status == 200);
    let refused = wait::some("the budget's end", wait::SOON, || {
        Some(process.send(&chat)).filter(|response| response.status != 200)
    });
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "insufficient_quota"),
        "{}",
        refused.text()
    );
    assert_eq!(refused.header("x-should-retry"), Some("false"));
}

//! What a fleet's processes do while their PostgreSQL is away, silent, read-only or failing over: they serve what they know until the stale
//! window ends, then say 503 with Retry-After, come back by themselves, lose nothing, exceed no limit, and never exit.

use std::time::{Duration, Instant};

use testkit::client::Response;
use testkit::postgres::wire::Wire;
use testkit::server::Server;
use testkit::wait;

use crate::fleet::{Fleet, Token};

/// The stale window of the tests' processes, and what a stale answer may take longer.
const STALE: Duration = Duration::from_secs(5);
const MARGIN: Duration = Duration::from_secs(3);

fn behind_a_wire() -> (Fleet, Wire) {
    let mut wire = None;
    let fleet = Fleet::through(|server| wire.insert(Wire::to(server)).address());
    (fleet, wire.expect("a wire"))
}

#[track_caller]
fn assert_unavailable(response: &Response) {
    assert_eq!(
        (response.status, response.code().as_str()),
        (503, "database_unavailable"),
        "{}",
        response.text()
    );
    assert!(
        response
            .header("retry-after")
            .is_some_and(|seconds| seconds.parse().is_ok_and(|n: u32| n > 0))
    );
}

/// Waits until the token is served again.
#[track_caller]
fn heals(server: &mut Server, token: &Token) {
    wait::until("service after the outage", wait::SOON, || server.send(&token.chat()).status == 200);
    assert!(server.runs());
    assert_eq!(server.readiness().map(|(status, _)| status), Some(200));
}

/// Spends the rest of the limit: what the provider has received in the end is the limit, and it is all booked.
#[track_caller]
fn spends_exactly_the_rest(fleet: &Fleet, server: &mut Server, token: &Token, limit: u64) {
    wait::until("the last word", Duration::from_secs(60), || {
        let response = server.send(&token.chat());
        response.status == 429 && response.header("x-should-retry") == Some("false")
    });
    server.stop();
    let quota = fleet.quota(token);
    assert_eq!(
        (fleet.received_of(token), quota.used, quota.reserved, quota.forfeited),
        (limit, limit, 0, 0)
    );
    assert_eq!(fleet.used(), limit, "usage");
}

#[test]
fn a_database_that_is_absent_at_the_start_is_waited_for() {
    let (mut fleet, wire) = behind_a_wire();
    let token = fleet.token("app", Some(20));
    wire.refuse(true);
    fleet.setup = fleet.setup.clone().on_a_known_port();
    let mut server = fleet.setup.spawn();
    wait::until("an answer", wait::SOON, || server.readiness().is_some());
    assert_unavailable(&server.send(&token.chat()));
    wait::until("the reason", wait::SOON, || {
        server
            .readiness()
            .is_some_and(|(status, text)| status == 503 && text.contains("database"))
    });
    assert_eq!(server.stdout(), "", "it is not ready");
    wire.refuse(false);
    server.wait_until_ready();
    heals(&mut server, &token);
    spends_exactly_the_rest(&fleet, &mut server, &token, 20);
}

#[test]
fn a_process_that_waits_for_its_database_ends_in_order() {
    let (mut fleet, wire) = behind_a_wire();
    wire.refuse(true);
    fleet.setup = fleet.setup.clone().on_a_known_port();
    let mut server = fleet.setup.spawn();
    wait::until("an answer", wait::SOON, || server.readiness().is_some());
    server.stop();
}

/// Takes the database away while a token is used, for so long, and gives it back.
fn outage(away: Duration, take_away: impl Fn(&Fleet, &Wire, bool)) {
    let (fleet, wire) = behind_a_wire();
    let (known, other) = (fleet.token("known", None), fleet.token("other", None));
    let limited = fleet.token("limited", Some(60));
    let mut server = fleet.setup.start();
    assert_eq!(server.send(&known.chat()).status, 200);
    for _ in 0..5 {
        assert_eq!(server.send(&limited.chat()).status, 200);
    }
    take_away(&fleet, &wire, true);
    let begun = Instant::now();
    let (mut stale, mut last_served) = (false, begun);
    while begun.elapsed() < away {
        let response = server.send(&known.chat());
        if response.status == 200 {
            assert!(!stale, "served again while the database is away");
            last_served = Instant::now();
        } else {
            assert_unavailable(&response);
            stale = true;
        }
        // A limited one spends the block in hand and is never told that its limit is used up.
        let response = server.send(&limited.chat());
        if response.status != 200 {
            assert_unavailable(&response);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let served_for = last_served - begun;
    eprintln!("away for {away:?}: known tokens were served for {served_for:?}");
    if away > STALE + MARGIN {
        assert!(stale && served_for <= STALE + Duration::from_millis(500), "{served_for:?}");
        assert_unavailable(&server.send(&other.chat()));
        assert!(server.metric("llm_proxy_database_stale") > 0.0);
    } else {
        assert!(!stale);
    }
    assert_eq!(server.readiness().map(|(status, _)| status), Some(200), "stale stays ready");
    take_away(&fleet, &wire, false);
    heals(&mut server, &known);
    heals(&mut server, &other);
    wait::until("fresh figures", wait::SOON, || server.metric("llm_proxy_database_writable") > 0.0);
    let unlimited = fleet.received_of(&known) + fleet.received_of(&other);
    wait::until("the last word", Duration::from_secs(60), || {
        let response = server.send(&limited.chat());
        response.status == 429 && response.header("x-should-retry") == Some("false")
    });
    server.stop();
    let quota = fleet.quota(&limited);
    assert_eq!((fleet.received_of(&limited), quota.used, quota.reserved, quota.forfeited), (60, 60, 0, 0));
    assert_eq!(fleet.used(), 60 + unlimited, "usage");
}

#[test]
fn a_second_without_the_database_is_not_noticed() {
    outage(Duration::from_secs(1), |_, wire, away| wire.refuse(away));
}

#[test]
fn a_second_of_silence_is_not_noticed() {
    outage(Duration::from_secs(1), |_, wire, away| wire.silence(away));
}

#[test]
fn past_the_stale_window_a_process_says_503_and_comes_back_by_itself() {
    outage(Duration::from_secs(9), |_, wire, away| wire.refuse(away));
}

#[test]
fn past_the_stale_window_of_a_silent_database_a_process_says_503_and_comes_back_by_itself() {
    if wait::long_variant() {
        outage(Duration::from_secs(30), |_, wire, away| wire.silence(away));
    }
    outage(Duration::from_secs(9), |_, wire, away| wire.silence(away));
}

#[test]
fn half_a_minute_without_the_database_is_survived() {
    let away = if wait::long_variant() { 30 } else { 8 };
    outage(Duration::from_secs(away) + Duration::from_millis(500), |fleet, _, away| {
        fleet.database.set_away(away)
    });
}

#[test]
fn a_failover_is_survived_and_costs_nothing() {
    let (fleet, _wire) = behind_a_wire();
    let limited = fleet.token("app", Some(300));
    let mut server = fleet.setup.start();
    for n in 0..200 {
        if n % 20 == 10 {
            fleet.database.terminate_backends();
        }
        let response = server.send(&limited.chat());
        if response.status != 200 {
            assert_unavailable(&response);
        }
    }
    heals(&mut server, &limited);
    spends_exactly_the_rest(&fleet, &mut server, &limited, 300);
}

#[test]
fn a_read_only_database_is_told_and_blocks_in_hand_are_spent() {
    let (fleet, _wire) = behind_a_wire();
    let (limited, known) = (fleet.token("app", Some(64)), fleet.token("known", None));
    let mut server = fleet.setup.start();
    assert_eq!(server.send(&limited.chat()).status, 200);
    assert_eq!(server.send(&known.chat()).status, 200);
    fleet.database.set_read_only(true);
    wait::until("a refusal", wait::SOON, || {
        let response = server.send(&limited.chat());
        if response.status != 200 {
            assert_unavailable(&response);
        }
        response.status != 200
    });
    wait::until("the flag", wait::SOON, || server.metric("llm_proxy_database_writable") < 1.0);
    let health = server.send(&testkit::client::Request::get("/health")).json();
    assert_eq!(
        (&health["database_writable"], &health["database_write_error"]),
        (&false.into(), &"read-only".into()),
        "{health}"
    );
    // Reading goes on, so nothing is stale.
    std::thread::sleep(STALE + Duration::from_secs(1));
    assert_eq!(server.send(&known.chat()).status, 200);
    fleet.database.set_read_only(false);
    heals(&mut server, &limited);
    wait::until("the flag", wait::SOON, || server.metric("llm_proxy_database_writable") > 0.0);
}

/// Bound by the statement that writes a lease, and by the one that books usage: the state, and the model that is asked for.
const BOUND: [&[u8]; 2] = [b"Live", b"model-of-the-app"];

#[test]
fn a_commit_whose_answer_is_lost_counts_once() {
    let (fleet, wire) = behind_a_wire();
    let limited = fleet.token("model-of-the-app", Some(200));
    let mut server = fleet.setup.start();
    let begun = Instant::now();
    let mut served = 0;
    for (n, bound) in (1..=12).zip(BOUND.iter().cycle()) {
        wire.cut_answers_of(bound, 1);
        while wire.cut() < n {
            assert!(begun.elapsed() < Duration::from_secs(90), "only {} answers were cut", wire.cut());
            let response = server.send(&limited.chat());
            served += u64::from(response.status == 200);
            match response.status {
                200 => {}
                429 => assert_eq!(response.header("x-should-retry"), None, "{}", response.text()),
                _ => assert_unavailable(&response),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    assert_eq!(fleet.received_of(&limited), served);
    heals(&mut server, &limited);
    spends_exactly_the_rest(&fleet, &mut server, &limited, 200);
}

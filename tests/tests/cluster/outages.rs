//! The API server, the database, or both away, slow, or refusing: nothing is revoked or issued twice, and all is well soon after.

use std::time::{Duration, Instant};

use testkit::cluster::User;
use testkit::cluster::faults::{Door, Fault};
use testkit::wait;

use crate::operating::{Operating, Team, options};

/// A team with a Ready token, and an operator that sees the API server through a door.
fn behind_a_door() -> (Team, Door, Operating) {
    let team = Team::new();
    let door = team.cluster.door(User::Operator);
    let operating = Operating::start(door.kubeconfig(), options(&[&team.namespace]));
    team.apply(&Team::everything());
    team.wait_for("wtok/app", "Ready", wait::SOON);
    (team, door, operating)
}

fn pass(length: Duration) {
    let begun = Instant::now();
    wait::until("the outage has lasted", length * 2, || begun.elapsed() >= length);
}

fn key(team: &Team, secret: &str) -> String {
    team.kubectl(&["get", "secret", secret, "-o", "jsonpath={.data.token}"])
}

fn live_revisions(team: &Team) -> i64 {
    team.database.number("SELECT COUNT(*) FROM token_revisions WHERE state = 'Active'")
}

#[test]
fn an_api_server_that_is_gone_for_ten_seconds_costs_nothing_but_the_time() {
    let (team, door, operating) = behind_a_door();
    let before = key(&team, "app");
    door.refuse(true);
    team.apply(&Team::token("during"));
    team.kubectl(&["delete", "wtok", "app", "--wait=false"]);
    team.apply(&Team::token("app2"));
    pass(Duration::from_secs(10));
    door.refuse(false);
    let back = Instant::now();
    for token in ["wtok/during", "wtok/app2"] {
        team.wait_for(token, "Ready", Duration::from_secs(20));
    }
    eprintln!("10 s without the API server: what was asked for meanwhile is done {:?} after", back.elapsed());
    wait::until("the deleted token's rows are revoked", Duration::from_secs(30), || {
        team.database.number("SELECT COUNT(*) FROM tokens WHERE state = 'Revoked'") == 1
    });
    assert_eq!(live_revisions(&team), 2);
    assert!(!before.is_empty());
    operating.stop();
}

#[test]
fn watches_that_are_cut_or_too_old_miss_nothing() {
    let (team, door, operating) = behind_a_door();
    let before = key(&team, "app");
    // Every watch is told that its version is gone: all is listed again.
    let expired = door.inject("GET", "watch=", Some(20), Fault::WatchExpired);
    door.cut_all();
    wait::until("watches met the fault", wait::SOON, || expired.hits() >= 5);
    expired.withdraw();
    team.apply(&Team::token("after"));
    team.wait_for("wtok/after", "Ready", wait::SOON);
    assert_eq!(key(&team, "app"), before, "nothing that still stands is issued again");
    // What vanishes while no watch looks is found when they look again.
    door.refuse(true);
    team.kubectl(&["delete", "secret", "app"]);
    door.refuse(false);
    wait::until("the Secret is written anew", wait::SOON, || {
        team.cluster.kubectl(&["-n", &team.namespace, "get", "secret", "app"]).success
    });
    assert_ne!(key(&team, "app"), before, "a lost value is never restored");
    operating.stop();
}

#[test]
fn refused_and_broken_writes_end_in_one_live_revision_per_token() {
    let (team, door, operating) = behind_a_door();
    let faults = [
        ("POST", "/secrets", Fault::Answer(500)),
        ("POST", "/secrets", Fault::CutAfter),
        ("POST", "/secrets", Fault::Answer(409)),
        ("PATCH", "/status", Fault::Answer(409)),
        ("PATCH", "/status", Fault::Answer(429)),
        ("PATCH", "/status", Fault::Answer(503)),
        ("PATCH", "/status", Fault::CutAfter),
        ("GET", "/secrets/", Fault::Answer(500)),
        ("POST", "/events", Fault::Answer(500)),
    ];
    for (index, (method, part, fault)) in faults.into_iter().enumerate() {
        let name = format!("f{index}");
        let injected = door.inject(method, part, Some(2), fault.clone());
        team.apply(&Team::token(&name));
        team.wait_for(&format!("wtok/{name}"), "Ready", Duration::from_secs(30));
        if part != "/events" && method != "GET" {
            assert!(injected.hits() > 0, "{method} {part} never met {fault:?}");
        }
    }
    wait::until("one live revision per token", wait::SOON, || live_revisions(&team) == 10);
    operating.stop();
}

#[test]
fn a_slow_api_server_does_not_cost_the_lease() {
    let (team, door, operating) = behind_a_door();
    let transitions = || team.kubectl(&["get", "lease", "llm-proxy-operator", "-o", "jsonpath={.spec.leaseTransitions}{.spec.holderIdentity}"]);
    let before = transitions();
    let slow = door.inject("", "/", None, Fault::Delay(Duration::from_millis(1_500)));
    team.apply(&Team::token("slow"));
    team.wait_for("wtok/slow", "Ready", Duration::from_secs(40));
    assert!(slow.hits() > 0);
    slow.withdraw();
    assert_eq!(transitions(), before);
    operating.stop();
}

#[test]
fn a_database_that_is_away_is_told_and_everything_goes_on_when_it_is_back() {
    let (team, _door, operating) = behind_a_door();
    let before = key(&team, "app");
    team.database.set_away(true);
    team.apply(&Team::token("during"));
    team.wait_for("wtok/during", "Ready=False", Duration::from_secs(20));
    assert_eq!(key(&team, "app"), before);
    team.database.set_away(false);
    let back = Instant::now();
    team.wait_for("wtok/during", "Ready", Duration::from_secs(20));
    eprintln!("after the database's return a waiting token is Ready within {:?}", back.elapsed());
    assert_eq!(live_revisions(&team), 2);
    operating.stop();
}

#[test]
fn with_both_away_nothing_is_lost() {
    let (team, door, operating) = behind_a_door();
    team.database.set_away(true);
    door.refuse(true);
    team.apply(&Team::token("during"));
    team.kubectl(&["delete", "secret", "app"]);
    pass(Duration::from_secs(5));
    door.refuse(false);
    pass(Duration::from_secs(2));
    team.database.set_away(false);
    team.wait_for("wtok/during", "Ready", Duration::from_secs(30));
    wait::until("the lost Secret is written anew", Duration::from_secs(30), || {
        team.cluster.kubectl(&["-n", &team.namespace, "get", "secret", "app"]).success
    });
    wait::until("one live revision per token", wait::SOON, || {
        team.database.number("SELECT COUNT(DISTINCT token_id) FROM token_revisions WHERE state = 'Active'") == 2
    });
    operating.stop();
}

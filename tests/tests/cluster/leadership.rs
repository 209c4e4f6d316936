//! One of several operators leads: processes that are paused, ended, killed and resumed, and what they write then.

use std::path::Path;
use std::time::{Duration, Instant};

use testkit::cluster::User;
use testkit::cluster::audit::Entry;
use testkit::process::Process;
use testkit::{operator_process, wait};

use crate::operating::Team;

/// Flags of an impatient Lease; the long variant has the real one.
fn lease_flags() -> Vec<&'static str> {
    if wait::long_variant() {
        return Vec::new();
    }
    vec!["--lease-duration=3s", "--renew-deadline=2s", "--retry-period=500ms"]
}

fn start(team: &Team, scratch: &Path, identity: &str) -> Process {
    let kubeconfig = team.cluster.kubeconfig(User::Operator);
    let (watch, lease) = (format!("--watch-namespace={}", team.namespace), format!("--lease-namespace={}", team.namespace));
    let (id, name) = (format!("--cluster-id={}", team.namespace), format!("--identity={identity}"));
    let mut args = vec![watch.as_str(), &lease, &id, &name];
    args.extend(lease_flags());
    operator_process::start(scratch, &kubeconfig, &args)
}

/// Who holds the Lease, without the part that is new with each process.
fn holder(team: &Team) -> String {
    let answer = team.cluster.kubectl(&[
        "-n",
        &team.namespace,
        "get",
        "lease",
        "llm-proxy-operator",
        "--ignore-not-found",
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ]);
    let holder = answer.ok();
    holder.split('_').next().unwrap_or_default().to_owned()
}

fn wait_for_holder(team: &Team, wanted: &str, limit: Duration) {
    wait::until(&format!("{wanted} holds the Lease"), limit, || holder(team) == wanted);
}

fn is_by(entry: &Entry, identity: &str) -> bool {
    entry.user_agent.contains(&format!("({identity})"))
}

fn tokens(range: std::ops::Range<usize>) -> String {
    let all: Vec<_> = range.map(|n| Team::token(&format!("t{n:02}"))).collect();
    all.join("---\n")
}

#[test]
fn a_paused_leader_changes_nothing_once_another_leads() {
    let (team, scratch) = (Team::new(), tempfile::tempdir().unwrap());
    let first = start(&team, scratch.path(), "first");
    wait_for_holder(&team, "first", wait::SOON);
    let second = start(&team, scratch.path(), "second");
    team.apply(&Team::everything());
    team.wait_for("wtok/app", "Ready", wait::SOON);
    let mark = team.cluster.audit_mark();
    // Paused in the middle of its work: it holds what it has decided and not yet written.
    team.apply(&tokens(0..30));
    first.pause();
    let paused = Instant::now();
    wait_for_holder(&team, "second", Duration::from_secs(40));
    for n in 0..30 {
        team.wait_for(&format!("wtok/t{n:02}"), "Ready", Duration::from_secs(30));
    }
    team.kubectl(&["patch", "wtok", "app", "--type=merge", "-p", "{\"spec\":{\"state\":\"Suspended\"}}"]);
    team.wait_for("wtok/app", "Ready=False", wait::SOON);
    let rows = || team.database.texts("SELECT id::text, state, version::text FROM tokens ORDER BY 1");
    let (long, short) = (Duration::from_secs(60), Duration::from_secs(5));
    let length = if wait::long_variant() { long } else { short };
    wait::until("the pause is long enough", length * 2, || paused.elapsed() >= length);
    let before = rows();
    first.resume();
    wait::until("the resumed one knows that it does not lead", wait::SOON, || {
        first.stderr().contains("does not lead any more") || first.stderr().contains("candidate again")
    });
    // Whatever it would still write it has written by now: what it held is dropped with the term.
    wait::until("the resumed one asks for the Lease again", wait::SOON, || {
        let entries = team.cluster.audit_since(mark);
        let lost = entries.iter().rposition(|entry| is_by(entry, "first") && entry.resource == "leases" && entry.verb == "update");
        lost.is_some_and(|lost| entries[lost..].iter().filter(|entry| is_by(entry, "first") && entry.verb == "get").count() >= 2)
    });
    assert_eq!(rows(), before, "rows changed by somebody who does not lead");
    let entries = team.cluster.audit_since(mark);
    let taken = entries
        .iter()
        .find(|entry| is_by(entry, "second") && entry.resource == "leases" && entry.verb == "update" && entry.code == 200)
        .expect("the second takes the Lease");
    let late: Vec<_> = entries
        .iter()
        .filter(|entry| is_by(entry, "first") && entry.is_write() && entry.received > taken.received && entry.code < 300)
        .map(Entry::line)
        .collect();
    assert!(late.is_empty(), "written after the new Lease: {late:?}");
    let revisions = team.database.number("SELECT COUNT(*) FROM token_revisions WHERE state = 'Active'");
    assert_eq!(revisions, 31, "one live revision per token");
    drop((first, second));
}

#[test]
fn a_stopped_leader_hands_over_within_three_seconds() {
    let (team, scratch) = (Team::new(), tempfile::tempdir().unwrap());
    let mut first = start(&team, scratch.path(), "first");
    wait_for_holder(&team, "first", wait::SOON);
    let second = start(&team, scratch.path(), "second");
    team.apply(&Team::everything());
    team.wait_for("wtok/app", "Ready", wait::SOON);
    let mark = team.cluster.audit_mark();
    first.terminate();
    wait_for_holder(&team, "second", wait::SOON);
    let status = first.wait(Duration::from_secs(25));
    assert_eq!(status.code(), Some(0), "{}", first.stderr());
    let entries = team.cluster.audit_since(mark);
    let update = |identity: &str| {
        let by = |entry: &&Entry| is_by(entry, identity) && entry.resource == "leases" && entry.verb == "update" && entry.code == 200;
        entries.iter().filter(by).collect::<Vec<_>>()
    };
    let given_up = update("first").last().expect("it is given up").at;
    let taken = update("second").first().expect("it is taken").at;
    let gap = taken.duration_since(given_up).as_millis();
    assert!(gap <= 3_000, "{gap} ms between two leaders");
    eprintln!("handover: {gap} ms between giving the Lease up and taking it");
    team.apply(&Team::token("later"));
    team.wait_for("wtok/later", "Ready", wait::SOON);
    drop(second);
}

#[test]
fn after_a_killed_leader_the_next_one_leads_when_the_lease_has_run_out() {
    let (team, scratch) = (Team::new(), tempfile::tempdir().unwrap());
    let mut first = start(&team, scratch.path(), "first");
    wait_for_holder(&team, "first", wait::SOON);
    let second = start(&team, scratch.path(), "second");
    team.apply(&Team::everything());
    team.wait_for("wtok/app", "Ready", wait::SOON);
    first.kill();
    let killed = Instant::now();
    team.apply(&Team::token("later"));
    team.wait_for("wtok/later", "Ready", Duration::from_secs(30));
    eprintln!("after kill -9: a new token is Ready after {:?}", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(20));
    drop(second);
}

#[test]
fn health_readiness_and_metrics_are_served_and_name_the_leader() {
    let (team, scratch) = (Team::new(), tempfile::tempdir().unwrap());
    let leader = start(&team, scratch.path(), "first");
    wait_for_holder(&team, "first", wait::SOON);
    let candidate = start(&team, scratch.path(), "second");
    team.apply(&Team::everything());
    team.wait_for("wtok/app", "Ready", wait::SOON);
    let get = |process: &Process, path: &str| {
        let answer = testkit::client::send(operator_process::address(process), &testkit::client::Request::get(path)).expect("an answer");
        (answer.status, answer.text())
    };
    for process in [&leader, &candidate] {
        assert_eq!(get(process, "/healthz").0, 200);
        wait::until("it is ready", wait::SOON, || get(process, "/readyz").0 == 200);
    }
    let (_, leading) = get(&leader, "/metrics");
    for line in [
        "llm_proxy_operator_leader 1",
        "llm_proxy_operator_objects{kind=\"WitheringToken\"} 1",
        "llm_proxy_operator_reconciles_total{kind=\"WitheringToken\",outcome=\"ok\"}",
        "llm_proxy_operator_tokens_next_expiry_timestamp_seconds ",
        &format!("llm_proxy_operator_database_reachable{{namespace=\"{}\",name=\"main\"}} 1", team.namespace),
        "llm_proxy_operator_api_writes_total{resource=\"secrets\",verb=\"create\"}",
        "# EOF",
    ] {
        assert!(leading.contains(line), "{line} is not in\n{leading}");
    }
    assert!(get(&candidate, "/metrics").1.contains("llm_proxy_operator_leader 0"));
    let secrets = team.kubectl(&["get", "secret", "app", "-o", "jsonpath={.data.token}"]);
    assert!(!leading.contains(&secrets) && !leader.stderr().contains("sk-lp-"), "a key leaks");
}

#[test]
fn without_an_api_server_to_ask_the_operator_says_so_in_one_line() {
    let scratch = tempfile::tempdir().unwrap();
    let mut process = operator_process::start(scratch.path(), &scratch.path().join("missing"), &[]);
    let status = process.wait(wait::SOON);
    assert_eq!(status.code(), Some(1));
    let errors: Vec<String> = process.stderr().lines().filter(|line| line.starts_with("error: ")).map(str::to_owned).collect();
    assert!(errors.len() == 1 && errors[0].contains("KUBECONFIG"), "{errors:?}");
}

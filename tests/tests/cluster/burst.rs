//! Many tokens at once: how long until all are Ready, how many writes each costs, and what a restart costs then. Figures of the long variant are
//! for the README; the short one holds the counts.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crds::WitheringToken;
use testkit::cluster::audit::Entry;
use testkit::cluster::{Cluster, User, load};
use testkit::process::Process;
use testkit::{operator_process, wait};

use crate::calm::{besides_the_lease, quiet};
use crate::operating::Team;

fn start(team: &Team, scratch: &Path) -> Process {
    let kubeconfig = team.cluster.kubeconfig(User::Operator);
    let (watch, lease) = (
        format!("--watch-namespace={}", team.namespace),
        format!("--lease-namespace={}", team.namespace),
    );
    let id = format!("--cluster-id={}", team.namespace);
    operator_process::start(scratch, &kubeconfig, &[&watch, &lease, &id, &format!("--identity={}", team.namespace)])
}

/// Resident memory of a process, in MiB.
pub(crate) fn rss(process: &Process) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).expect("the process runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("kB") >> 10
}

/// Processor time that a process has used.
fn processor(process: &Process) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).expect("the process runs");
    let (_, rest) = text.rsplit_once(')').expect("its name");
    // utime and stime are the 14th and 15th field, in hundredths of a second.
    let ticks = rest.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks"));
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

fn token(namespace: &str, n: usize) -> WitheringToken {
    let spec = serde_json::json!({"projectRef": {"name": "team"}, "ttl": "24h"});
    let mut token = WitheringToken::new(&format!("t{n:04}"), serde_json::from_value(spec).expect("a spec"));
    token.metadata.namespace = Some(namespace.to_owned());
    token
}

fn ready_tokens(team: &Team) -> usize {
    let path = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
    team.kubectl(&["get", "wtok", "-o", path])
        .split_whitespace()
        .filter(|word| *word == "True")
        .count()
}

#[test]
fn many_tokens_at_once_are_all_ready_soon_at_two_writes_and_at_most_one_event_each() {
    let (count, limit) = if wait::long_variant() {
        (1_000, Duration::from_secs(20))
    } else {
        (100, Duration::from_secs(20))
    };
    let cluster: &'static Cluster = Cluster::shared();
    let (team, scratch) = (Team::on(cluster), tempfile::tempdir().unwrap());
    let agent = format!("({})", team.namespace);
    let mut operating = start(&team, scratch.path());
    team.apply(&[Team::fleet(), Team::project()].join("---\n"));
    team.wait_for("llmproj/team", "Ready", wait::SOON);
    let (idle, used) = (rss(&operating), processor(&operating));
    team.database.reset_statement_counts();
    let mark = cluster.audit_mark();
    let tokens: Vec<WitheringToken> = (0..count).map(|n| token(&team.namespace, n)).collect();
    let begun = Instant::now();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let applied = runtime.block_on(async {
        let client = kube::Client::try_from(cluster.config(User::Admin)).unwrap();
        load::create_all(&client, tokens, 32).await
    });
    wait::until("all tokens are Ready", limit * 3, || ready_tokens(&team) == count);
    let ready = begun.elapsed();
    let peak = rss(&operating);
    let per_token = (processor(&operating).saturating_sub(used)).as_micros() / count as u128;
    let statements: i64 = team.database.statement_counts().iter().map(|(_, calls)| calls).sum();
    quiet(cluster, &agent);

    let entries = cluster.audit_since(mark);
    let ours: Vec<_> = entries
        .iter()
        .filter(|entry| entry.user_agent.contains(&agent) && entry.is_write())
        .collect();
    let of = |resource: &str| ours.iter().filter(|entry| entry.resource == resource && entry.code < 300).count();
    let (secrets, statuses) = (of("secrets"), of("witheringtokens"));
    let told_of_a_token = |entry: &&&Entry| entry.resource == "events" && entry.name.starts_with('t');
    let events = ours.iter().filter(told_of_a_token).count();
    assert_eq!((secrets, statuses), (count, count), "one Secret and one status per token");
    assert!(events <= count, "{events} events");
    let mut others: HashMap<&str, usize> = HashMap::new();
    for entry in ours
        .iter()
        .filter(|entry| !["leases", "secrets", "witheringtokens", "events"].contains(&entry.resource.as_str()))
    {
        *others.entry(&entry.resource).or_default() += 1;
    }
    let reads = entries
        .iter()
        .filter(|entry| entry.user_agent.contains(&agent) && entry.verb == "get" && entry.resource != "leases")
        .count();
    let latencies = latencies(&entries, &agent);
    let at = |part: usize| latencies[(latencies.len() - 1) * part / 100];
    eprintln!(
        "{count} tokens: created in {applied:?}, all Ready after {ready:?}; from created to status p50 {} ms, p99 {} ms; \
         RSS {idle} -> {peak} MiB; {events} events; other writes {others:?}",
        at(50),
        at(99)
    );
    eprintln!(
        "per token: {per_token} us of the operator's processor time, {} reads of the API, {} statements",
        reads as f64 / count as f64,
        statements as f64 / count as f64
    );
    assert!(ready < limit, "all Ready only after {ready:?}");

    if wait::long_variant() {
        let length = Duration::from_secs(300);
        let mark = cluster.audit_mark();
        let begun = Instant::now();
        wait::until("the calm has lasted", length * 2, || begun.elapsed() >= length);
        let written = besides_the_lease(&cluster.audit_since(mark), &agent);
        assert_eq!(written, Vec::<String>::new(), "writes in {length:?} of calm");
    }
    operating.stop();
    let mark = cluster.audit_mark();
    let begun = Instant::now();
    let mut again = start(&team, scratch.path());
    wait::until("every token was looked at", limit, || {
        let text = metrics(&again);
        let looks = number(&text, "llm_proxy_operator_reconciles_total{kind=\"WitheringToken\",outcome=\"ok\"}");
        let waiting = number(&text, "llm_proxy_operator_reconciles_waiting{kind=\"WitheringToken\"}");
        looks >= count && waiting == 0
    });
    let converged = begun.elapsed();
    let written = besides_the_lease(&cluster.audit_since(mark), &agent);
    eprintln!(
        "restart with {count} tokens: converged after {converged:?}, {} writes, RSS {} MiB",
        written.len(),
        rss(&again)
    );
    assert_eq!(written, Vec::<String>::new(), "a restart writes nothing");
    again.stop();
}

/// For each token, how long it took from its creation's arrival to its status's answer, in ms, in order.
fn latencies(entries: &[Entry], agent: &str) -> Vec<i64> {
    let mut created = HashMap::new();
    let mut took = Vec::new();
    for entry in entries.iter().filter(|entry| entry.resource == "witheringtokens") {
        if entry.subresource.is_empty() && ["create", "patch"].contains(&entry.verb.as_str()) && !entry.name.is_empty() {
            created.entry(entry.name.clone()).or_insert(entry.received);
        } else if entry.subresource == "status"
            && entry.user_agent.contains(agent)
            && entry.code < 300
            && let Some(received) = created.get(&entry.name)
        {
            took.push(i64::try_from(entry.at.duration_since(*received).as_millis()).expect("a short time"));
        }
    }
    took.sort_unstable();
    assert!(!took.is_empty(), "no creation has its name in the log");
    took
}

/// The metrics of an operator.
pub(crate) fn metrics(process: &Process) -> String {
    testkit::client::send(operator_process::address(process), &testkit::client::Request::get("/metrics"))
        .expect("an answer")
        .text()
}

/// The value of one of them, or 0.
pub(crate) fn number(text: &str, name: &str) -> usize {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

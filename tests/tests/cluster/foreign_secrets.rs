//! Secrets that nobody refers to cost the operator nothing: neither memory nor time at its start.

use std::time::{Duration, Instant};

use testkit::cluster::{Cluster, User, load};
use testkit::process::Process;
use testkit::{operator_process, wait};

use crate::burst::{metrics, number, rss};
use crate::operating::Team;

/// Starts an operator of the whole cluster; how long until it has looked at the token, and its memory then.
fn started(cluster: &Cluster, scratch: &std::path::Path) -> (Process, Duration, u64) {
    let begun = Instant::now();
    let process = operator_process::start(scratch, &cluster.kubeconfig(User::Operator), &["--lease-namespace=default"]);
    wait::until("the token is looked at", Duration::from_secs(60), || {
        let text = metrics(&process);
        number(&text, "llm_proxy_operator_reconciles_total{kind=\"WitheringToken\",outcome=\"ok\"}") >= 1
            && number(&text, "llm_proxy_operator_reconciles_waiting{kind=\"WitheringToken\"}") == 0
            && text.contains("llm_proxy_operator_database_reachable")
    });
    let took = begun.elapsed();
    let memory = rss(&process);
    (process, took, memory)
}

#[test]
fn foreign_secrets_cost_neither_memory_nor_time() {
    let count = if wait::long_variant() { 20_000 } else { 1_000 };
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::options().with_etcd_quota(8 << 30).start()));
    let (team, scratch) = (Team::on(cluster), tempfile::tempdir().unwrap());
    let (mut process, ..) = {
        team.apply(&Team::everything());
        started(cluster, scratch.path())
    };
    team.wait_for("wtok/app", "Ready", wait::SOON);
    process.stop();
    let (mut process, before_took, before) = started(cluster, scratch.path());
    process.stop();

    let foreign = cluster.namespace();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = cluster.config(User::Admin);
    runtime.block_on(async {
        let client = kube::Client::try_from(config).unwrap();
        load::create_all(&client, load::foreign_secrets(&foreign, count, 50 << 10), 32).await;
    });
    let (mut process, took, after) = started(cluster, scratch.path());
    eprintln!("{count} foreign Secrets of 50 KiB: RSS {before} -> {after} MiB, start {before_took:?} -> {took:?}");
    assert!(after <= before + 10, "RSS {before} -> {after} MiB");
    assert!(took <= Duration::from_secs(10), "started after {took:?}");
    process.stop();
}

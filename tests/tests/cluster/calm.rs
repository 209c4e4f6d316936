//! An operator that has nothing to do writes nothing but its Lease. The oracle is the API server's audit log.

use std::time::{Duration, Instant};

use testkit::cluster::audit::Entry;
use testkit::cluster::{Cluster, User};
use testkit::wait;

use crate::operating::{Operating, Team, options};

#[test]
fn in_calm_nothing_is_written_but_the_lease_and_a_restart_writes_nothing_either() {
    let team = Team::new();
    let told = options(&[&team.namespace]);
    let agent = format!("({})", told.identity);
    let operating = Operating::of(team.cluster, told.clone());
    team.apply(&[Team::fleet(), Team::project()].join("---\n"));
    let tokens: Vec<_> = (0..20).map(|n| Team::token(&format!("t{n:02}"))).collect();
    team.apply(&tokens.join("---\n"));
    for n in 0..20 {
        team.wait_for(&format!("wtok/t{n:02}"), "Ready", Duration::from_secs(30));
    }
    team.wait_for("llmproj/team", "Ready", wait::SOON);
    quiet(team.cluster, &agent);
    let length = Duration::from_secs(20);
    let mark = team.cluster.audit_mark();
    let begun = Instant::now();
    wait::until("the calm has lasted", length * 2, || begun.elapsed() >= length);
    assert_eq!(
        besides_the_lease(&team.cluster.audit_since(mark), &agent),
        Vec::<String>::new(),
        "writes in {length:?} of calm"
    );

    operating.stop();
    let mark = team.cluster.audit_mark();
    let again = Operating::of(team.cluster, told);
    // One look at each object, and it is over: the new token shows that the looks have begun.
    team.apply(&Team::token("last"));
    team.wait_for("wtok/last", "Ready", wait::SOON);
    quiet(team.cluster, &agent);
    let mut written = besides_the_lease(&team.cluster.audit_since(mark), &agent);
    written.retain(|line| !line.contains("/last") && !line.contains("create secrets") && !line.contains("events"));
    assert_eq!(written, Vec::<String>::new(), "writes for what was Ready before the restart");
    again.stop();
}

/// Waits until nothing was written for 3 s.
pub(crate) fn quiet(cluster: &Cluster, agent: &str) {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        let mark = cluster.audit_mark();
        let begun = Instant::now();
        wait::until("3 s have passed", wait::SOON, || begun.elapsed() >= Duration::from_secs(3));
        let written = besides_the_lease(&cluster.audit_since(mark), agent);
        if written.is_empty() {
            return;
        }
        assert!(Instant::now() < limit, "it does not come to rest: {written:?}");
    }
}

/// The writes of an operator besides its Lease.
pub(crate) fn besides_the_lease(entries: &[Entry], agent: &str) -> Vec<String> {
    let written = entries
        .iter()
        .filter(|entry| entry.user == User::Operator.name() && entry.user_agent.contains(agent) && entry.is_write());
    written.filter(|entry| entry.resource != "leases").map(Entry::line).collect()
}

//! The operator's rights: it uses each of them, and asks for nothing that it may not. The oracle is the API server's audit log.

use std::collections::BTreeSet;
use std::time::Duration;

use operator::cluster::{Options, Scope};
use testkit::cluster::audit::Entry;
use testkit::cluster::{Cluster, User, install};
use testkit::wait;

use crate::operating::{Operating, Team, options};

/// Group, resource with subresource, verb.
type Right = (String, String, String);

/// What the list of the operator's rights grants it.
fn granted() -> BTreeSet<Right> {
    let role = install::objects(include_str!("../../src/cluster/rbac.yaml"))
        .into_iter()
        .find(|object| object.metadata.name.as_deref() == Some("llm-proxy-operator") && object.data.get("rules").is_some())
        .expect("the operator's ClusterRole");
    let words = |rule: &serde_json::Value, field: &str| -> Vec<String> {
        let all = rule[field].as_array().expect("a list").iter();
        all.map(|word| word.as_str().expect("a word").to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role.data["rules"].as_array().expect("rules") {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                for verb in words(rule, "verbs") {
                    rights.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    rights
}

/// The rights that a request used: applying what is not there takes the right to create it, too.
fn used(entry: &Entry) -> Vec<Right> {
    let resource = match entry.subresource.as_str() {
        "" => entry.resource.clone(),
        subresource => format!("{}/{subresource}", entry.resource),
    };
    let right = |verb: &str| (entry.group.clone(), resource.clone(), verb.to_owned());
    let mut rights = vec![right(&entry.verb)];
    if entry.verb == "patch" && entry.code == 201 {
        rights.push(right("create"));
    }
    rights
}

#[test]
fn every_right_of_the_operator_is_used_and_no_other_is_asked_for() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::options().with_controllers().start()));
    let team = Team::on(cluster);
    let told = Options {
        scope: Scope::Cluster,
        cluster_id: None,
        ..options(&[&team.namespace])
    };
    let mark = cluster.audit_mark();
    let operating = Operating::of(cluster, told);
    team.apply(&Team::everything());
    team.wait_for("wtok/app", "Ready", wait::SOON);
    // A budget for two replicas, none for one: made and deleted.
    team.kubectl(&["patch", "llmpx", "main", "--type=merge", "-p", "{\"spec\":{\"replicas\":2}}"]);
    wait::until("the budget is made", wait::SOON, || {
        cluster.kubectl(&["-n", &team.namespace, "get", "pdb", "main"]).success
    });
    team.kubectl(&["patch", "llmpx", "main", "--type=merge", "-p", "{\"spec\":{\"replicas\":1}}"]);
    wait::until("the budget is deleted", wait::SOON, || {
        !cluster.kubectl(&["-n", &team.namespace, "get", "pdb", "main"]).success
    });
    // A Secret that is edited, one that is lost, one that has to go.
    team.kubectl(&["patch", "secret", "app", "-p", "{\"stringData\":{\"token\":\"edited\"}}"]);
    wait::until("it is written anew", wait::SOON, || {
        team.kubectl(&["get", "secret", "app", "-o", "jsonpath={.data.token}"]) != "ZWRpdGVk"
    });
    team.kubectl(&["patch", "wtok", "app", "--type=merge", "-p", "{\"spec\":{\"state\":\"Revoked\"}}"]);
    wait::until("its Secret is deleted", wait::SOON, || {
        !cluster.kubectl(&["-n", &team.namespace, "get", "secret", "app"]).success
    });
    // Rows without an object: found by two LISTs.
    team.apply(&Team::token("gone"));
    team.wait_for("wtok/gone", "Ready", wait::SOON);
    operating.stop();
    team.kubectl(&["delete", "wtok", "gone"]);
    let again = Operating::of(
        cluster,
        Options {
            scope: Scope::Cluster,
            cluster_id: None,
            ..options(&[&team.namespace])
        },
    );
    wait::until("its rows are revoked", Duration::from_secs(40), || {
        team.database
            .number("SELECT COUNT(*) FROM tokens WHERE name = 'gone' AND state = 'Revoked'")
            == 1
    });
    again.stop();

    let entries: Vec<_> = cluster
        .audit_since(mark)
        .into_iter()
        .filter(|entry| entry.user == User::Operator.name())
        .collect();
    let refused: Vec<_> = entries.iter().filter(|entry| entry.code == 403).map(Entry::line).collect();
    assert!(refused.is_empty(), "asked for without the right: {refused:?}");
    let used: BTreeSet<Right> = entries.iter().flat_map(used).collect();
    let granted = granted();
    let unused: Vec<_> = granted.difference(&used).collect();
    let beyond: Vec<_> = used.difference(&granted).collect();
    assert!(beyond.is_empty(), "used and not granted: {beyond:?}");
    assert!(unused.is_empty(), "granted and not used: {unused:?}");
}

//! A cluster that is not as the operator needs it: without the definitions, and with an object that this version cannot read.

use testkit::cluster::{Cluster, User, install};
use testkit::{operator_process, wait};

use crate::operating::Team;

#[test]
fn without_the_definitions_it_says_so_once_and_waits_and_one_unreadable_object_holds_nothing_up() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start()));
    let (team, scratch) = (Team::on(cluster), tempfile::tempdir().unwrap());
    cluster
        .kubectl(&[
            "delete",
            "crd",
            "proxyconfigs.llm-proxy.dev",
            "llmprojects.llm-proxy.dev",
            "witheringtokens.llm-proxy.dev",
        ])
        .ok();
    let mut process = operator_process::start(
        scratch.path(),
        &cluster.kubeconfig(User::Operator),
        &["--lease-namespace", &team.namespace, "--cluster-id", &team.namespace],
    );
    let complaints = || process.stderr().matches("install the CustomResourceDefinitions").count();
    wait::until("it says what is missing, once for each kind", wait::SOON, || complaints() == 3);
    let definitions = install::definitions();
    cluster.kubectl(&["apply", "-f", definitions.to_str().unwrap()]).ok();
    cluster
        .kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=20s",
            "-f",
            definitions.to_str().unwrap(),
        ])
        .ok();
    // A later version of the definitions knows a state that this operator does not.
    let enumeration = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/state/enum/-";
    let patch = format!("[{{\"op\":\"add\",\"path\":\"{enumeration}\",\"value\":\"Frozen\"}}]");
    cluster
        .kubectl(&["patch", "crd", "witheringtokens.llm-proxy.dev", "--type=json", "-p", &patch])
        .ok();
    let odd = "apiVersion: llm-proxy.dev/v1alpha1\nkind: WitheringToken\nmetadata: {name: odd}\nspec: {projectRef: {name: team}, state: Frozen}\n";
    wait::until("the new state is taken", wait::SOON, || {
        cluster
            .kubectl_with_input(User::Admin, &["apply", "-n", &team.namespace, "-f", "-"], odd)
            .success
    });
    team.apply(&Team::everything());
    team.wait_for("wtok/app", "Ready", wait::SOON);
    assert_eq!(complaints(), 3);
    wait::until("people are told", wait::SOON, || {
        team.kubectl(&[
            "get",
            "events.events.k8s.io",
            "-o",
            "jsonpath={.items[?(@.regarding.name==\"odd\")].note}",
        ])
        .contains("cannot read")
    });
    assert_eq!(process.stderr().matches("cannot be read and keeps").count(), 1);
    process.stop();
}

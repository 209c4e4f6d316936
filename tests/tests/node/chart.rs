//! The chart on a real node beyond the first day: its own first fleet and `helm test`, and where /manage is and is not.

use std::process::Command;

use testkit::charts;
use testkit::client::{Connection, Request};
use testkit::cluster::node::Node;
use testkit::cluster::{Answer, Cluster, User};
use testkit::image::{self, Recipe};
use testkit::postgres::Database;
use testkit::postgres::wire::Wire;
use testkit::{program, wait};

const NAMESPACE: &str = "llm-proxy-system";

/// The chart with a first fleet, one pod, on the Echo provider.
const VALUES: [&str; 3] = [
    "--set=image.tag=tests",
    "--set=replicaCount=1",
    r#"--set-json=defaultProxy={"enabled": true, "name": "default", "spec": {"replicas": 1, "drain": {"preStopSeconds": 0},
        "database": {"postgres": {"secretRef": {"name": "llm-proxy-database"}}}, "providers": [{"name": "echo", "api": "Echo"}]}}"#,
];

fn helm(cluster: &Cluster, args: &[&str]) -> Answer {
    let mut command: Command = charts::helm(cluster.folder());
    command
        .env("KUBECONFIG", cluster.kubeconfig(User::Admin))
        .args(["--namespace", NAMESPACE])
        .args(args);
    command.output().unwrap().into()
}

fn told(cluster: &Cluster) -> String {
    let asked = |args: &[&str]| cluster.kubectl(&[&["-n", NAMESPACE][..], args].concat()).stdout;
    [
        asked(&["get", "llm-proxy", "-o", "yaml"]),
        asked(&["describe", "pods"]),
        asked(&["logs", "-l", "app.kubernetes.io/part-of=llm-proxy", "--tail=50", "--prefix"]),
    ]
    .concat()
}

#[test]
fn helm_test_spends_a_token_on_the_charts_own_fleet_and_manage_has_a_service_of_its_own() {
    let Some(node) = Node::start_where_possible() else { return };
    let cluster = node.cluster();
    let database = Database::create();
    let wire = Wire::from(node.network().machine(), database.server_address());
    let image = image::write(&Recipe::of_llm_proxy(&program::path(), "llm-proxy:tests"), &node.scratch("image.tar")).unwrap();
    node.import(&image);
    let _ = cluster.kubectl(&["create", "namespace", NAMESPACE]).ok();
    let _ = cluster
        .kubectl(&["label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted"])
        .ok();
    let url = format!("--from-literal=url={}", database.url_through(wire.address()));
    let _ = cluster
        .kubectl(&["-n", NAMESPACE, "create", "secret", "generic", "llm-proxy-database", &url])
        .ok();

    let chart = charts::chart("llm-proxy");
    let install = [
        &["install", "llm-proxy", chart.to_str().unwrap(), "--wait", "--timeout=120s"][..],
        &VALUES,
    ]
    .concat();
    let installed = helm(cluster, &install);
    assert!(installed.success, "{}{}\n{}", installed.stdout, installed.stderr, told(cluster));
    assert!(
        installed.stdout.contains("helm --namespace llm-proxy-system test llm-proxy"),
        "{}",
        installed.stdout
    );

    let tested = helm(cluster, &["test", "llm-proxy", "--timeout=120s", "--logs"]);
    assert!(tested.success, "{}{}\n{}", tested.stdout, tested.stderr, told(cluster));
    assert!(
        tested.stdout.contains("answered: 2, then refused: rate_limit_exceeded"),
        "{}",
        tested.stdout
    );
    // A second time, from the start.
    let again = helm(cluster, &["test", "llm-proxy", "--timeout=120s"]);
    assert!(again.success, "{}{}\n{}", again.stdout, again.stderr, told(cluster));

    let address = |service: &str, port: u16| {
        let path = format!("jsonpath={{.spec.clusterIP}}:{port}");
        cluster
            .kubectl(&["-n", NAMESPACE, "get", "service", service, "-o", &path])
            .ok()
            .parse()
            .unwrap()
    };
    let token = cluster
        .kubectl(&[
            "-n",
            NAMESPACE,
            "get",
            "secret",
            "default-management",
            "-o",
            "go-template={{.data.token | base64decode}}",
        ])
        .ok();
    let status = |service: &str, port: u16| {
        let mut connection = Connection::open(address(service, port)).unwrap();
        connection.send(&Request::get("/manage/projects").bearer(&token)).unwrap().status
    };
    assert_eq!((status("default-manage", 8081), status("default", 8080)), (200, 404));

    // What has no rights but its own must not be able to read the API server: there is no token in a fleet's pod.
    let pods = cluster
        .kubectl(&[
            "-n",
            NAMESPACE,
            "get",
            "pods",
            "-o",
            "jsonpath={.items[*].spec.automountServiceAccountToken}",
        ])
        .ok();
    assert!(pods.contains("false"), "{pods}");
    let removed = helm(cluster, &["uninstall", "llm-proxy", "--wait", "--timeout=120s"]);
    assert!(removed.success, "{}", removed.stderr);
    wait::until("the chart's fleet goes with it", wait::SOON, || {
        !cluster.kubectl(&["-n", NAMESPACE, "get", "deployment", "default"]).success
    });
}

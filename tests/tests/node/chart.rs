//! The chart with its own first fleet: installed while the database is down, `helm test`, and where a client in a pod finds /manage and where not.

use serde_json::{Value, json};
use testkit::cluster::User;
use testkit::postgres::Database;
use testkit::postgres::wire::Wire;

use crate::site::{SYSTEM, Site, until};
use crate::stage::{client, fleet_of};

use std::time::Duration;

/// Reads a field in the operator's namespace.
fn field(site: &Site, object: &str, path: &str) -> String {
    site.kubectl(&["-n", SYSTEM, "get", object, "-o", &format!("jsonpath={{{path}}}")]).stdout
}

/// Lists the projects through /manage at a URL, from a pod; returns the client's exit code and what it said.
fn manage_from_a_pod(site: &Site, name: &str, url: &str) -> (String, String) {
    let base = format!("--manage-api-base-url={url}");
    let mut pod = client(name, "default-management", &["manage", "project", "list", &base]);
    let container = &mut pod["spec"]["containers"][0];
    container["envFrom"] = Value::Null;
    let secret = json!({ "name": "default-management", "key": "token" });
    container["env"] = json!([{ "name": "MANAGEMENT_TOKEN", "valueFrom": { "secretKeyRef": secret } }]);
    let args = ["-n", SYSTEM, "apply", "-f", "-"];
    let _ = site.cluster().kubectl_with_input(User::Admin, &args, &pod.to_string()).ok();
    let (pod, mut code) = (format!("pod/{name}"), String::new());
    until("the client ends", Duration::from_secs(90), || {
        code = field(site, &pod, ".status.containerStatuses[0].state.terminated.exitCode");
        !code.is_empty()
    });
    (code, site.kubectl(&["-n", SYSTEM, "logs", &pod]).ok())
}

#[test]
fn a_fleet_of_the_charts_own_comes_up_when_its_database_does_and_serves_helm_test_and_manage() {
    let Some(site) = Site::for_an_installation() else { return };
    let database = Database::create();
    let wire = Wire::from(site.node.network().machine(), database.server_address());
    site.make_system_namespace();
    let url = format!("--from-literal=url={}", database.url_through(wire.address()));
    let _ = site
        .kubectl(&["-n", SYSTEM, "create", "secret", "generic", "llm-proxy-database", &url])
        .ok();
    wire.refuse(true);
    let mut spec = fleet_of(1);
    spec["drain"] = json!({ "preStopSeconds": 0 });
    let fleet = json!({ "enabled": true, "name": "default", "spec": spec });
    let said = site.install(&["--set=replicaCount=1", &format!("--set-json=defaultProxy={fleet}")]);
    assert!(said.contains("helm --namespace llm-proxy-system test llm-proxy"), "{said}");
    let reason = || field(&site, "proxyconfig/default", r#".status.conditions[?(@.type=="DatabaseReady")].reason"#);
    until("the database is said to be away", Duration::from_secs(60), || {
        reason() == "DatabaseUnavailable"
    });
    wire.refuse(false);
    let ready = ["-n", SYSTEM, "wait", "proxyconfig/default", "--for=condition=Ready", "--timeout=120s"];
    let answer = site.kubectl(&ready);
    assert!(answer.success, "{}{}", answer.stderr, site.told(SYSTEM));

    // Twice: it starts over each time.
    for _ in 0..2 {
        let tested = site.helm(&["test", "llm-proxy", "--timeout=120s", "--logs"]);
        assert!(tested.success, "{}{}\n{}", tested.stdout, tested.stderr, site.told(SYSTEM));
        let expected = "answered: 2, then refused: rate_limit_exceeded";
        assert!(tested.stdout.contains(expected), "{}", tested.stdout);
    }

    let (code, said) = manage_from_a_pod(&site, "by-name", &format!("http://default-manage.{SYSTEM}.svc:8081"));
    assert_eq!(code, "0", "{said}");
    let (code, said) = manage_from_a_pod(&site, "elsewhere", &format!("http://default.{SYSTEM}.svc:8080"));
    assert!(code == "4" && said.contains("404"), "{code} {said}");
    let address = field(&site, "service/default-manage", ".spec.clusterIP");
    let (code, said) = manage_from_a_pod(&site, "by-address", &format!("http://{address}:8081"));
    assert_eq!(code, "0", "{said}");

    // What has no rights must not be able to ask the API server: there is no token in a fleet's pod.
    let pods = ["-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=proxy", "-o"];
    let tokens = site.kubectl(&[&pods[..], &["jsonpath={.items[*].spec.automountServiceAccountToken}"]].concat());
    assert_eq!(tokens.ok(), "false");
    let _ = site.kubectl(&["-n", SYSTEM, "delete", "pods", "by-name", "elsewhere", "by-address"]).ok();
    site.uninstall();
    until("the fleet goes with the release", Duration::from_secs(90), || {
        field(&site, "deployment/default", ".metadata.name").is_empty()
    });
    // Whoever installs again with the same database needs it.
    assert_eq!(field(&site, "secret/default-encryption", ".metadata.name"), "default-encryption");
    site.remove_system_namespace();
}

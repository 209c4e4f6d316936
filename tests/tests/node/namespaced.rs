//! The chart in scope Namespaced: a fleet works in the namespace that is watched, with rights in that namespace alone, and nothing happens elsewhere.

use testkit::client::Connection;

use crate::site::{SYSTEM, Site};
use crate::stage::{Stage, is_whole, stream};

#[test]
fn an_operator_of_one_namespace_serves_it_and_leaves_every_other_alone() {
    let Some(site) = Site::for_an_installation() else { return };
    site.make_system_namespace();
    let (own, other) = (Stage::on(&site), Stage::on(&site));
    let watched = format!("--set=watchNamespaces={{{}}}", own.namespace);
    let said = site.install(&["--wait", "--set=rbac.scope=Namespaced", "--set=clusterID=tests", &watched]);
    assert!(said.contains(&format!("watches: {}", own.namespace)), "{said}");
    // Only what aggregates into Kubernetes' own roles would be for the whole cluster, and that is no use without it.
    let roles = [
        "get",
        "clusterroles,clusterrolebindings",
        "-l",
        "app.kubernetes.io/part-of=llm-proxy",
        "-o",
        "name",
    ];
    assert_eq!(site.kubectl(&roles).ok(), "");

    for stage in [&other, &own] {
        stage.database_secret(&stage.database_url());
        stage.fleet(1);
    }
    own.wait_for("proxyconfig/main", "condition=Ready");
    own.wait_for("witheringtoken/hello", "condition=Ready");
    let answer = Connection::open(own.service(1)).unwrap().send(&stream(&own.key(), 3)).unwrap();
    assert!(is_whole(&answer, 3), "{}", answer.text());

    for object in ["proxyconfig/main", "llmproject/demo", "witheringtoken/hello"] {
        assert_eq!(other.field(object, ".status"), "", "{object}");
    }
    let made = ["get", "deployments,services,pods,secrets,poddisruptionbudgets", "-o", "name"];
    assert_eq!(other.kubectl(&made).ok(), "secret/llm-proxy-database\n");
    // Nor could it.
    let account = format!("--as=system:serviceaccount:{SYSTEM}:llm-proxy");
    let may = |stage: &Stage<'_>| stage.kubectl(&["auth", "can-i", "get", "secrets", &account]).stdout;
    assert_eq!((may(&own).trim(), may(&other).trim()), ("yes", "no"));
    drop((own, other));
    site.uninstall();
    site.remove_system_namespace();
}

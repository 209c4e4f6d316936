//! The charts: what they render, what they refuse, and what the API server says of every object in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::charts::{chart, helm, kube_score, render};
use testkit::cluster::install::{definitions, objects};
use testkit::cluster::{Answer, Cluster, User};
use testkit::wait;

/// The value sets beside their golden files.
const VALUE_SETS: [&str; 3] = ["cluster", "namespaced", "default-proxy"];

/// The namespace of the golden files.
const NAMESPACE: &str = "llm-proxy-system";

fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/rendered").join(name)
}

fn rendered(values: &str, namespace: &str) -> String {
    let file = beside(&format!("{values}.values.yaml"));
    render("llm-proxy", namespace, &["--values", file.to_str().unwrap()]).ok()
}

#[test]
fn helm_lint_has_nothing_to_say_of_either_chart() {
    let home = tempfile::tempdir().unwrap();
    let output = helm(home.path())
        .arg("lint")
        .arg("--strict")
        .arg(chart("llm-proxy"))
        .arg(chart("llm-proxy-crds"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("2 chart(s) linted, 0 chart(s) failed"), "{said}");
}

#[test]
fn each_value_set_renders_its_golden_file_and_the_same_a_second_time() {
    for values in VALUE_SETS {
        let text = rendered(values, NAMESPACE);
        assert_eq!(rendered(values, NAMESPACE), text, "{values}");
        let golden = beside(&format!("{values}.golden.yaml"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert!(
            text == expected,
            "{} is not what the chart renders: UPDATE_GOLDEN=1 writes it anew, to be read in the diff",
            golden.display()
        );
    }
}

#[test]
fn a_wrong_value_is_refused_in_a_line_that_names_it() {
    let cases: [(&[&str], &str); 15] = [
        (&["--set", "replicaCout=2"], "- at '': additional properties 'replicaCout' not allowed"),
        (
            &["--set", "fullnameOverride=Foo_Bar"],
            "- at '/fullnameOverride': 'Foo_Bar' does not match",
        ),
        (&["--set", "fullnameOverride=1st"], "- at '/fullnameOverride': '1st' does not match"),
        (&["--set", "nameOverride=a b"], "- at '/nameOverride': 'a b' does not match"),
        (&["--set", "image.tga=x"], "- at '/image': additional properties 'tga' not allowed"),
        (&["--set", "replicaCount=two"], "- at '/replicaCount': got string, want integer"),
        (&["--set", "replicaCount=-1"], "- at '/replicaCount': minimum: got -1, want 0"),
        (
            &["--set", "rbac.scope=All"],
            "- at '/rbac/scope': value must be one of 'Cluster', 'Namespaced'",
        ),
        (
            &["--set", "image.digest=latest"],
            "- at '/image/digest': 'latest' does not match pattern '^sha256:[0-9a-f]{64}$|^$'",
        ),
        (&["--set", "image.repository="], "- at '/image/repository': "),
        (
            &["--set", "watchNamespaces={Team}"],
            "- at '/watchNamespaces/0': 'Team' does not match pattern",
        ),
        (&["--set", "watchNamespaces={a}"], "watchNamespaces needs rbac.scope: Namespaced"),
        (&["--set", "rbac.scope=Namespaced"], "rbac.scope Namespaced needs clusterID: a name"),
        (
            &["--set", "defaultProxy.enabled=true"],
            "defaultProxy.enabled needs defaultProxy.spec.database and defaultProxy.spec.providers",
        ),
        (
            &["--set", "serviceAccount.create=false"],
            "serviceAccount.name is needed where serviceAccount.create is false",
        ),
    ];
    for (args, expected) in cases {
        let said = render("llm-proxy", NAMESPACE, args).refused();
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(expected)).collect();
        assert_eq!(lines.len(), 1, "{args:?} gave\n{said}");
    }
    render("llm-proxy-crds", NAMESPACE, &["--set", "crds=false"]).refused();
}

#[test]
fn the_api_server_accepts_every_rendered_object_strictly_and_under_pod_security_restricted() {
    let cluster = Cluster::shared();
    let restricted = [
        ("pod-security.kubernetes.io/enforce", "restricted"),
        ("pod-security.kubernetes.io/warn", "restricted"),
    ];
    let [own, team_a, team_b] = [(); 3].map(|()| cluster.namespace_with_labels(&restricted));
    for values in VALUE_SETS {
        let text = rendered(values, &own).replace("team-a", &team_a).replace("team-b", &team_b);
        let objects = objects(&text).len();
        let args = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
        let answer = cluster.kubectl_with_input(User::Admin, &args, &text);
        // A pod that Pod Security would refuse is a warning at its Deployment.
        assert_eq!(answer.stderr, "", "{values}");
        assert_eq!(answer.ok().lines().count(), objects, "{values}");
    }
    let definitions = render("llm-proxy-crds", &own, &[]).ok();
    let args = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
    ];
    let answer = cluster.kubectl_with_input(User::Admin, &args, &definitions);
    assert_eq!(answer.stderr, "");
    assert_eq!(answer.ok().lines().count(), 3);
}

#[test]
fn kube_score_finds_nothing_that_is_not_answered_in_the_template() {
    for values in VALUE_SETS {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rendered.yaml");
        fs::write(&file, rendered(values, NAMESPACE)).unwrap();
        let output = kube_score().args(["score", "--output-format=ci"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let complaints: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("[CRITICAL]") || line.starts_with("[WARNING]"))
            .collect();
        assert!(output.status.success() && complaints.is_empty(), "{values}: {complaints:#?}");
        assert!(said.contains("[OK]"), "{said}");
    }
}

/// `helm template` of a release of this name.
fn named(release: &str) -> Answer {
    let home = tempfile::tempdir().unwrap();
    let output = helm(home.path()).args(["template", release]).arg(chart("llm-proxy")).output().unwrap();
    output.into()
}

#[test]
fn a_releases_name_becomes_one_that_every_kind_may_have_or_is_refused_in_a_line() {
    let text = named("team.a").ok();
    let objects = objects(&text);
    let names: Vec<&str> = objects.iter().filter_map(|object| object.metadata.name.as_deref()).collect();
    assert!(
        !names.is_empty() && names.iter().all(|name| name.starts_with("team-a-llm-proxy")),
        "{names:?}"
    );
    let refused = named("1st").refused();
    assert!(
        refused.contains("1st-llm-proxy begins with a digit, which no Service's name may: set fullnameOverride"),
        "{refused}"
    );
}

/// Helm as the administrator of a cluster.
fn helm_on(cluster: &Cluster, args: &[&str]) -> Answer {
    let mut command = helm(cluster.folder());
    command.env("KUBECONFIG", cluster.kubeconfig(User::Admin)).args(args);
    command.output().unwrap().into()
}

/// A first fleet, asked for together with the chart. No node is there to run any pod.
fn install_with_fleet<'a>(chart: &'a str, namespace: &'a str, further: &[&'a str]) -> Vec<&'a str> {
    let fleet = "--set-json=defaultProxy={\"enabled\": true, \"name\": \"default\", \"spec\": {\
        \"database\": {\"postgres\": {\"secretRef\": {\"name\": \"llm-proxy-database\"}}},\
        \"providers\": [{\"name\": \"echo\", \"api\": \"Echo\"}]}}";
    [&["install", "first", chart, "--namespace", namespace, fleet][..], further].concat()
}

#[test]
fn a_first_fleet_and_the_definitions_of_the_charts_come_and_are_taken_over_in_the_right_order() {
    // Of its own: the definitions are what is tested.
    let cluster = Cluster::options().with_controllers().start();
    let _ = cluster.kubectl(&["delete", "crd", "-l", "app.kubernetes.io/part-of=llm-proxy"]).ok();
    wait::until("nothing of ours is served", wait::SOON, || {
        !cluster.kubectl(&["get", "--raw", "/apis/llm-proxy.dev/v1alpha1"]).success
    });
    let namespace = cluster.namespace();
    wait::until("the namespace has its account", wait::SOON, || {
        cluster.kubectl(&["-n", &namespace, "get", "serviceaccount", "default"]).success
    });
    let (main, definitions) = (chart("llm-proxy"), chart("llm-proxy-crds"));
    let (main, definitions) = (main.to_str().unwrap(), definitions.to_str().unwrap());

    // Asked for without its kind: one line, and nothing is left behind. Where the namespace is not there either, the words are Helm's.
    let refused = helm_on(&cluster, &install_with_fleet(main, &namespace, &["--skip-crds"])).refused();
    let lines: Vec<&str> = refused
        .lines()
        .filter(|line| line.contains("defaultProxy.enabled needs the kind ProxyConfig"))
        .collect();
    assert!(lines.len() == 1 && lines[0].contains("--skip-crds"), "{refused}");
    let fresh = format!("{namespace}-fresh");
    let refused = helm_on(&cluster, &install_with_fleet(main, &fresh, &["--skip-crds", "--create-namespace"])).refused();
    assert!(refused.contains("no matches for kind \"ProxyConfig\""), "{refused}");

    // With crds/ it is known when the templates are rendered.
    let _ = helm_on(&cluster, &install_with_fleet(main, &namespace, &[])).ok();
    let fleet = ["-n", &namespace, "get", "proxyconfig", "default", "-o", "name"];
    assert_eq!(cluster.kubectl(&fleet).ok().trim(), "proxyconfig.llm-proxy.dev/default");

    // A second operator for every namespace would undo what the first does.
    let second = ["install", "second", main, "--namespace", &fresh, "--create-namespace"];
    let refused = helm_on(&cluster, &second).refused();
    let line = format!("release first in namespace {namespace} watches every namespace already");
    assert_eq!(refused.lines().filter(|said| said.contains(&line)).count(), 1, "{refused}");

    // The other chart takes over what crds/ installed, as docs/operator.md says it; without the flag Helm refuses.
    let adopt = ["install", "llm-proxy-crds", definitions, "--namespace", &namespace];
    let refused = helm_on(&cluster, &adopt).refused();
    assert!(refused.contains("cannot be imported into the current release"), "{refused}");
    let manual = include_str!("../../../docs/operator.md");
    let said = "helm install llm-proxy-crds charts/llm-proxy-crds --take-ownership";
    assert!(manual.contains(said), "docs/operator.md does not say {said:?}");
    let _ = helm_on(&cluster, &[&adopt[..], &["--take-ownership"]].concat()).ok();
    let owner = r"jsonpath={.items[*].metadata.annotations.meta\.helm\.sh/release-name}";
    let owners = cluster
        .kubectl(&["get", "crd", "-l", "app.kubernetes.io/part-of=llm-proxy", "-o", owner])
        .ok();
    assert_eq!(owners, "llm-proxy-crds llm-proxy-crds llm-proxy-crds");
    let upgraded = helm_on(&cluster, &["upgrade", "llm-proxy-crds", definitions, "--namespace", &namespace]);
    assert!(upgraded.success, "{}", upgraded.stderr);
    assert!(cluster.kubectl(&fleet).success, "what was declared is still there");
    // Neither chart takes them along when it goes.
    let _ = helm_on(&cluster, &["uninstall", "llm-proxy-crds", "--namespace", &namespace]).ok();
    let names = cluster
        .kubectl(&["get", "crd", "-l", "app.kubernetes.io/part-of=llm-proxy", "-o", "name"])
        .ok();
    assert_eq!(names.lines().count(), 3, "{names}");
    // And who begins with that chart installs the other with --skip-crds.
    let _ = helm_on(&cluster, &["upgrade", "first", main, "--namespace", &namespace, "--reuse-values"]).ok();
}

/// Each rule as one text per (group, resource, verb).
fn rights(rules: &Value) -> BTreeSet<String> {
    let texts = |value: &Value| {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let mut all = BTreeSet::new();
    for rule in rules.as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                all.extend(texts(&rule["verbs"]).into_iter().map(|verb| format!("{verb} {resource}.{group}")));
            }
        }
    }
    all
}

/// The rights that roles of these kinds and names grant together.
fn granted(text: &str, roles: &[(&str, &str)]) -> BTreeSet<String> {
    let all = objects(text);
    let wanted = all.iter().filter(|object| {
        let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
        roles.contains(&(kind, object.metadata.name.as_deref().unwrap_or_default()))
    });
    wanted.flat_map(|role| rights(&role.data["rules"])).collect()
}

#[test]
fn the_operator_gets_the_rights_that_the_tests_run_it_with_and_no_other() {
    let tests = include_str!("../../src/cluster/rbac.yaml");
    let expected = granted(tests, &[("ClusterRole", "llm-proxy-operator")]);
    let name = "release-llm-proxy";
    let lease = format!("{name}-lease");
    let cluster = granted(&rendered("cluster", NAMESPACE), &[("ClusterRole", name), ("Role", &lease)]);
    assert_eq!(cluster, expected);
    let namespaced = rendered("namespaced", NAMESPACE);
    let kinds: BTreeSet<String> = objects(&namespaced)
        .into_iter()
        .filter_map(|object| object.types)
        .map(|types| types.kind)
        .collect();
    assert!(!kinds.contains("ClusterRole") && !kinds.contains("ClusterRoleBinding"), "{kinds:?}");
    let expected: BTreeSet<String> = expected.into_iter().filter(|right| !right.ends_with(" namespaces.")).collect();
    assert_eq!(granted(&namespaced, &[("Role", name), ("Role", &lease)]), expected);
}

/// What stands in both charts for a definition in crds/yaml.
fn copies(file: &Path) -> [(PathBuf, String); 2] {
    let (name, text) = (file.file_name().unwrap(), fs::read_to_string(file).unwrap());
    assert!(!text.contains("{{"), "Helm would take it for a template: {}", file.display());
    let kept = text.replacen("\nmetadata:\n", "\nmetadata:\n  annotations:\n    helm.sh/resource-policy: keep\n", 1);
    assert_ne!(kept, text);
    [
        (chart("llm-proxy").join("crds").join(name), text),
        (chart("llm-proxy-crds").join("templates").join(name), kept),
    ]
}

#[test]
fn both_charts_hold_the_definitions_of_today() {
    let mut files: Vec<PathBuf> = fs::read_dir(definitions()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_unstable();
    assert_eq!(files.len(), 3);
    for (path, expected) in files.iter().flat_map(|file| copies(file)) {
        if std::env::var_os("UPDATE_CRDS").is_some() {
            fs::write(&path, &expected).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == expected, "{} is not what crds/yaml has: UPDATE_CRDS=1 copies it", path.display());
    }
    for folder in ["llm-proxy/crds", "llm-proxy-crds/templates"] {
        assert_eq!(fs::read_dir(chart(folder)).unwrap().count(), files.len(), "{folder}");
    }
}

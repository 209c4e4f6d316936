//! The floors of the house: which crate of the workspace may know which, read from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Command;

use serde_json::Value;

/// Every crate and what it may depend on, of ours. `*`: everything.
const ALLOWED: &[(&str, &[&str])] = &[
    ("crds", &[]),
    ("api", &[]),
    ("llm", &[]),
    ("store", &[]),
    ("proxy", &["api", "llm", "store"]),
    ("operator", &["crds", "store"]),
    ("llm-proxy", &["*"]),
    ("testkit", &["*"]),
];

/// Who may never reach whom, by any way: the data plane knows no Kubernetes.
const OUT_OF_REACH: &[(&str, &[&str])] = &[("store", KUBERNETES), ("proxy", KUBERNETES)];
const KUBERNETES: &[&str] = &["kube", "kube-core", "kube-client", "k8s-openapi", "crds"];

/// Pure crates: no runtime, no sockets.
const PURE: &[(&str, &[&str])] = &[
    ("llm", &["tokio", "hyper", "socket2", "mio"]),
    ("api", &["tokio", "hyper", "socket2", "mio"]),
];

/// The resolved packages and what each depends on, by package id.
struct Graph {
    /// Ours: name → id.
    members: BTreeMap<String, String>,
    names: HashMap<String, String>,
    /// What is linked.
    normal: HashMap<String, Vec<String>>,
    /// With what only tests and build scripts see: `nothing depends on the tests` holds there too.
    all: HashMap<String, Vec<String>>,
}

impl Graph {
    fn read() -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let host = Command::new(&cargo).args(["-vV"]).output().expect("cargo runs").stdout;
        let host = String::from_utf8_lossy(&host)
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .unwrap()
            .to_owned();
        let output = Command::new(&cargo)
            .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &host])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::of(&serde_json::from_slice(&output.stdout).unwrap())
    }

    fn of(metadata: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let names: HashMap<_, _> = metadata["packages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let members = metadata["workspace_members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| (names[id.as_str().unwrap()].clone(), text(id)))
            .collect();
        let edges = |wanted: &dyn Fn(&Value) -> bool| {
            let nodes = metadata["resolve"]["nodes"].as_array().unwrap().iter();
            let of_node = |node: &Value| {
                node["deps"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|dep| wanted(dep))
                    .map(|dep| text(&dep["pkg"]))
                    .collect()
            };
            nodes.map(|node| (text(&node["id"]), of_node(node))).collect()
        };
        let normal = edges(&|dep| dep["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null()));
        Self {
            members,
            names,
            normal,
            all: edges(&|_| true),
        }
    }

    fn direct(&self, name: &str) -> BTreeSet<&str> {
        self.all[&self.members[name]].iter().map(|id| self.names[id].as_str()).collect()
    }

    fn reachable(&self, name: &str) -> BTreeSet<&str> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![&self.members[name]]);
        while let Some(id) = open.pop() {
            for next in &self.normal[id] {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen.into_iter().map(|id| self.names[id].as_str()).collect()
    }

    /// Every edge and every reach that the lists forbid, in words.
    fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for name in self.members.keys() {
            let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| known == name) else {
                found.push(format!("{name} is not in the list of crates: give it a floor"));
                continue;
            };
            let ours = self.direct(name).into_iter().filter(|to| self.members.contains_key(*to));
            found.extend(
                ours.filter(|to| !allowed.contains(&"*") && !allowed.contains(to))
                    .map(|to| format!("{name} must not depend on {to}")),
            );
        }
        for (name, forbidden) in OUT_OF_REACH.iter().chain(PURE).filter(|(name, _)| self.members.contains_key(*name)) {
            let reached = self.reachable(name);
            found.extend(
                forbidden
                    .iter()
                    .filter(|to| reached.contains(**to))
                    .map(|to| format!("{name} must not reach {to}")),
            );
        }
        found
    }
}

#[test]
fn every_edge_between_our_crates_is_an_allowed_one() {
    let graph = Graph::read();
    assert_eq!(graph.violations(), Vec::<String>::new());
    // The walk works: what is known to be there is seen.
    assert!(graph.reachable("operator").contains("kube-core"));
    assert!(graph.reachable("llm-proxy").contains("crds"));
    assert!(graph.reachable("store").contains("sqlx"));
}

#[test]
fn a_forbidden_edge_would_be_noticed() {
    let package = |name: &str| serde_json::json!({"id": format!("id-{name}"), "name": name});
    let node = |name: &str, deps: &[(&str, Option<&str>)]| {
        let deps: Vec<_> = deps
            .iter()
            .map(|(dep, kind)| serde_json::json!({"pkg": format!("id-{dep}"), "dep_kinds": [{"kind": kind}]}))
            .collect();
        serde_json::json!({"id": format!("id-{name}"), "deps": deps})
    };
    let packages = ["store", "proxy", "operator", "crds", "stranger", "kube", "between"].map(package);
    let metadata = serde_json::json!({
        "packages": packages,
        "workspace_members": ["id-store", "id-proxy", "id-operator", "id-crds", "id-stranger"],
        "resolve": {"nodes": [
            node("store", &[("between", None), ("crds", Some("dev"))]), node("between", &[("kube", None)]), node("kube", &[]),
            node("proxy", &[("operator", None)]), node("operator", &[("store", None), ("proxy", Some("build"))]),
            node("crds", &[]), node("stranger", &[]),
        ]},
    });
    let found = Graph::of(&metadata).violations();
    assert_eq!(
        found,
        [
            "operator must not depend on proxy",
            "proxy must not depend on operator",
            "store must not depend on crds",
            "stranger is not in the list of crates: give it a floor",
            "store must not reach kube",
            "proxy must not reach kube",
        ]
    );
}

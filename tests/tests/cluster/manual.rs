//! docs/operator.md says what is: its tables are compared with the code, and its commands are typed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crds::Reason;
use crds::conditions::ConditionType;
use crds::events::EventReason;
use serde_json::Value;
use testkit::cluster::{Cluster, User, install};
use testkit::wait;

use crate::operating::{Operating, Team, options};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn manual() -> String {
    fs::read_to_string(repository().join("docs/operator.md")).unwrap()
}

/// The rows of the table below a heading row that begins so, cell by cell.
fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, rest) = text
        .split_once(&format!("\n| {heading} |"))
        .unwrap_or_else(|| panic!("no table {heading:?}"));
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.map(cells).collect()
}

/// The words between back quotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What the first column quotes.
fn first(rows: &[Vec<String>]) -> Vec<String> {
    rows.iter().flat_map(|row| quoted(&row[0])).collect()
}

#[test]
fn the_manual_lists_every_condition_reason_and_event() {
    let text = manual();
    let words = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        first(&table(&text, "reason | of | meaning")),
        words(Reason::ALL.iter().map(|reason| reason.as_str()).collect())
    );
    let events = table(&text, "event | type | told when");
    assert_eq!(first(&events), words(EventReason::ALL.iter().map(|reason| reason.as_str()).collect()));
    for (row, event) in events.iter().zip(EventReason::ALL) {
        assert_eq!(row[1], event.severity().as_str(), "{row:?}");
    }
    let summary = [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled].map(|about| about.as_str().to_owned());
    let told: BTreeSet<String> = first(&table(&text, "about | True when")).into_iter().chain(summary).collect();
    assert_eq!(told, ConditionType::ALL.iter().map(|about| about.as_str().to_owned()).collect());
}

#[test]
fn the_manual_lists_the_rights_that_the_operator_has() {
    let role = install::objects(include_str!("../../src/cluster/rbac.yaml"))
        .into_iter()
        .find(|object| object.metadata.name.as_deref() == Some("llm-proxy-operator") && object.data.get("rules").is_some())
        .unwrap();
    let words = |list: &Value| {
        list.as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let granted: Vec<_> = role.data["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            let group = words(&rule["apiGroups"]).join(", ");
            (
                if group.is_empty() { "core".to_owned() } else { group },
                words(&rule["resources"]),
                words(&rule["verbs"]).join(", "),
            )
        })
        .collect();
    let rows = table(&manual(), "group | resources | verbs | for");
    let told: Vec<_> = rows
        .iter()
        .map(|row| (quoted(&row[0]).concat(), quoted(&row[1]), row[2].clone()))
        .collect();
    assert_eq!(told, granted);
}

/// A place that looks like the repository, with the example's URL replaced by the team's.
fn checkout(team: &Team) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("examples/fleet-postgres");
    fs::create_dir_all(&folder).unwrap();
    for entry in fs::read_dir(repository().join("examples/fleet-postgres")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let edited: Vec<String> = text
            .lines()
            .map(|line| {
                line.split_once("url: postgres://")
                    .map_or_else(|| line.to_owned(), |(indent, _)| format!("{indent}url: {}", team.database.url()))
            })
            .collect();
        assert_eq!(
            edited.join("\n") != text.trim_end(),
            path.ends_with("database-secret.yaml"),
            "{}",
            path.display()
        );
        fs::write(folder.join(path.file_name().unwrap()), edited.join("\n")).unwrap();
    }
    place
}

/// The status and reason of a condition.
fn condition(team: &Team, object: &str, about: &str) -> String {
    let path = format!("jsonpath={{.status.conditions[?(@.type=='{about}')]['status','reason']}}");
    team.kubectl(&["get", object, "-o", &path])
}

#[test]
fn the_manuals_first_steps_work_and_the_example_is_ready_but_for_pods() {
    let team = Team::new();
    let operating = Operating::of(team.cluster, options(&[&team.namespace]));
    let (place, tools) = (checkout(&team), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(team.cluster.kubectl_path(), tools.path().join("kubectl")).unwrap();

    let folder = place.path().join("examples/fleet-postgres");
    let args = [
        "-n",
        &team.namespace,
        "apply",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        folder.to_str().unwrap(),
    ];
    let strict = team.cluster.kubectl_as(User::Editor, &args);
    assert_eq!((strict.success, strict.stderr.as_str()), (true, ""), "{}", strict.stdout);

    let text = manual();
    let steps = text
        .split_once("<!-- run: first steps -->\n```sh\n")
        .unwrap()
        .1
        .split_once("\n```")
        .unwrap()
        .0;
    let path = std::env::join_paths(std::iter::once(tools.path().to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())));
    let kubeconfig = kubeconfig_in(team.cluster, &team.namespace, place.path());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", steps]).current_dir(place.path());
    bash.env("PATH", path.unwrap()).env("KUBECONFIG", kubeconfig).env("HOME", place.path());
    let ended = bash.output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{said}{errors}");
    assert!(
        said.contains("condition met") && said.ends_with(&format!("http://main.{}.svc:8080/v1", team.namespace)),
        "{said}"
    );

    team.wait_for("llmproj/demo", "Ready", wait::SOON);
    wait::until("the fleet lacks nothing but pods", wait::SOON, || {
        condition(&team, "llmpx/main", "Ready") == "False NoReplicas"
    });
    for about in ["Accepted", "ResolvedRefs", "DatabaseReady", "Migrated", "Programmed"] {
        assert!(condition(&team, "llmpx/main", about).starts_with("True "), "{about}");
    }
    operating.stop();
}

/// The admin's kubeconfig with a namespace chosen, as `kubectl config set-context --current --namespace` does it.
fn kubeconfig_in(cluster: &Cluster, namespace: &str, folder: &Path) -> PathBuf {
    let mut config: Value = serde_json::from_str(&fs::read_to_string(cluster.kubeconfig(User::Admin)).unwrap()).unwrap();
    config["contexts"][0]["context"]["namespace"] = namespace.into();
    let path = folder.join("kubeconfig");
    fs::write(&path, config.to_string()).unwrap();
    path
}

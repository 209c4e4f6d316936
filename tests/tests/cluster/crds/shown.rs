//! What people see: explain, columns, short names, the category, and field selectors.

use crds::Kind;
use serde_json::Value;
use testkit::cluster::{Cluster, User, install};

use super::{manifests, plural, status, text};

/// Calls `look` with the path and schema of every property below one.
fn each_property(schema: &Value, path: &str, look: &mut impl FnMut(&str, &Value)) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        look(&path, property);
        each_property(property, &path, look);
        each_property(&property["items"], &path, look);
    }
}

#[tokio::test]
async fn every_field_is_explained() {
    let cluster = Cluster::shared();
    // What kubectl explain reads: one question instead of one per field.
    let document = super::published(cluster).await;
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for kind in Kind::ALL {
        let name = kind.definition().spec.names.kind;
        let schema = schemas.iter().find(|(path, _)| path.ends_with(&format!(".{name}"))).unwrap().1;
        assert!(schema["description"].as_str().is_some_and(|text| text.len() > 40), "{name}");
        let mut fields = 0;
        for part in ["spec", "status"] {
            each_property(&schema["properties"][part], part, &mut |path, property| {
                let text = property["description"].as_str().unwrap_or_default();
                assert!(text.ends_with('.') && text.len() > 1, "{name} {path}: {text:?}");
                fields += 1;
            });
        }
        assert!(fields > 15, "{name} has {fields} fields");
        let all = cluster.kubectl(&["explain", &plural(*kind), "--recursive"]).ok();
        assert!(all.contains(&format!("KIND:       {name}")) && !all.contains("<no description>"), "{all}");
        assert!(all.contains("-required-") && all.contains("conditions\t<[]Object>"), "{all}");
    }
    let ttl = cluster.kubectl(&["explain", "wtok.spec.ttl"]).ok();
    assert!(ttl.contains("FIELD: ttl <string>") && ttl.contains("24h if unset"), "{ttl}");
    let state = cluster.kubectl(&["explain", "wtok.spec.state"]).ok();
    assert!(state.contains("ENUM:\n    Active\n    Suspended\n    Revoked"), "{state}");
}

/// The cells of a table, with the age of each row masked.
fn table(text: &str) -> Vec<Vec<String>> {
    let blocks = text.lines().filter(|line| !line.trim().is_empty());
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut rows: Vec<_> = blocks.map(cells).collect();
    for row in rows.iter_mut().filter(|row| row[0] != "NAME") {
        *row.last_mut().unwrap() = "AGE".to_owned();
    }
    rows
}

#[tokio::test]
async fn the_columns_tell_the_story_and_o_wide_tells_why() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    cluster
        .kubectl_with_input(User::Editor, &["apply", "-n", &namespace, "-f", "-"], &text(&manifests("app")))
        .ok();
    status::write(cluster, &namespace, &status::statuses("app", "False")).await;
    let get = |kind: &str, wide: &[&str]| table(&cluster.kubectl(&[&["get", kind, "-n", &namespace], wide].concat()).ok());
    let wide = ["-o", "wide"];
    let rows = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    assert_eq!(get("llmpx", &[]), rows(&["NAME READY REPLICAS AGE", "app False 1 AGE"]));
    assert_eq!(
        get("llmpx", &wide),
        rows(&[
            "NAME READY REPLICAS URL REASON AGE",
            "app False 1 http://x.t.svc:8080/v1 SecretNotFound AGE"
        ])
    );
    assert_eq!(get("llmproj", &[]), rows(&["NAME READY STATE PROXY AGE", "app False Active app AGE"]));
    assert_eq!(
        get("llmproj", &wide),
        rows(&[
            "NAME READY STATE PROXY PROVIDER REASON AGE",
            "app False Active app echo SecretNotFound AGE"
        ])
    );
    assert_eq!(
        get("wtok", &[]),
        rows(&[
            "NAME READY PROJECT STATE EXPIRES REV AGE",
            "app False app Active 2026-01-03T03:04:05Z 3 AGE"
        ])
    );
    assert_eq!(
        get("wtok", &wide),
        rows(&[
            "NAME READY PROJECT STATE EXPIRES REV SECRET RENEWS REASON AGE",
            "app False app Active 2026-01-03T03:04:05Z 3 app-llm 2026-01-02T19:04:05Z SecretNotFound AGE"
        ])
    );
}

#[tokio::test]
async fn kubectl_applies_the_definitions_strictly_and_without_a_warning() {
    let cluster = Cluster::shared();
    super::published(cluster).await;
    let folder = install::definitions();
    let args = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "-f",
    ];
    let answer = cluster.kubectl(&[&args[..], &[folder.to_str().unwrap()]].concat());
    assert_eq!(answer.stderr, "");
    assert_eq!(answer.ok().matches("serverside-applied (server dry run)").count(), Kind::ALL.len());
}

#[test]
fn the_category_lists_all_three_kinds_and_all_lists_none() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    cluster
        .kubectl_with_input(User::Editor, &["apply", "-n", &namespace, "-f", "-"], &text(&manifests("app")))
        .ok();
    let names = cluster.kubectl(&["get", "llm-proxy", "-n", &namespace, "-o", "name"]).ok();
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "llmproject.llm-proxy.dev/app",
            "proxyconfig.llm-proxy.dev/app",
            "witheringtoken.llm-proxy.dev/app"
        ]
    );
    let all = cluster.kubectl(&["get", "all", "-n", &namespace, "-o", "name"]).ok();
    assert!(!all.contains("llm-proxy.dev"), "{all}");
}

#[test]
fn objects_are_found_by_what_they_refer_to() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let mut objects: Vec<_> = manifests("app").into_iter().chain(manifests("other")).collect();
    objects[5]["spec"]["state"] = "Suspended".into();
    cluster
        .kubectl_with_input(User::Editor, &["apply", "-n", &namespace, "-f", "-"], &text(&objects))
        .ok();
    for (kind, selector, found) in [
        ("wtok", "spec.projectRef.name=app", "witheringtoken.llm-proxy.dev/app"),
        ("wtok", "spec.state=Suspended", "witheringtoken.llm-proxy.dev/other"),
        ("llmproj", "spec.proxyRef.name=other", "llmproject.llm-proxy.dev/other"),
    ] {
        let names = cluster.kubectl(&["get", kind, "-n", &namespace, "--field-selector", selector, "-o", "name"]);
        assert_eq!(names.ok().trim(), found, "{selector}");
    }
}

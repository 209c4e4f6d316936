//! Runs the accept/reject table under `table/` against the rules in Rust and against the generated schema with its CEL rules.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly, in its helpers too")]

mod structural;

use std::collections::BTreeSet;

use crds::{Kind, LlmProjectSpec, Mode, ProxyConfigSpec, Validate, WitheringTokenSpec};
use kube::core::cel::{ErrorKind, Validator};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The files, embedded so that the test does not depend on where it runs.
const TABLE: [(Kind, &str); 3] = [
    (Kind::ProxyConfig, include_str!("../../table/proxyconfig.yaml")),
    (Kind::LlmProject, include_str!("../../table/llmproject.yaml")),
    (Kind::WitheringToken, include_str!("../../table/witheringtoken.yaml")),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    spec: Value,
    old: Option<Value>,
    mode: Option<RowMode>,
    reject: Option<Reject>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
enum RowMode {
    Cluster,
    Files,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reject {
    field: String,
    message: Option<String>,
}

/// One complaint about a spec, from whichever side.
struct Complaint {
    field: String,
    message: String,
}

fn rows() -> impl Iterator<Item = (Kind, Row)> {
    TABLE
        .iter()
        .flat_map(|(kind, text)| serde_yaml::from_str::<Vec<Row>>(text).unwrap().into_iter().map(move |row| (*kind, row)))
}

fn spec_schema(kind: Kind) -> Value {
    let definition = serde_json::to_value(kind.definition()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// What Rust says: what serde cannot read, else the broken rules.
fn rust(kind: Kind, row: &Row, mode: Mode) -> Vec<Complaint> {
    fn judge<S: Validate + DeserializeOwned>(row: &Row, mode: Mode) -> Vec<Complaint> {
        let spec: S = match serde_path_to_error::deserialize(&row.spec) {
            Ok(spec) => spec,
            Err(error) => {
                let path = error.path().to_string();
                let field = if path == "." { "spec".to_owned() } else { format!("spec.{path}") };
                return vec![Complaint {
                    field,
                    message: error.into_inner().to_string(),
                }];
            }
        };
        let old = row.old.as_ref().map(|old| serde_json::from_value::<S>(old.clone()).unwrap());
        let transition = old.map(|old| spec.validate_update(&old)).unwrap_or_default();
        spec.validate(mode)
            .into_iter()
            .chain(transition)
            .map(|broken| Complaint {
                field: broken.field,
                message: broken.message,
            })
            .collect()
    }
    match kind {
        Kind::ProxyConfig => judge::<ProxyConfigSpec>(row, mode),
        Kind::LlmProject => judge::<LlmProjectSpec>(row, mode),
        Kind::WitheringToken => judge::<WitheringTokenSpec>(row, mode),
    }
}

/// What the schema says: its structure, and only if that holds its CEL rules, as the API server does it.
fn schema(kind: Kind, row: &Row) -> Vec<Complaint> {
    let schema = spec_schema(kind);
    let spec = structural::without_nulls(&row.spec);
    let broken = structural::breaches(&schema, &spec, "spec");
    if !broken.is_empty() {
        return broken
            .into_iter()
            .map(|breach| Complaint {
                field: breach.field,
                message: breach.constraint,
            })
            .collect();
    }
    let root = serde_json::json!({ "type": "object", "properties": { "spec": schema } });
    let (object, old) = (
        serde_json::json!({ "spec": spec }),
        row.old.as_ref().map(|old| serde_json::json!({ "spec": structural::without_nulls(old) })),
    );
    let errors = Validator::new()
        .validate(&root, &object, old.as_ref())
        .err()
        .map(|errors| errors.into_vec())
        .unwrap_or_default();
    errors
        .into_iter()
        .map(|error| {
            assert_eq!(
                error.kind,
                ErrorKind::ValidationFailure,
                "{}: the rule {} does not run: {}",
                row.name,
                error.rule,
                error.message
            );
            Complaint {
                field: error.field_path,
                message: error.message,
            }
        })
        .collect()
}

/// Compares complaints with the row's verdict; the text of the difference, if there is one.
fn difference(row: &Row, side: &str, complaints: &[Complaint]) -> Option<String> {
    let list = || {
        complaints
            .iter()
            .map(|found| format!("\n    {}: {}", found.field, found.message))
            .collect::<String>()
    };
    let as_wanted = match &row.reject {
        None => complaints.is_empty(),
        Some(wanted) => complaints.iter().any(|found| match &wanted.message {
            Some(part) => found.field == wanted.field && found.message.contains(part.as_str()),
            // An absent field is blamed on its parent by serde; a duplicate on its name by our rule.
            None => !found.field.is_empty() && (wanted.field.starts_with(&found.field) || found.field.starts_with(&wanted.field)),
        }),
    };
    (!as_wanted).then(|| {
        let verdict = row
            .reject
            .as_ref()
            .map_or("accept".to_owned(), |wanted| format!("reject {} {:?}", wanted.field, wanted.message));
        format!(
            "{} ({side}): wanted {verdict}, got {}{}",
            row.name,
            if complaints.is_empty() { "accept" } else { "reject" },
            list()
        )
    })
}

#[test]
fn every_row_gets_its_verdict_from_rust_and_from_the_schema() {
    let mut differences = Vec::new();
    for (kind, row) in rows() {
        if row.mode != Some(RowMode::Files) {
            differences.extend(difference(&row, "Rust, Cluster", &rust(kind, &row, Mode::Cluster)));
            differences.extend(difference(&row, "schema", &schema(kind, &row)));
        }
        if row.mode != Some(RowMode::Cluster) {
            differences.extend(difference(&row, "Rust, Files", &rust(kind, &row, Mode::Files)));
        }
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[test]
fn names_are_unique_and_every_old_spec_is_itself_accepted() {
    let mut seen = BTreeSet::new();
    for (kind, row) in rows() {
        assert!(seen.insert((kind, row.name.clone())), "{kind} {} stands twice", row.name);
        if let Some(old) = row.old {
            let old = Row {
                name: format!("{}, before", row.name),
                spec: old,
                old: None,
                mode: row.mode,
                reject: None,
            };
            assert_eq!(difference(&old, "schema", &schema(kind, &old)), None);
        }
    }
}

#[test]
fn every_rule_and_every_bound_of_the_schema_rejects_some_row() {
    for kind in Kind::ALL {
        let rejected: BTreeSet<String> = rows()
            .filter(|(of, row)| of == kind && row.reject.is_some() && row.mode != Some(RowMode::Files))
            .flat_map(|(_, row)| schema(*kind, &row))
            .map(|complaint| complaint.message)
            .collect();
        let schema = spec_schema(*kind);
        let missing: Vec<String> = structural::constraints(&schema, "spec")
            .into_iter()
            .chain(rules(&schema))
            .filter(|each| !rejected.contains(each))
            .collect();
        assert!(
            missing.is_empty(),
            "{kind}: no row of the table is rejected by\n  {}",
            missing.join("\n  ")
        );
    }
}

/// The messages of all CEL rules in a schema.
fn rules(schema: &Value) -> Vec<String> {
    let own = schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|rule| rule["message"].as_str().unwrap().to_owned());
    let inner = schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(|properties| properties.values())
        .chain(schema.get("items"));
    own.chain(inner.flat_map(rules)).collect()
}

//! The accept/reject table of the crate `crds`, judged by the API server itself.

use std::collections::{BTreeMap, BTreeSet};

use crds::Kind;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client, Error};
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::cluster::{Cluster, User};

const TABLE: [(Kind, &str); 3] = [
    (Kind::ProxyConfig, include_str!("../../../../crds/table/proxyconfig.yaml")),
    (Kind::LlmProject, include_str!("../../../../crds/table/llmproject.yaml")),
    (Kind::WitheringToken, include_str!("../../../../crds/table/witheringtoken.yaml")),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    spec: Value,
    old: Option<Value>,
    mode: Option<String>,
    reject: Option<Reject>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reject {
    field: String,
    message: Option<String>,
}

/// A cause in the API server's refusal.
#[derive(Clone, Debug)]
struct Cause {
    field: String,
    message: String,
}

fn api(client: &Client, namespace: &str, kind: Kind) -> Api<DynamicObject> {
    let definition = kind.definition().spec;
    let resource = ApiResource {
        group: definition.group.clone(),
        version: crds::VERSION.to_owned(),
        api_version: crds::API_VERSION.to_owned(),
        kind: definition.names.kind,
        plural: definition.names.plural,
    };
    Api::namespaced_with(client.clone(), namespace, &resource)
}

fn object(kind: Kind, name: &str, spec: &Value) -> DynamicObject {
    let kind = kind.definition().spec.names.kind;
    let object = json!({"apiVersion": crds::API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

/// What the API server says of a row; nothing if it takes it. A row with an old spec is an update of what stands.
async fn judge(api: &Api<DynamicObject>, kind: Kind, index: usize, row: &Row) -> Vec<Cause> {
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let name = format!("row-{index}");
    let new = object(kind, &name, &row.spec);
    let answer = match &row.old {
        None => api.create(&dry, &new).await,
        Some(old) => {
            let stands = api.create(&PostParams::default(), &object(kind, &name, old)).await;
            let stands = stands.unwrap_or_else(|error| panic!("{}: its old spec is refused: {error}", row.name));
            let mut new = new;
            new.metadata.resource_version = stands.metadata.resource_version;
            api.replace(&name, &dry, &new).await
        }
    };
    match answer {
        Ok(_) => Vec::new(),
        Err(Error::Api(status)) if status.code == 422 => {
            let causes = status.details.clone().map(|details| details.causes).unwrap_or_default();
            let cause = |cause: kube::core::response::StatusCause| Cause {
                field: cause.field,
                message: cause.message,
            };
            causes.into_iter().map(cause).collect()
        }
        Err(error) => panic!("{}: {error}", row.name),
    }
}

fn difference(row: &Row, causes: &[Cause]) -> Option<String> {
    let as_wanted = match &row.reject {
        None => causes.is_empty(),
        Some(wanted) => causes.iter().any(|cause| match &wanted.message {
            Some(part) => cause.field == wanted.field && cause.message.contains(part.as_str()),
            None => cause.field.starts_with(&wanted.field) || (wanted.field.starts_with(&cause.field) && !cause.field.is_empty()),
        }),
    };
    (!as_wanted).then(|| {
        let wanted = row
            .reject
            .as_ref()
            .map_or("accept".to_owned(), |wanted| format!("{} {:?}", wanted.field, wanted.message));
        format!("{}: wanted {wanted}, got {causes:#?}", row.name)
    })
}

/// Every CEL rule's message below a schema.
fn rules(schema: &Value, found: &mut BTreeSet<String>) {
    own_rules(schema, found);
    for inner in schema["properties"].as_object().into_iter().flat_map(|all| all.values()) {
        rules(inner, found);
    }
    for inner in ["items", "additionalProperties"].iter().filter_map(|inner| schema.get(inner)) {
        rules(inner, found);
    }
}

/// The messages of the rules that judge this value: those whose carrier is in it.
fn judging(schema: &Value, value: &Value, found: &mut BTreeSet<String>) {
    own_rules(schema, found);
    for (name, inner) in value.as_object().into_iter().flatten().filter(|(_, inner)| !inner.is_null()) {
        if let Some(property) = schema["properties"].get(name) {
            judging(property, inner, found);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        judging(&schema["items"], item, found);
    }
}

fn own_rules(schema: &Value, found: &mut BTreeSet<String>) {
    let messages = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    found.extend(messages.map(|rule| rule["message"].as_str().unwrap().to_owned()));
}

#[tokio::test]
async fn every_row_gets_its_verdict_from_the_api_server_and_every_rule_accepts_and_rejects_one() {
    let cluster = Cluster::shared();
    let (client, namespace) = (cluster.client(User::Editor), cluster.namespace());
    let (mut differences, mut said) = (Vec::new(), BTreeMap::<Kind, Vec<String>>::new());
    let mut count = 0;
    for (kind, table) in TABLE {
        let api = api(&client, &namespace, kind);
        let rows: Vec<Row> = serde_yaml::from_str(table).unwrap();
        assert!(rows.iter().any(|row| row.reject.is_none()));
        for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.mode.as_deref() != Some("Files")) {
            let causes = judge(&api, kind, index, row).await;
            differences.extend(difference(row, &causes).map(|text| format!("{kind}: {text}")));
            said.entry(kind).or_default().extend(causes.into_iter().map(|cause| cause.message));
            count += 1;
        }
        let schema = &serde_json::to_value(kind.definition()).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let (mut messages, mut passed) = (BTreeSet::new(), BTreeSet::new());
        rules(schema, &mut messages);
        assert!(!messages.is_empty());
        for row in rows.iter().filter(|row| row.reject.is_none() && row.mode.as_deref() != Some("Files")) {
            judging(schema, &row.spec, &mut passed);
        }
        differences.extend(
            messages
                .difference(&passed)
                .map(|message| format!("{kind}: no row passes the rule: {message}")),
        );
        // The whole sentence with its remedy, not only a part of it.
        for message in messages {
            let heard = said[&kind].iter().any(|said| said.ends_with(&message));
            if !heard {
                differences.push(format!("{kind}: no refusal says: {message}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    eprintln!("{count} rows judged by the API server");
}

#[tokio::test]
async fn names_of_253_characters_are_taken_and_longer_ones_refused() {
    let cluster = Cluster::shared();
    let (client, namespace) = (cluster.client(User::Editor), cluster.namespace());
    let longest = format!("{}.{}", "a".repeat(126), "b".repeat(126));
    assert_eq!(longest.len(), 253);
    for (kind, manifest) in [Kind::ProxyConfig, Kind::LlmProject, Kind::WitheringToken]
        .into_iter()
        .zip(super::manifests(&longest))
    {
        let api = api(&client, &namespace, kind);
        let mut object: DynamicObject = serde_json::from_value(manifest).unwrap();
        let made = api.create(&PostParams::default(), &object).await.unwrap();
        assert_eq!(made.metadata.name.as_deref(), Some(&*longest));
        object.metadata.name = Some(format!("{longest}d"));
        let Err(Error::Api(status)) = api.create(&PostParams::default(), &object).await else {
            panic!("{kind}: taken")
        };
        assert!(status.code == 422 && status.message.contains("no more than 253"), "{status:?}");
    }
}

#[tokio::test]
async fn a_field_that_nobody_knows_is_refused_by_strict_validation_and_warned_of_otherwise() {
    let cluster = Cluster::shared();
    super::published(cluster).await;
    let namespace = cluster.namespace();
    let mut token = super::manifests("typo")[2].clone();
    token["spec"]["tttl"] = "1h".into();
    let apply = |mode: &str| cluster.kubectl_with_input(User::Editor, &["apply", "-n", &namespace, mode, "-f", "-"], &token.to_string());
    let refused = apply("--validate=strict").refused();
    assert!(refused.contains(r#"unknown field "spec.tttl""#), "{refused}");
    let answer = apply("--validate=warn");
    assert!(answer.stderr.contains(r#"unknown field "spec.tttl""#), "{answer:?}");
    let _ = answer.ok();
}

//! Golden files of the children: what users and policies see of a fleet changes only on purpose.

use crds::{ProxyConfig, ProxyConfigSpec};
use serde_json::Value;
use store::Claim;

use super::boot_hash::BootInputs;
use super::deployment::{Pods, deployment};
use super::disruption_budget::disruption_budget;
use super::services::services;
use super::{Parent, parent_name};

fn parent() -> Parent {
    let mut object = ProxyConfig::new("main", ProxyConfigSpec::default());
    object.metadata.namespace = Some("llm".to_owned());
    object.metadata.uid = Some("0d9f".to_owned());
    Parent::of(&object)
}

fn pods_of(spec: &str) -> Value {
    let spec: ProxyConfigSpec = serde_yaml::from_str(spec).unwrap();
    let claim = Claim {
        cluster: "c1".to_owned(),
        namespace: "llm".to_owned(),
        name: "main".to_owned(),
    };
    let boot = BootInputs {
        database_url: "postgres://u:canary@db/llm".into(),
        encryption_key: "a2V5".into(),
        key_ids: vec!["0a1b2c3d".to_owned()],
        fleet: None,
    };
    let pods = Pods {
        spec: &spec,
        default_image: "registry.example.com/llm-proxy:0.1.0",
        claim: &claim,
        database_secret: ("llm-db-app", "uri"),
        boot: &boot,
    };
    serde_json::to_value(deployment(&parent(), &pods)).unwrap()
}

const LEAST: &str = "{database: {postgres: {secretRef: {name: llm-db-app}}}, providers: []}";

#[test]
fn the_deployment_of_a_spec_that_says_nothing() {
    let pods = pods_of(LEAST);
    assert!(!pods.to_string().contains("canary"));
    insta::assert_yaml_snapshot!(pods);
}

#[test]
fn the_services_and_the_disruption_budget() {
    let budget = disruption_budget(&parent(), 2).unwrap();
    insta::assert_yaml_snapshot!((services(&parent()), budget));
    assert!(disruption_budget(&parent(), 1).is_none() && disruption_budget(&parent(), 0).is_none());
}

#[test]
fn the_spec_says_image_resources_drain_and_replicas() {
    let pods = pods_of(
        "{database: {postgres: {secretRef: {name: llm-db-app}}}, providers: [], replicas: 5, image: {tag: next, pullPolicy: Always}, \
         resources: {requests: {cpu: '2'}}, drain: {preStopSeconds: 0, gracePeriodSeconds: 5}}",
    );
    assert_eq!(pods["spec"]["replicas"], 5);
    let pod = &pods["spec"]["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 5);
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "registry.example.com/llm-proxy:next");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["resources"], serde_json::json!({"requests": {"cpu": "2"}}));
    let args: Vec<&str> = container["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(args.contains(&"--drain-delay=0s") && args.contains(&"--drain-grace=4s"), "{args:?}");
}

#[test]
fn only_what_pods_read_at_their_start_changes_the_boot_hash() {
    let hash = |spec: &str| pods_of(spec)["spec"]["template"]["metadata"]["annotations"]["llm-proxy.dev/boot-hash"].clone();
    let least = hash(LEAST);
    let other = |more: &str| {
        hash(&format!(
            "{{database: {{postgres: {{secretRef: {{name: llm-db-app}}}}}}, providers: [], {more}}}"
        ))
    };
    assert_eq!(least, other("replicas: 7"));
    assert_eq!(least, other("allowedProjects: {from: All}"));
    assert_ne!(least, other("image: {tag: next}"));
    assert_ne!(least, other("drain: {gracePeriodSeconds: 60}"));
}

#[test]
fn a_child_tells_whose_it_is() {
    let parent = parent();
    let metadata = parent.metadata("main");
    assert!(parent.owns(&metadata));
    assert_eq!(parent_name(&metadata), Some("main"));
    let another = Parent {
        uid: "another".to_owned(),
        ..parent
    };
    assert!(!another.owns(&metadata), "one of the same name that is gone");
}

//! A ProxyConfig becomes Secrets, Services, a PodDisruptionBudget and a Deployment, which are kept as they are wanted and serve.

use std::time::Duration;

use crds::conditions::ConditionType;
use crds::{LlmProject, ProxyConfig, WitheringToken};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod as KubePod, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use testkit::client::{self, Request};
use testkit::cluster::User;

use crate::fleet_stage::{HEALS, SOON, Stage};

fn project() -> Value {
    json!({"apiVersion": "llm-proxy.dev/v1alpha1", "kind": "LLMProject", "metadata": {"name": "shop"},
        "spec": {"proxyRef": {"name": "main"}, "providers": [{"name": "echo"}]}})
}

fn token(state: &str) -> Value {
    json!({"apiVersion": "llm-proxy.dev/v1alpha1", "kind": "WitheringToken", "metadata": {"name": "app"},
        "spec": {"projectRef": {"name": "shop"}, "state": state}})
}

fn token_says(stage: &Stage, about: ConditionType, wanted: &str) {
    stage.until(&format!("{about} of the token is {wanted}"), SOON, || {
        let status = stage.get::<WitheringToken>("app")?.status?;
        let condition = crds::conditions::find(&status.conditions, about)?;
        (format!("{} {}", condition.status, condition.reason) == wanted).then_some(())
    });
}

#[test]
fn a_pod_with_the_deployments_own_arguments_and_files_serves_and_is_waited_for_when_something_is_taken_away() {
    let mut stage = Stage::with_fleet(json!({"replicas": 1}));
    stage.says(ConditionType::Available, "False NoReplicas");
    let mut pod = stage.start_pod("main");
    pod.process.wait_until_ready();
    // It reports to the database, and the Deployment knows of no pod that is ready: Ready says what READY REPLICAS says.
    stage.until("its replica is counted", SOON, || {
        let rows = stage.database.number("SELECT COUNT(*) FROM replicas");
        (rows == 1).then_some(())
    });
    stage.patch::<ProxyConfig>("main", &json!({"metadata": {"annotations": {"example.com/poke": "look"}}}));
    stage.says(ConditionType::Ready, "False NoReplicas");
    stage.until("the pod is ready by its node's word", SOON, || {
        (stage.cluster.set_pods_ready(&stage.namespace, true) == 1).then_some(())
    });
    stage.says(ConditionType::Ready, "True Ready");
    assert_eq!(stage.fleet("main").status.unwrap().ready_replicas, Some(1));
    let programmed = stage.says(ConditionType::Programmed, "True Programmed");
    assert!(programmed.message.contains("1/1"), "{}", programmed.message);
    let status = stage.fleet("main").status.unwrap();
    assert_eq!(
        status.url.as_deref(),
        Some(format!("http://main.{}.svc:8080/v1", stage.namespace).as_str())
    );
    assert_eq!(status.management_secret_name.as_deref(), Some("main-management"));
    assert!(status.database.unwrap().schema_version.is_some());

    // What the Deployment's probes ask is answered where they ask.
    let deployment: Deployment = stage.wait_for("main");
    let container = &deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0];
    for probe in [&container.startup_probe, &container.liveness_probe, &container.readiness_probe] {
        let path = probe.as_ref().unwrap().http_get.as_ref().unwrap().path.clone().unwrap();
        assert_eq!(client::send(pod.manage(), &Request::get(&path)).unwrap().status, 200, "{path}");
    }
    let management = stage.value("main-management", "token").unwrap();
    let projects = Request::get("/manage/projects").bearer(&management);
    assert_eq!(client::send(pod.manage(), &projects).unwrap().status, 200);

    stage.apply::<LlmProject>("shop", &project());
    stage.apply::<WitheringToken>("app", &token("Active"));
    token_says(&stage, ConditionType::Ready, "True Issued");
    let key = stage.value("app", "token").unwrap();
    let chat = Request::post(
        "/v1/chat/completions",
        &json!({"model": "echo", "messages": [{"role": "user", "content": "fox"}]}),
    )
    .bearer(&key);
    assert_eq!(pod.process.send(&chat).status, 200);

    // A paused replica acknowledges nothing, and is named until it does.
    let pid = pod.process.pid().to_string();
    let signal = |name: &str| assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    stage.apply::<WitheringToken>("app", &token("Revoked"));
    token_says(&stage, ConditionType::Programmed, "False AwaitingReplicas");
    signal("-CONT");
    token_says(&stage, ConditionType::Programmed, "True Programmed");
    assert_eq!(pod.process.send(&chat).status, 401);

    // A fresh management token reaches the running pod through its file.
    stage.delete::<Secret>("main-management");
    let fresh = stage.until("a fresh management token", SOON, || {
        stage.value("main-management", "token").filter(|fresh| *fresh != management)
    });
    std::fs::write(&pod.files()["management-token"], &fresh).unwrap();
    let projects = Request::get("/manage/projects").bearer(&fresh);
    stage.until("the pod takes the fresh token", SOON, || {
        (client::send(pod.manage(), &projects).ok()?.status == 200).then_some(())
    });
    pod.process.stop();
    stage.says(ConditionType::Available, "False NoReplicas");
    stage.stop();
}

#[test]
fn an_image_that_cannot_be_pulled_is_said_within_seconds_and_heals_when_it_is_corrected() {
    let mut stage = Stage::with_fleet(json!({"replicas": 1, "image": {"tag": "typo"}}));
    let wait = |reason: &str| {
        stage.until("its pod waits", SOON, || {
            (stage.cluster.set_pods_waiting(&stage.namespace, reason) == 1).then_some(())
        });
    };
    wait("ErrImagePull");
    for about in [ConditionType::Ready, ConditionType::Progressing] {
        let failed = stage.fleet_says("main", about, "False ImagePullFailed", HEALS);
        assert!(
            failed.message.contains("llm-proxy:typo") && failed.message.contains("spec.image"),
            "{}",
            failed.message
        );
    }
    stage.says(ConditionType::Stalled, "True ImagePullFailed");
    let events = stage.until("it is told", SOON, || {
        let events = stage.kubectl(&["get", "events.events.k8s.io", "-o", "jsonpath={.items[*].note}"]);
        events.contains("llm-proxy:typo").then_some(events)
    });
    assert!(
        !events.contains("as the node says"),
        "the node's words change with each attempt: {events}"
    );
    // Its next word for the same thing is nothing new.
    let mark = stage.cluster.audit_mark();
    wait("ImagePullBackOff");
    stage.patch::<ProxyConfig>("main", &json!({"metadata": {"annotations": {"example.com/poke": "look"}}}));
    stage.until("it was looked at again", SOON, || {
        let asked = stage.cluster.audit_since(mark);
        asked
            .iter()
            .any(|entry| entry.user == User::Operator.name() && entry.resource == "pods" && entry.namespace == stage.namespace)
            .then_some(())
    });
    let written = stage.cluster.writes_since(User::Operator, mark);
    let written: Vec<_> = written
        .iter()
        .filter(|entry| entry.namespace == stage.namespace && entry.resource == "proxyconfigs")
        .collect();
    assert!(written.is_empty(), "{written:#?}");

    let before = stage.boot_hash();
    stage.declare("main", json!({"replicas": 1}));
    stage.until("the Deployment is corrected", HEALS, || (stage.boot_hash() != before).then_some(()));
    let mut pod = stage.start_pod("main");
    pod.process.wait_until_ready();
    stage.until("the new pod is ready", SOON, || {
        stage.cluster.set_pods_ready(&stage.namespace, true);
        let status = stage.fleet("main").status?;
        let ready = crds::conditions::find(&status.conditions, ConditionType::Ready)?;
        (ready.status == "True" && status.ready_replicas >= Some(1)).then_some(())
    });
    stage.says(ConditionType::Progressing, "False Deployed");
    stage.stop();
}

#[test]
fn a_changed_field_is_put_right_and_what_others_added_stays() {
    let stage = Stage::with_fleet(json!({"replicas": 2, "resources": {"limits": {"cpu": "1000m", "memory": "0.5Gi"}}}));
    stage.wait_for::<Deployment>("main");
    stage.says(ConditionType::Progressing, "True RollingOut");
    let foreign = json!({"metadata": {"annotations": {"others.example.com/note": "kept"}, "labels": {"others": "kept"}},
        "spec": {"template": {"metadata": {"annotations": {"others.example.com/restarted": "kept"}}}}});
    stage.patch::<Deployment>("main", &foreign);
    stage.kubectl(&[
        "patch",
        "deployment",
        "main",
        "--type=strategic",
        "-p",
        r#"{"spec": {"template": {"spec": {"containers": [{"name": "sidecar", "image": "example.com/sidecar"}]}}}}"#,
    ]);
    stage.kubectl(&["set", "image", "deployment/main", "proxy=example.com/another"]);
    stage.patch::<Service>("main", &json!({"spec": {"selector": {"app": "another"}}}));
    stage.delete::<Service>("main-manage");
    stage.delete::<PodDisruptionBudget>("main");
    let image = stage.options.image.clone();
    stage.until("the image is ours again", HEALS, || {
        let deployment = stage.json::<Deployment>("main");
        let containers = deployment["spec"]["template"]["spec"]["containers"].as_array()?.clone();
        (containers.len() == 2 && containers.iter().any(|container| container["image"] == image.as_str())).then_some(())
    });
    stage.until("the Services and the budget are ours again", HEALS, || {
        stage.get::<Service>("main-manage")?;
        stage.get::<PodDisruptionBudget>("main")?;
        let selector = stage.get::<Service>("main")?.spec?.selector?;
        (selector.get("llm-proxy.dev/proxy").is_some_and(|name| name == "main")).then_some(())
    });
    let deployment: Deployment = stage.wait_for("main");
    assert_eq!(deployment.annotations()["others.example.com/note"], "kept");
    assert_eq!(deployment.labels()["others"], "kept");
    let template = deployment.spec.unwrap().template;
    assert_eq!(template.metadata.unwrap().annotations.unwrap()["others.example.com/restarted"], "kept");

    // One pod needs no budget; what is no longer wanted of a field goes, too.
    stage.kubectl(&["scale", "llmpx/main", "--replicas=1"]);
    stage.until("the budget is gone", HEALS, || {
        stage.get::<PodDisruptionBudget>("main").is_none().then_some(())
    });
    stage.kubectl(&["scale", "llmpx/main", "--replicas=3"]);
    stage.until("three replicas and a budget", HEALS, || {
        stage.get::<PodDisruptionBudget>("main")?;
        (stage.get::<Deployment>("main")?.spec?.replicas == Some(3)).then_some(())
    });
    stage.declare("main", json!({"replicas": 3}));
    stage.until("the limit of cpu is gone", HEALS, || {
        let deployment = stage.json::<Deployment>("main");
        let containers = deployment["spec"]["template"]["spec"]["containers"].as_array()?.clone();
        let ours = containers.iter().find(|container| container["name"] == "proxy")?;
        ours["resources"]["limits"].get("cpu").is_none().then_some(())
    });
    let selector = stage.fleet("main").status.unwrap().selector.unwrap();
    let pods = stage.kubectl(&["get", "pods", "-l", &selector, "-o", "name"]);
    assert!(pods.contains("pod/main-"), "{pods}");
}

#[test]
fn a_namespace_under_pod_security_restricted_takes_the_pods() {
    let mut stage = Stage::new();
    stage.kubectl(&["label", "namespace", &stage.namespace, "pod-security.kubernetes.io/enforce=restricted"]);
    stage.make_database_secret("database", "url", &stage.database.url());
    stage.declare("main", json!({"replicas": 2}));
    stage.start();
    stage.until("two pods were admitted", SOON, || {
        let pods = stage.kubectl(&["get", "pods", "-l", "llm-proxy.dev/proxy=main", "-o", "name"]);
        (pods.lines().count() == 2).then_some(())
    });
    // The same namespace refuses what is less restricted.
    let plain = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let refused = stage
        .cluster
        .kubectl_with_input(User::Admin, &["-n", &stage.namespace, "apply", "-f", "-"], &plain.to_string());
    assert!(refused.refused().contains("restricted"));
    assert!(stage.get::<KubePod>("plain").is_none());
}

#[test]
fn the_encryption_key_is_never_made_anew_and_the_management_token_is() {
    let mut stage = Stage::with_fleet(json!({"replicas": 0}));
    stage.says(ConditionType::DatabaseReady, "True DatabaseReady");
    let token = stage.value("main-management", "token").unwrap();
    stage.delete::<Secret>("main-management");
    let fresh = stage.until("a fresh token", HEALS, || {
        stage.value("main-management", "token").filter(|fresh| *fresh != token)
    });
    stage.patch::<Secret>("main-management", &json!({"data": {"token": ""}}));
    stage.until("a further token", HEALS, || {
        stage
            .value("main-management", "token")
            .filter(|further| !further.is_empty() && *further != fresh)
    });
    stage.until("it is told", SOON, || {
        let events = stage.kubectl(&["get", "events.events.k8s.io", "-o", "jsonpath={.items[*].reason}"]);
        events.contains("ManagementSecretGenerated").then_some(())
    });
    let owned: Secret = stage.wait_for("main-management");
    assert_eq!(owned.owner_references().len(), 1);

    let kept: Secret = stage.wait_for("main-encryption");
    assert!(kept.owner_references().is_empty(), "retained");
    let key = stage.value("main-encryption", "key").unwrap();
    stage.delete::<Secret>("main-encryption");
    let lost = stage.says(ConditionType::DatabaseReady, "False EncryptionKeyMismatch");
    assert!(lost.message.contains("restore"), "{}", lost.message);
    stage.says(ConditionType::Stalled, "True EncryptionKeyMismatch");
    assert!(stage.get::<Secret>("main-encryption").is_none());
    // Another key is not the key, also for an operator that starts with it.
    let another = "dGhlIHNlYWxpbmcga2V5IG9mIHRoZSB0ZXN0cywgMzI=";
    stage.make_database_secret("main-encryption", "key", another);
    stage.fleet_says("main", ConditionType::DatabaseReady, "False EncryptionKeyMismatch", HEALS);
    stage.stop();
    stage.start();
    let annotation = json!({"metadata": {"annotations": {"example.com/seen": "by another"}}});
    stage.patch::<ProxyConfig>("main", &annotation);
    let wrong = stage.until("the new operator says so, too", SOON, || {
        let condition = stage.says(ConditionType::DatabaseReady, "False EncryptionKeyMismatch");
        condition
            .message
            .contains("another key than the database was sealed with")
            .then_some(condition)
    });
    assert!(!wrong.message.contains(another) && !wrong.message.contains(&key));
    // What comes from a copy has lost its annotation and is known by the database.
    stage.make_database_secret("main-encryption", "key", &key);
    stage.fleet_says("main", ConditionType::DatabaseReady, "True DatabaseReady", SOON);
}

#[test]
fn what_belongs_to_somebody_else_is_left_as_it_is_and_named() {
    let mut stage = Stage::new();
    stage.make_database_secret("main-management", "token", "a-person's");
    stage.make_database_secret("main-encryption", "key", "dGhlIHNlYWxpbmcga2V5IG9mIHRoZSB0ZXN0cywgMzI=");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "main-manage"}, "spec": {"ports": [{"port": 1}]}});
    stage.apply::<Service>("main-manage", &service);
    stage.make_database_secret("database", "url", &stage.database.url());
    stage.declare("main", json!({}));
    stage.start();
    let conflict = stage.says(ConditionType::ResolvedRefs, "False SecretConflict");
    assert!(conflict.message.contains("main-management"), "{}", conflict.message);
    stage.delete::<Secret>("main-management");
    stage.until("the next conflict is named", HEALS, || {
        let condition = stage.says(ConditionType::ResolvedRefs, "False SecretConflict");
        condition.message.contains("main-encryption").then_some(())
    });
    stage.delete::<Secret>("main-encryption");
    let conflict = stage.fleet_says("main", ConditionType::ResolvedRefs, "False NameConflict", HEALS);
    assert!(conflict.message.contains("main-manage"), "{}", conflict.message);
    let service: Service = stage.wait_for("main-manage");
    assert_eq!(service.spec.unwrap().ports.unwrap()[0].port, 1);
    stage.delete::<Service>("main-manage");
    stage.says(ConditionType::ResolvedRefs, "True ResolvedRefs");
    stage.wait_for::<Deployment>("main");
}

#[test]
fn a_name_of_253_characters_and_a_thousand_annotations_are_no_obstacle() {
    let stage = Stage::with_fleet(json!({"replicas": 1}));
    let long = "n".repeat(253);
    let other = testkit::postgres::Database::create();
    stage.make_database_secret("another", "uri", &other.url());
    let annotations: serde_json::Map<String, Value> = (0..1_000).map(|n| (format!("managed.example.com/{n}"), json!("x"))).collect();
    let object = json!({"apiVersion": "llm-proxy.dev/v1alpha1", "kind": "ProxyConfig", "metadata": {"name": long, "annotations": annotations},
        "spec": {"database": {"postgres": {"secretRef": {"name": "another"}}}, "providers": [{"name": "echo", "api": "Echo"}], "replicas": 1}});
    stage.apply::<ProxyConfig>(&long, &object);
    stage.fleet_says(&long, ConditionType::DatabaseReady, "True DatabaseReady", SOON);
    stage.fleet_says(&long, ConditionType::Progressing, "True RollingOut", SOON);
    let status = stage.fleet(&long).status.unwrap();
    let url = status.url.unwrap();
    let service = url.strip_prefix("http://").unwrap().split('.').next().unwrap().to_owned();
    assert!(service.len() <= 63);
    let service: Service = stage.wait_for(&service);
    assert!(service.annotations().len() < 10);
    assert!(stage.get::<Secret>(&status.management_secret_name.unwrap()).is_some());
    let pods = stage.until("its pod", SOON, || {
        let pods = stage.kubectl(&["get", "pods", "-l", status.selector.as_deref()?, "-o", "name"]);
        (!pods.is_empty()).then_some(pods)
    });
    assert_eq!(pods.lines().count(), 1);
}

#[test]
fn sqlite_is_refused_with_the_remedy() {
    let mut stage = Stage::new();
    stage.declare("main", json!({"database": {"sqlite": {}}}));
    stage.start();
    let refused = stage.says(ConditionType::Accepted, "False InvalidSpec");
    assert!(refused.message.contains("spec.database.postgres.secretRef"), "{}", refused.message);
    assert!(stage.get::<Deployment>("main").is_none() && stage.get::<Secret>("main-management").is_none());
}

#[test]
fn a_converged_fleet_is_written_to_by_nobody_and_goes_with_its_children() {
    let stage = Stage::with_fleet(json!({"replicas": 1}));
    stage.until("its pod is counted", SOON, || {
        (stage.fleet("main").status?.replicas == Some(1)).then_some(())
    });
    let mark = stage.cluster.audit_mark();
    // Woken a hundred times, it finds nothing to do.
    for n in 0..100 {
        stage.patch::<ProxyConfig>("main", &json!({"metadata": {"annotations": {"example.com/poke": n.to_string()}}}));
    }
    stage.make_database_secret("main-encryption", "note", "looked at last");
    std::thread::sleep(Duration::from_secs(2));
    let written: Vec<String> = stage
        .cluster
        .writes_since(User::Operator, mark)
        .iter()
        .filter(|entry| entry.namespace == stage.namespace && entry.resource != "leases")
        .map(testkit::cluster::audit::Entry::line)
        .collect();
    assert!(written.is_empty(), "{written:#?}");
    stage.delete::<ProxyConfig>("main");
    stage.until("its children are gone", SOON, || {
        let gone = stage.get::<Deployment>("main").is_none() && stage.get::<Service>("main").is_none();
        (gone && stage.get::<Secret>("main-management").is_none()).then_some(())
    });
    assert!(stage.get::<Secret>("main-encryption").is_some(), "retained");
}

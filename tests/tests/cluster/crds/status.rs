//! Status as the operator writes it, and the tools that wait for it and scale by it.

use std::process::Stdio;

use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};
use testkit::cluster::{Cluster, User};

use super::{manifests, text};

/// One status for each kind of [`manifests`], Ready as said, as the operator applies it.
pub(super) fn statuses(name: &str, ready: &str) -> [Value; 3] {
    let conditions = json!([{
        "type": "Ready", "status": ready, "reason": if ready == "True" { "Ready" } else { "SecretNotFound" },
        "message": "as the test says", "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 1,
    }]);
    let status = |kind: &str, mut status: Value| {
        status["conditions"] = conditions.clone();
        status["observedGeneration"] = 1.into();
        json!({"apiVersion": crds::API_VERSION, "kind": kind, "metadata": {"name": name}, "status": status})
    };
    [
        status(
            "ProxyConfig",
            json!({"replicas": 2, "readyReplicas": 1, "selector": "llm-proxy.dev/proxy=x", "url": "http://x.t.svc:8080/v1"}),
        ),
        status("LLMProject", json!({})),
        status(
            "WitheringToken",
            json!({
                "revision": 3, "secretName": "app-llm", "tokenPrefix": "sk-lp-1a2B3c4D",
                "issuedTime": "2026-01-02T03:04:05Z", "renewalTime": "2026-01-02T19:04:05Z", "expirationTime": "2026-01-03T03:04:05Z",
            }),
        ),
    ]
}

/// Applies statuses with the operator's rights and field manager.
pub(super) async fn write(cluster: &Cluster, namespace: &str, statuses: &[Value]) {
    let client = cluster.client(User::Operator);
    for status in statuses {
        let kind = GroupVersionKind::gvk(crds::GROUP, crds::VERSION, status["kind"].as_str().unwrap());
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind));
        let manager = PatchParams::apply("llm-proxy-operator-status").force();
        api.patch_status(status["metadata"]["name"].as_str().unwrap(), &manager, &Patch::Apply(status))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn kubectl_waits_for_ready_of_all_three_kinds() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    cluster
        .kubectl_with_input(User::Editor, &["apply", "-n", &namespace, "-f", "-"], &text(&manifests("app")))
        .ok();
    write(cluster, &namespace, &statuses("app", "False")).await;
    let mut wait = cluster.kubectl_command(User::Editor);
    wait.args([
        "wait",
        "--for=condition=Ready",
        "llmpx/app",
        "llmproj/app",
        "wtok/app",
        "--timeout=30s",
        "-n",
        &namespace,
    ]);
    let mut wait = wait.stdout(Stdio::piped()).spawn().unwrap();
    assert!(wait.try_wait().unwrap().is_none());
    write(cluster, &namespace, &statuses("app", "True")).await;
    let output = tokio::task::spawn_blocking(|| wait.wait_with_output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.matches("condition met").count() == 3, "{said}");
}

#[tokio::test]
async fn a_fleet_is_scaled_by_its_scale_subresource() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    cluster
        .kubectl_with_input(User::Editor, &["apply", "-n", &namespace, "-f", "-"], &text(&manifests("app")))
        .ok();
    write(cluster, &namespace, &statuses("app", "True")).await;
    let kubectl = |args: &[&str]| cluster.kubectl(&[args, &["-n", &namespace]].concat());
    kubectl(&["scale", "llmpx/app", "--replicas=5"]).ok();
    let spec = kubectl(&["get", "llmpx", "app", "-o", "jsonpath={.spec.replicas} {.metadata.generation}"]);
    assert_eq!(spec.ok(), "5 2");
    // What an autoscaler reads.
    let scale = kubectl(&["get", "llmpx", "app", "--subresource=scale", "-o", "json"]).ok();
    let scale: Value = serde_json::from_str(&scale).unwrap();
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 5}), &json!({"replicas": 2, "selector": "llm-proxy.dev/proxy=x"}))
    );
    let refused = kubectl(&["scale", "llmpx/app", "--replicas=501"]).refused();
    assert!(
        refused.contains("spec.replicas") && refused.contains("less than or equal to 500"),
        "{refused}"
    );
}

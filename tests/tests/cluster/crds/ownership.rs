//! Who may change what: two appliers on one list, and status apart from spec.

use crds::WitheringToken;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Error};
use serde_json::{Value, json};
use testkit::cluster::{Cluster, User};

use super::{manifests, text};

fn providers(cluster: &Cluster, namespace: &str) -> Vec<String> {
    let names = cluster.kubectl(&["get", "llmpx", "shared", "-n", namespace, "-o", "jsonpath={.spec.providers[*].name}"]);
    names.ok().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn two_appliers_own_different_providers_of_one_fleet() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    let apply = |manager: &str, spec: Value| {
        let object = json!({"apiVersion": crds::API_VERSION, "kind": "ProxyConfig", "metadata": {"name": "shared"}, "spec": spec});
        let manager = format!("--field-manager={manager}");
        cluster.kubectl_with_input(
            User::Editor,
            &["apply", "--server-side", &manager, "-n", &namespace, "-f", "-"],
            &object.to_string(),
        )
    };
    let echo = json!({"name": "echo", "api": "Echo"});
    let vllm = |url: &str| json!({"name": "vllm", "api": "OpenAI", "baseURL": url, "auth": "None"});
    let database = json!({"postgres": {"secretRef": {"name": "pg"}}});
    apply("platform", json!({"database": database, "providers": [echo]})).ok();
    apply("models", json!({"providers": [vllm("http://one.models.svc")]})).ok();
    assert_eq!(providers(cluster, &namespace), ["echo", "vllm"]);
    // The other's entry is the other's.
    let conflict = apply(
        "platform",
        json!({"database": database, "providers": [echo, vllm("http://two.models.svc")]}),
    )
    .refused();
    assert!(
        conflict.contains("conflict with \"models\"") && conflict.contains(".baseURL"),
        "{conflict}"
    );
    apply("models", json!({"providers": [vllm("http://two.models.svc")]})).ok();
    apply("platform", json!({"database": database, "providers": [echo], "replicas": 3})).ok();
    assert_eq!(providers(cluster, &namespace), ["echo", "vllm"]);
    apply("models", json!({})).ok();
    assert_eq!(providers(cluster, &namespace), ["echo"]);
}

#[tokio::test]
async fn status_is_changed_through_its_subresource_alone_and_by_the_operator_alone() {
    let cluster = Cluster::shared();
    let namespace = cluster.namespace();
    cluster
        .kubectl_with_input(User::Editor, &["apply", "-n", &namespace, "-f", "-"], &text(&manifests("app")))
        .ok();
    let tokens = |user| Api::<WitheringToken>::namespaced(cluster.client(user), &namespace);
    let status = json!({"apiVersion": crds::API_VERSION, "kind": "WitheringToken", "status": {"revision": 7}});
    // The status of a user's object, and the spec of the operator's status.
    let merged = tokens(User::Editor)
        .patch("app", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
    assert!(merged.status.is_none());
    let mut put = merged.clone();
    put.status = serde_json::from_value(json!({"revision": 7})).unwrap();
    assert!(
        tokens(User::Editor)
            .replace("app", &PostParams::default(), &put)
            .await
            .unwrap()
            .status
            .is_none()
    );
    let refused = tokens(User::Editor)
        .patch_status("app", &PatchParams::default(), &Patch::Merge(&status))
        .await;
    assert!(matches!(&refused, Err(Error::Api(status)) if status.code == 403), "{refused:?}");
    let mut both = status.clone();
    both["spec"] = json!({"projectRef": {"name": "app"}, "maxRequests": 1});
    let manager = PatchParams::apply("llm-proxy-operator-status").force();
    let written = tokens(User::Operator).patch_status("app", &manager, &Patch::Apply(&both)).await.unwrap();
    assert_eq!((written.status.unwrap().revision, written.spec.max_requests), (Some(7), Some(100)));
    // The operator never writes a user's object.
    let refused = tokens(User::Operator).patch("app", &manager, &Patch::Apply(&both)).await;
    assert!(matches!(&refused, Err(Error::Api(status)) if status.code == 403), "{refused:?}");
    // A status that was decided on an older object is refused.
    both["metadata"] = json!({"resourceVersion": merged.metadata.resource_version});
    both["status"]["revision"] = 8.into();
    let stale = tokens(User::Operator).patch_status("app", &manager, &Patch::Apply(&both)).await;
    assert!(matches!(&stale, Err(Error::Api(status)) if status.code == 409), "{stale:?}");
}

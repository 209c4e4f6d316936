//! The three definitions on a real API server: what it accepts and says, how it shows the objects, and who may change what.

mod accept_reject;
mod ownership;
mod shown;
mod status;

use std::time::{Duration, Instant};

use crds::Kind;
use serde_json::{Value, json};
use testkit::cluster::{Cluster, User};
use testkit::wait;

/// A valid object of each kind, all named alike.
fn manifests(name: &str) -> [Value; 3] {
    let object = |kind: &str, spec: Value| json!({"apiVersion": crds::API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec});
    [
        object(
            "ProxyConfig",
            json!({"database": {"postgres": {"secretRef": {"name": "pg"}}}, "replicas": 2, "providers": [{"name": "echo", "api": "Echo"}]}),
        ),
        object("LLMProject", json!({"proxyRef": {"name": name}, "providers": [{"name": "echo"}]})),
        object("WitheringToken", json!({"projectRef": {"name": name}, "maxRequests": 100})),
    ]
}

/// The plural of a kind with its group, as kubectl takes it.
fn plural(kind: Kind) -> String {
    kind.definition().metadata.name.unwrap()
}

/// Several objects as one text for kubectl.
fn text(objects: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

/// The OpenAPI document of our group. The API server publishes it some time after it serves the kinds, and kubectl explains and validates by it.
async fn published(cluster: &Cluster) -> Value {
    let client = cluster.client(User::Editor);
    let begun = Instant::now();
    loop {
        let request = http::Request::get(format!("/openapi/v3/apis/{}", crds::API_VERSION))
            .body(Vec::new())
            .unwrap();
        let document: Value = client
            .request_text(request)
            .await
            .map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
        let paths = document["paths"].as_object().into_iter().flat_map(|paths| paths.keys());
        if paths.filter(|path| path.ends_with("/{name}")).count() == Kind::ALL.len() {
            return document;
        }
        assert!(begun.elapsed() < wait::SOON, "our kinds are not published: {document}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

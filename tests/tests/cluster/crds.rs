//! The three definitions on a real API server: what it accepts and says, how it shows the objects, and who may change what.

mod accept_reject;
mod ownership;
mod shown;
mod status;

use crds::Kind;
use serde_json::{Value, json};

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

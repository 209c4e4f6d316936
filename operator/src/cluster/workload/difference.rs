//! Whether an object that stands says everything that we want it to say. What others have added to it is theirs and is passed over.
//! It refuses to know kinds: objects are JSON here.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// On our objects: the hash of what was wanted when they were applied, so that a field that is no longer wanted is seen, too.
pub(crate) const DESIRED_HASH: &str = "llm-proxy.dev/desired-hash";

/// Maps that the API treats as one value (`x-kubernetes-map-type: atomic`): a further key in them is no addition but another selection, so that a
/// Service with it finds no pod.
const ATOMIC: [&str; 3] = ["selector", "labelSelector", "nodeSelector"];

/// Writes the hash of what is wanted into its annotations.
pub(crate) fn stamp(mut wanted: Value) -> Value {
    let hash = digest(&wanted);
    if let Some(metadata) = wanted.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(DESIRED_HASH.to_owned(), Value::String(hash));
        }
    }
    wanted
}

/// A hash of a JSON value as it is written.
pub(crate) fn digest(value: &Value) -> String {
    let digest = Sha256::digest(value.to_string().as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The path of the first field of `wanted` that stands otherwise, such as `spec.replicas`; none if all is as wanted.
pub(crate) fn difference(wanted: &Value, stands: &Value) -> Option<String> {
    find(wanted, &projection(wanted, stands), &mut Vec::new())
}

/// What stands of the fields that are wanted; of an atomic map all that stands. Objects of a list are found by their name, where they have one, and by their place otherwise.
pub(crate) fn projection(wanted: &Value, stands: &Value) -> Value {
    match (wanted, stands) {
        (Value::Object(wanted), Value::Object(stands)) => {
            let field = |(name, wanted): (&String, &Value)| {
                let stands = stands.get(name)?;
                let is_atomic = ATOMIC.contains(&name.as_str());
                Some((name.clone(), if is_atomic { stands.clone() } else { projection(wanted, stands) }))
            };
            Value::Object(wanted.iter().filter_map(field).collect())
        }
        (Value::Array(wanted), Value::Array(stands)) if wanted.iter().all(Value::is_object) => {
            let item = |(at, wanted): (usize, &Value)| {
                let same_name = |other: &&Value| other.get("name") == wanted.get("name");
                let found = match wanted.get("name") {
                    Some(_) => stands.iter().find(same_name),
                    None => stands.get(at),
                };
                found.map_or(Value::Null, |stands| projection(wanted, stands))
            };
            Value::Array(wanted.iter().enumerate().map(item).collect())
        }
        (_, stands) => stands.clone(),
    }
}

fn find(wanted: &Value, stands: &Value, path: &mut Vec<String>) -> Option<String> {
    let at = |path: &[String]| path.join(".");
    match (wanted, stands) {
        (Value::Object(wanted), Value::Object(stands)) => {
            let found = wanted.iter().find_map(|(name, wanted)| {
                path.push(name.clone());
                let found = match stands.get(name) {
                    Some(stands) => find(wanted, stands, path),
                    None => Some(at(path)),
                };
                path.pop();
                found
            });
            // Only an atomic map still has, after the projection, what is not wanted.
            found.or_else(|| stands.keys().any(|name| !wanted.contains_key(name)).then(|| at(path)))
        }
        (Value::Array(wanted), Value::Array(stands)) if wanted.len() == stands.len() => {
            wanted.iter().zip(stands).enumerate().find_map(|(index, (wanted, stands))| {
                path.push(index.to_string());
                let found = find(wanted, stands, path);
                path.pop();
                found
            })
        }
        (Value::String(wanted), Value::String(stands)) if is_amount(path) && crds::same_amount(wanted, stands) => None,
        (wanted, stands) => (wanted != stands).then(|| at(path)),
    }
}

/// Amounts are stored in the API server's own spelling: "1000m" as "1".
fn is_amount(path: &[String]) -> bool {
    path.iter().rev().nth(1).is_some_and(|part| part == "limits" || part == "requests")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_added_is_passed_over() {
        let wanted = json!({"spec": {"replicas": 2, "containers": [{"name": "proxy", "args": ["a", "b"]}]}});
        let stands = json!({"spec": {"replicas": 2, "paused": false, "containers": [
            {"name": "sidecar"}, {"name": "proxy", "args": ["a", "b"], "imagePullPolicy": "Always"}]}, "status": {}});
        assert_eq!(difference(&wanted, &stands), None);
    }

    #[test]
    fn a_changed_field_is_named() {
        let wanted = json!({"spec": {"replicas": 2, "containers": [{"name": "proxy", "args": ["a", "b"]}]}});
        for (stands, path) in [
            (
                json!({"spec": {"replicas": 3, "containers": [{"name": "proxy", "args": ["a", "b"]}]}}),
                "spec.replicas",
            ),
            (
                json!({"spec": {"replicas": 2, "containers": [{"name": "proxy", "args": ["a", "b", "c"]}]}}),
                "spec.containers.0.args",
            ),
            (
                json!({"spec": {"replicas": 2, "containers": [{"name": "other", "args": ["a", "b"]}]}}),
                "spec.containers.0",
            ),
            (json!({"spec": {"containers": []}}), "spec.containers.0"),
        ] {
            let found = difference(&wanted, &stands);
            assert!(
                found.as_deref().is_some_and(|found| path.starts_with(found) || found.starts_with(path)),
                "{path}: {found:?}"
            );
        }
    }

    #[test]
    fn a_further_key_of_a_selector_is_a_difference() {
        let wanted = json!({"spec": {"selector": {"app": "proxy"}, "ports": [{"name": "http"}]}});
        let stands = |selector| json!({"spec": {"selector": selector, "clusterIP": "10.0.0.1", "ports": [{"name": "http", "nodePort": 1}]}});
        assert_eq!(difference(&wanted, &stands(json!({"app": "proxy"}))), None);
        for selector in [json!({"app": "proxy", "foreign": "x"}), json!({"app": "other"}), json!({})] {
            let found = difference(&wanted, &stands(selector.clone()));
            assert!(found.is_some_and(|found| found.starts_with("spec.selector")), "{selector}");
        }
        let labels = |labels| json!({"spec": {"selector": {"matchLabels": labels}}});
        assert!(difference(&labels(json!({"app": "proxy"})), &labels(json!({"app": "proxy", "foreign": "x"}))).is_some());
    }

    #[test]
    fn an_amount_may_be_spelled_otherwise_and_nothing_else_may() {
        let wanted = json!({"resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}}});
        assert_eq!(
            difference(&wanted, &json!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}})),
            None
        );
        assert!(difference(&wanted, &json!({"resources": {"limits": {"cpu": "2", "memory": "1Gi"}}})).is_some());
        assert!(difference(&json!({"port": "1000m"}), &json!({"port": "1"})).is_some());
    }

    #[test]
    fn a_stamp_tells_one_wish_from_another() {
        let one = stamp(json!({"metadata": {"name": "a"}, "spec": {"replicas": 1}}));
        let other = stamp(json!({"metadata": {"name": "a"}, "spec": {}}));
        assert_ne!(
            one["metadata"]["annotations"][DESIRED_HASH],
            other["metadata"]["annotations"][DESIRED_HASH]
        );
        assert!(difference(&other, &one).is_some(), "a field that is no longer wanted");
    }
}

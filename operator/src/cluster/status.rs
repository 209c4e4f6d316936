//! The status of an object as it is written: by server-side apply, on the version that it was decided on. Pure.
//! It refuses to know what the conditions mean.

use crds::API_VERSION;
use serde_json::{Value, json};

use crate::effect::Status;
use crate::object::Object;

/// The body of the apply. The server refuses it if the object is another one by now, or was changed.
///
/// # Errors
/// None that a status of ours can cause; the serialiser's type demands it.
pub(crate) fn body(object: &Object, version: &str, status: &Status) -> serde_json::Result<Value> {
    Ok(json!({
        "apiVersion": API_VERSION,
        "kind": object.kind.as_str(),
        "metadata": {
            "namespace": object.namespace,
            "name": object.name,
            "uid": object.uid.as_str(),
            "resourceVersion": version,
        },
        "status": status.to_json()?,
    }))
}

/// Whether two statuses say the same. The order of conditions is the server's, which merges them by their type.
pub(crate) fn same(left: &Status, right: &Status) -> bool {
    let sorted = |status: &Status| {
        let mut json = status.to_json().ok()?;
        if let Some(conditions) = json.get_mut("conditions").and_then(Value::as_array_mut) {
            conditions.sort_by_key(|condition| condition["type"].as_str().unwrap_or_default().to_owned());
        }
        Some(json)
    };
    let left = sorted(left);
    left.is_some() && left == sorted(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::conditions::{Condition, ConditionType, Finding, merge};
    use crds::{Kind, Reason, WitheringTokenStatus};
    use store::ResourceUid;

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn statuses_are_the_same_whatever_the_order_of_their_conditions() {
        let findings = [
            Finding::holds(ConditionType::Accepted, Reason::Accepted, ""),
            Finding::holds(ConditionType::Ready, Reason::Issued, ""),
        ];
        let status = |conditions: Vec<Condition>| {
            Status::Token(WitheringTokenStatus {
                conditions,
                ..WitheringTokenStatus::default()
            })
        };
        let conditions = merge(&[], &findings, 1, at(1));
        let reversed = conditions.iter().rev().cloned().collect();
        assert!(same(&status(conditions.clone()), &status(reversed)));
        assert!(!same(&status(conditions.clone()), &status(conditions[..1].to_vec())));
    }

    #[test]
    fn the_body_names_the_version_and_the_object_that_it_was_decided_on() {
        let object = Object {
            kind: Kind::LlmProject,
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            uid: ResourceUid::new("u-1"),
            generation: 3,
        };
        let body = body(&object, "17", &Status::Project(crds::LlmProjectStatus::default())).unwrap();
        assert_eq!(body["metadata"]["resourceVersion"], "17");
        assert_eq!(
            (body["metadata"]["uid"].as_str(), body["kind"].as_str()),
            (Some("u-1"), Some("LLMProject"))
        );
    }
}

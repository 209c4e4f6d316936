//! Which pod of a fleet is asked: one that is ready. It refuses to know how it is reached.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

use super::cluster::{Act, Cluster};
use super::find::Fleet;
use crate::exit::{Failure, Kind};

/// The name of a pod that is ready.
///
/// # Errors
/// One line: there is none, or the caller may not look.
pub(super) async fn ready_pod(cluster: &Cluster, fleet: &Fleet) -> Result<String, Failure> {
    let space = &fleet.namespace;
    let unready = |why: &str| {
        Failure::of(
            Kind::Network,
            format_args!(
                "the fleet {} has no pod that is ready ({why}): `kubectl describe proxyconfig -n {space} {}` says why",
                fleet.full_name(),
                fleet.name
            ),
        )
    };
    let Some(selector) = &fleet.selector else {
        return Err(unready("the operator has made none yet"));
    };
    let cannot = format!("cannot look for the pods of the fleet {}", fleet.full_name());
    let right = format!("list on pods in namespace {space}");
    let act = Act {
        cannot: &cannot,
        right: &right,
    };
    let api: Api<Pod> = Api::namespaced(cluster.client(), space);
    let pods = cluster.ask(api.list(&ListParams::default().labels(selector)), act).await?.items;
    match choose(&pods) {
        Some(name) => Ok(name.to_owned()),
        None if pods.is_empty() => Err(unready("there are none")),
        None => Err(unready(&format!("of {}", pods.len()))),
    }
}

/// The youngest that is ready and is not about to end: of a fleet that is being rolled it stays longest.
fn choose(pods: &[Pod]) -> Option<&str> {
    let ready = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod));
    let youngest = ready.max_by_key(|pod| (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), &pod.metadata.name));
    youngest.and_then(|pod| pod.metadata.name.as_deref())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, minute: u32, ready: &str, ending: bool) -> Pod {
        let mut pod = serde_json::json!({
            "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:{minute:02}:00Z")},
            "status": {"phase": "Running", "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": ready}]},
        });
        if ending {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T01:00:00Z".into();
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn the_youngest_pod_that_is_ready_and_stays_is_taken() {
        let pods = [
            pod("old", 1, "True", false),
            pod("young", 3, "True", false),
            pod("starting", 4, "False", false),
            pod("ending", 5, "True", true),
            Pod::default(),
        ];
        assert_eq!(choose(&pods), Some("young"));
        assert_eq!(choose(&pods[2..]), None);
        assert_eq!(choose(&[]), None);
    }
}

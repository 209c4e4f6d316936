//! Why the pods of a fleet do not come up, read from their status. Pods are listed only while a Deployment is not whole: nobody watches them.
//! It refuses to know the words that people are told.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use super::failure::{ApiFailure, api};
use super::workload::deployment::BOOT_HASH;
use crate::fleet::PodTrouble;

/// The kubelet's words for an image that it cannot have (kubernetes/pkg/kubelet/images/types.go).
const IMAGE_FAILS: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];
/// The kubelet's words for a container that cannot be made from its spec, for example because a Secret lacks a key.
const NOT_MADE: [&str; 4] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PreCreateHookError",
];
/// The kubelet's word for a container that ends again and again.
const CRASHES: &str = "CrashLoopBackOff";
/// So many ends of a container that is not ready are more than an accident. They are counted because its state changes with each attempt.
const MANY_RESTARTS: i32 = 2;
/// The most pods that are looked at: more than a ProxyConfig can ask for.
const MOST_PODS: u32 = 1_000;

/// What keeps the pods of a fleet from running: those of the Deployment's present template, for the others are on their way out.
///
/// # Errors
/// [`ApiFailure`].
pub(crate) async fn look(client: &Client, namespace: &str, selector: &str, boot_hash: Option<&str>) -> Result<Option<PodTrouble>, ApiFailure> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    match api(pods.list(&ListParams::default().labels(selector).limit(MOST_PODS))).await {
        Ok(listed) => Ok(trouble(&listed.items, boot_hash)),
        // A role of an older release: what can be said without is said.
        Err(ApiFailure::Refused(why)) => {
            tracing::debug!(namespace, "why pods do not come up cannot be found out: {why}");
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// The gravest trouble of any pod; of two images the first by name, so that two looks say the same.
fn trouble(pods: &[Pod], boot_hash: Option<&str>) -> Option<PodTrouble> {
    let of_present_template = |pod: &&Pod| {
        let hash = pod.annotations().get(BOOT_HASH).map(String::as_str);
        pod.metadata.deletion_timestamp.is_none() && hash == boot_hash
    };
    pods.iter().filter(of_present_template).filter_map(trouble_of).min()
}

fn trouble_of(pod: &Pod) -> Option<PodTrouble> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let unschedulable = || {
        let conditions = status.conditions.iter().flatten();
        let refused = |reason: &Option<String>| reason.as_deref() == Some("Unschedulable");
        conditions
            .into_iter()
            .any(|condition| condition.type_ == "PodScheduled" && condition.status == "False" && refused(&condition.reason))
            .then_some(PodTrouble::Unschedulable)
    };
    containers.filter_map(|container| trouble_in(pod, container)).min().or_else(unschedulable)
}

fn trouble_in(pod: &Pod, container: &ContainerStatus) -> Option<PodTrouble> {
    let waiting = container
        .state
        .as_ref()
        .and_then(|state| state.waiting.as_ref()?.reason.as_deref())
        .unwrap_or_default();
    if IMAGE_FAILS.contains(&waiting) {
        return Some(PodTrouble::ImagePull {
            image: image(pod, &container.name).unwrap_or_else(|| container.image.clone()),
        });
    }
    if NOT_MADE.contains(&waiting) {
        return Some(PodTrouble::NotMade);
    }
    (waiting == CRASHES || (container.restart_count >= MANY_RESTARTS && !container.ready)).then_some(PodTrouble::Crashing)
}

/// The image as the pod asks for it: a status may have it under another name.
fn image(pod: &Pod, container: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.find(|asked| asked.name == container)?.image.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(status: Value) -> Pod {
        let text = json!({
            "metadata": {"name": "main-1", "annotations": {BOOT_HASH: "now"}},
            "spec": {"containers": [{"name": "proxy", "image": "registry.example/llm-proxy:typo"}]},
            "status": status,
        });
        serde_json::from_value(text).unwrap()
    }

    fn waiting(reason: &str) -> Pod {
        container(json!({"state": {"waiting": {"reason": reason, "message": "Back-off 10s"}}}))
    }

    fn container(members: Value) -> Pod {
        let mut status = json!({"name": "proxy", "image": "sha256:0", "imageID": "", "ready": false, "restartCount": 0});
        for (name, value) in members.as_object().cloned().unwrap() {
            status[name] = value;
        }
        pod(json!({"containerStatuses": [status]}))
    }

    fn unschedulable() -> Pod {
        pod(json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}))
    }

    fn of(pods: &[Pod]) -> Option<PodTrouble> {
        trouble(pods, Some("now"))
    }

    #[test]
    fn each_word_of_the_kubelet_is_known_and_the_image_is_the_one_that_was_asked_for() {
        for reason in ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"] {
            let image = "registry.example/llm-proxy:typo".to_owned();
            assert_eq!(of(&[waiting(reason)]), Some(PodTrouble::ImagePull { image }), "{reason}");
        }
        assert_eq!(of(&[waiting("CreateContainerConfigError")]), Some(PodTrouble::NotMade));
        assert_eq!(of(&[waiting("CrashLoopBackOff")]), Some(PodTrouble::Crashing));
        assert_eq!(of(&[unschedulable()]), Some(PodTrouble::Unschedulable));
        for fine in [waiting("ContainerCreating"), waiting("PodInitializing"), pod(json!({}))] {
            assert_eq!(of(&[fine]), None);
        }
    }

    #[test]
    fn a_container_between_two_ends_is_said_to_crash_as_long_as_it_is_not_ready() {
        let running = |ready| container(json!({"state": {"running": {}}, "restartCount": 3, "ready": ready}));
        assert_eq!(of(&[running(false)]), Some(PodTrouble::Crashing));
        assert_eq!(of(&[running(true)]), None);
        assert_eq!(of(&[container(json!({"restartCount": 1}))]), None);
    }

    #[test]
    fn the_gravest_is_named_whatever_the_order() {
        let (image, crash) = (waiting("ImagePullBackOff"), waiting("CrashLoopBackOff"));
        let pods = [unschedulable(), crash.clone(), image.clone()];
        assert!(matches!(of(&pods), Some(PodTrouble::ImagePull { .. })));
        assert_eq!(of(&[unschedulable(), crash]), Some(PodTrouble::Crashing));
    }

    #[test]
    fn pods_of_another_template_and_those_that_go_do_not_count() {
        let mut going = waiting("ErrImagePull");
        going.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert_eq!(of(&[going]), None);
        assert_eq!(trouble(&[waiting("ErrImagePull")], Some("next")), None);
    }
}

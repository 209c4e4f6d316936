//! What a node would report: there is none, so a test says whether Pods are ready. It refuses to know what they would run.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::Cluster;

impl Cluster {
    /// Makes every Pod of a namespace Ready, or not Ready, as its node would, and returns how many there are. Deployments and Services follow
    /// within a second. (Pods that no node has are gone as soon as they are deleted.)
    ///
    /// # Panics
    /// If the API server refuses.
    pub fn set_pods_ready(&self, namespace: &str, ready: bool) -> usize {
        let (status, now) = (if ready { "True" } else { "False" }, Timestamp::now().to_string());
        let condition = |about: &str| json!({ "type": about, "status": status, "lastTransitionTime": now });
        self.report_pods(namespace, |index, _| {
            let ip = format!("10.244.0.{}", index % 250 + 1);
            json!({
                "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "conditions": [condition("ContainersReady"), condition("Ready")],
                "containerStatuses": null,
            })
        })
    }

    /// Lets the first container of every Pod of a namespace wait for this reason, such as `ErrImagePull`, and returns how many Pods there are.
    ///
    /// # Panics
    /// If the API server refuses.
    pub fn set_pods_waiting(&self, namespace: &str, reason: &str) -> usize {
        self.report_pods(namespace, |_, pod| {
            let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
            let (name, image) = container.map(|container| (&container.name, &container.image)).expect("a container");
            let waiting = json!({ "waiting": { "reason": reason, "message": "as the node says" } });
            let container = json!({ "name": name, "image": image, "imageID": "", "ready": false, "restartCount": 0, "state": waiting });
            json!({ "phase": "Pending", "containerStatuses": [container] })
        })
    }

    fn report_pods(&self, namespace: &str, status: impl Fn(usize, &Pod) -> Value + Send + Sync) -> usize {
        let namespace = namespace.to_owned();
        self.with_admin(|client| async move {
            let api: Api<Pod> = Api::namespaced(client, &namespace);
            let pods = api.list(&ListParams::default()).await.expect("the Pods").items;
            for (index, pod) in pods.iter().enumerate() {
                let patch = json!({ "status": status(index, pod) });
                let patched = api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
                // One that a rollout has just replaced is nobody's concern.
                let gone = matches!(&patched, Err(kube::Error::Api(status)) if status.code == 404);
                assert!(gone || patched.is_ok(), "{patched:?}");
            }
            pods.len()
        })
    }
}

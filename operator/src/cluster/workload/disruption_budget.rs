//! The PodDisruptionBudget of a fleet: one pod at a time is taken away on purpose. A fleet of one pod has none, for it would block every drain of
//! its node. It refuses to know pods.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Parent, labels};

/// The budget of a fleet of so many replicas; none below two.
pub(crate) fn disruption_budget(parent: &Parent, replicas: i32) -> Option<PodDisruptionBudget> {
    (replicas >= 2).then(|| PodDisruptionBudget {
        metadata: parent.metadata(&parent.names.deployment),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(labels::selector(&parent.name)),
                ..LabelSelector::default()
            }),
            // A pod that is not ready serves nobody: it must not keep a node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}

//! How a fleet's pods stand: whether they serve, whether they are being replaced, and what keeps them from running.
//! It refuses to know the database and how pods are looked at.

use crds::Reason;
use crds::conditions::{ConditionType, Finding};
use store::DbTime;

use super::available;
use crate::fleet::{FleetObserved, PodTrouble, Rollout};
use crate::observed::ProxyConfigObserved;

/// How soon to look again why pods do not come up, in ms: nothing tells what becomes of a pod before its Deployment has it.
const LOOK_AT_PODS_MS: i64 = 2_000;
/// The same once it is known why they do not, or that they do not in time.
const LOOK_AT_PODS_AGAIN_MS: i64 = 10_000;

/// When to look again at pods that are not all as wanted.
pub(super) fn recheck(seen: &ProxyConfigObserved, fleet: &FleetObserved) -> Option<DbTime> {
    let rollout = fleet.rollout.as_ref().filter(|rollout| !rollout.is_whole())?;
    let is_known = fleet.trouble.is_some() || rollout.failed.is_some();
    Some(seen.resource.now.plus_ms(if is_known { LOOK_AT_PODS_AGAIN_MS } else { LOOK_AT_PODS_MS }))
}

/// `Available`: a pod is ready by the Deployment, and a replica reports to the database, if that can be asked.
pub(super) fn serving(seen: &ProxyConfigObserved, fleet: &FleetObserved) -> Finding {
    let rollout = fleet.rollout.clone().unwrap_or_default();
    let (wanted, reporting) = (seen.resource.spec.replicas(), seen.resource.replicas.len());
    let holds = |message: String| Finding::holds(ConditionType::Available, Reason::Available, message);
    if rollout.available == 0 {
        return nothing_serves(fleet, wanted);
    }
    let pods = format!("{} of {wanted} pods are ready by the Deployment", rollout.available);
    if !fleet.is_live() {
        return holds(format!("{pods}; the database cannot be asked"));
    }
    match available(seen).reason {
        Reason::NoReplicas => Finding::fails(
            ConditionType::Available,
            Reason::NoReplicas,
            format!("no replica reports to the database, though {pods}: look at the pods' log"),
        ),
        _ => holds(format!("{pods}, {reporting} replicas report to the database")),
    }
}

/// `Available`, where no pod is ready.
fn nothing_serves(fleet: &FleetObserved, wanted: i32) -> Finding {
    let fails = |reason, message: String| Finding::fails(ConditionType::Available, reason, message);
    match &fleet.trouble {
        _ if fleet.rollout.is_none() => fails(Reason::NoReplicas, "there is no Deployment yet, and so no pod".to_owned()),
        _ if wanted == 0 => fails(Reason::NoReplicas, "spec.replicas is 0: nothing serves".to_owned()),
        Some(trouble) => fails(reason_of(trouble).unwrap_or(Reason::NoReplicas), words(trouble, fleet)),
        None => fails(
            Reason::NoReplicas,
            format!("of {wanted} wanted pods none is ready: look at the Deployment and its pods"),
        ),
    }
}

/// The reason that a condition has for a trouble of pods, if it has one of its own.
fn reason_of(trouble: &PodTrouble) -> Option<Reason> {
    matches!(trouble, PodTrouble::ImagePull { .. }).then_some(Reason::ImagePullFailed)
}

/// What keeps pods from running, and what to do. The same words at each look, for the kubelet's own change with each of its attempts.
fn words(trouble: &PodTrouble, fleet: &FleetObserved) -> String {
    let selector = &fleet.shown.selector;
    match trouble {
        PodTrouble::ImagePull { image } => format!(
            "the image {image} cannot be pulled: correct spec.image, push the image, or give the nodes access to its registry \
             (kubectl describe pods -l {selector} has the node's words)"
        ),
        PodTrouble::NotMade => format!("a node cannot start the container (kubectl describe pods -l {selector} says why)"),
        PodTrouble::Crashing => format!("pods end again and again, CrashLoopBackOff (kubectl logs -l {selector} --previous says why)"),
        PodTrouble::Unschedulable => {
            format!(
                "no node takes the pods, Unschedulable: free or add capacity, or ask for less in spec.resources (kubectl describe pods -l {selector})"
            )
        }
    }
}

/// `Progressing`: whether pods are being replaced.
pub(super) fn progressing(seen: &ProxyConfigObserved) -> Option<Finding> {
    let fleet = seen.fleet.as_ref()?;
    let rollout = fleet.rollout.as_ref()?;
    seen.resource.memory.setback.is_none().then(|| replaced(rollout, fleet))
}

fn replaced(rollout: &Rollout, fleet: &FleetObserved) -> Finding {
    let fails = |reason, message: String| Finding::fails(ConditionType::Progressing, reason, message);
    if rollout.is_whole() {
        return fails(Reason::Deployed, "every pod is as wanted".to_owned());
    }
    let trouble = fleet.trouble.as_ref();
    if let Some((reason, trouble)) = trouble.and_then(|trouble| Some((reason_of(trouble)?, trouble))) {
        return fails(reason, words(trouble, fleet));
    }
    let why = trouble.map(|trouble| format!("; {}", words(trouble, fleet))).unwrap_or_default();
    if let Some(given_up) = &rollout.failed {
        let message = format!("the new pods do not become ready: {given_up}{why}; look at the Deployment's pods, or take the change back");
        return fails(Reason::RolloutFailed, message);
    }
    let message = if rollout.observed {
        format!(
            "{} of {} pods are new, {} available{why}",
            rollout.updated, rollout.wanted, rollout.available
        )
    } else {
        "the Deployment was changed".to_owned()
    };
    Finding::holds(ConditionType::Progressing, Reason::RollingOut, message)
}

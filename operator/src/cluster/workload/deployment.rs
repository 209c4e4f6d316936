//! The Deployment of a fleet's pods. They have no identity in Kubernetes and no Secret but their own mounted ones, and run under Pod Security
//! `restricted`. It refuses to know when it is applied.

use std::collections::BTreeMap;

use crds::{ContainerResources, ProxyConfigSpec};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, HTTPGetAction, KeyToPath, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource,
    ResourceRequirements, SeccompProfile, SecretProjection, SecurityContext, TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use store::Claim;

use super::boot_hash::{BootInputs, boot_hash};
use super::secrets::{ENCRYPTION_KEY, TOKEN_KEY};
use super::{HTTP_PORT, MANAGE_PORT, Parent, labels};

/// On the pods: what they read at their start. A change replaces them.
pub(crate) const BOOT_HASH: &str = "llm-proxy.dev/boot-hash";

/// The container, and the volume with everything that it reads.
const CONTAINER: &str = "proxy";
const VOLUME: &str = "config";
/// Where the volume is mounted.
pub(crate) const FOLDER: &str = "/etc/llm-proxy";
/// The files in it.
const DATABASE_URL_FILE: &str = "database-url";
const ENCRYPTION_KEY_FILE: &str = "encryption-key";
const MANAGEMENT_TOKEN_FILE: &str = "management-token";

/// The user and group of distroless' `nonroot`.
const NONROOT: i64 = 65_532;
/// Readable by owner and group, and nobody else.
const FILE_MODE: i32 = 0o440;

/// Seconds between the end of running requests and the end of the grace period: usage is settled and leases are returned then.
const SETTLE_SECONDS: i32 = 5;
/// Seconds in which the new pods of a rollout must become ready before it counts as failed; also how many old templates are kept.
const PROGRESS_DEADLINE_SECONDS: i32 = 600;
const REVISIONS: i32 = 5;

/// What a pod asks for, and its limit of memory, unless the spec says otherwise.
const CPU_REQUEST: &str = "100m";
const MEMORY_REQUEST: &str = "128Mi";
/// More than the request bodies that a process holds at most.
const MEMORY_LIMIT: &str = "1Gi";

/// What the Deployment is built from, besides its parent.
#[derive(Clone, Debug)]
pub(crate) struct Pods<'a> {
    /// The spec.
    pub(crate) spec: &'a ProxyConfigSpec,
    /// The operator's own image.
    pub(crate) default_image: &'a str,
    /// Whose database it is.
    pub(crate) claim: &'a Claim,
    /// The Secret with the database URL, and the key in it.
    pub(crate) database_secret: (&'a str, &'a str),
    /// What pods read at their start from outside the template.
    pub(crate) boot: &'a BootInputs,
}

impl Pods<'_> {
    /// The image that the pods run.
    pub(crate) fn image(&self) -> String {
        image(self.spec, self.default_image)
    }
}

/// The image that a fleet's pods run.
pub(crate) fn image(spec: &ProxyConfigSpec, default: &str) -> String {
    spec.image.as_ref().map_or_else(|| default.to_owned(), |image| image.reference(default))
}

/// The Deployment.
pub(crate) fn deployment(parent: &Parent, pods: &Pods<'_>) -> Deployment {
    let args = args(pods);
    let hash = boot_hash(pods.boot, &pods.image(), &args, &[HTTP_PORT, MANAGE_PORT]);
    let selector = LabelSelector {
        match_labels: Some(labels::selector(&parent.name)),
        ..LabelSelector::default()
    };
    Deployment {
        metadata: parent.metadata(&parent.names.deployment),
        spec: Some(DeploymentSpec {
            replicas: Some(pods.spec.replicas()),
            revision_history_limit: Some(REVISIONS),
            progress_deadline_seconds: Some(PROGRESS_DEADLINE_SECONDS),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::String("25%".to_owned())),
                }),
            }),
            selector: selector.clone(),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels::of_child(&parent.name)),
                    annotations: Some(BTreeMap::from([(BOOT_HASH.to_owned(), hash)])),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(parent, pods, args, &selector)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn pod(parent: &Parent, pods: &Pods<'_>, args: Vec<String>, selector: &LabelSelector) -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        // One variable per Service of the namespace would be noise, and might be read as a setting of ours.
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(pods.spec.drain.clone().unwrap_or_default().grace_period_seconds().into()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(NONROOT),
            run_as_group: Some(NONROOT),
            fs_group: Some(NONROOT),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        topology_spread_constraints: Some(
            ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
                .map(|key| spread(key, selector))
                .into(),
        ),
        containers: vec![container(pods, args)],
        volumes: Some(vec![volume(parent, pods)]),
        ..PodSpec::default()
    }
}

fn spread(key: &str, selector: &LabelSelector) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(selector.clone()),
        ..TopologySpreadConstraint::default()
    }
}

fn container(pods: &Pods<'_>, args: Vec<String>) -> Container {
    let port = |name: &str, port| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let pull_policy = pods.spec.image.as_ref().and_then(|image| image.pull_policy);
    Container {
        name: CONTAINER.to_owned(),
        image: Some(pods.image()),
        image_pull_policy: pull_policy.map(|policy| policy.as_str().to_owned()),
        // Whatever the image's own entry point is, the arguments are ours.
        command: Some(vec!["llm-proxy".to_owned()]),
        args: Some(args),
        ports: Some(vec![port("http", HTTP_PORT), port("manage", MANAGE_PORT)]),
        // Two minutes until it lives; it lives while the database is away, and is ready once it has been reached.
        startup_probe: Some(probe("/live", 2, 2, 60)),
        liveness_probe: Some(probe("/live", 10, 5, 6)),
        readiness_probe: Some(probe("/ready", 2, 2, 2)),
        resources: Some(resources(pods.spec.resources.as_ref())),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: FOLDER.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

/// The arguments of `llm-proxy proxy`.
fn args(pods: &Pods<'_>) -> Vec<String> {
    let drain = pods.spec.drain.clone().unwrap_or_default();
    let (delay, whole) = (drain.pre_stop_seconds(), drain.grace_period_seconds());
    let rest = (whole - delay).max(1);
    // A short rest is shared: a second to settle is better than none.
    let grace = rest - SETTLE_SECONDS.min(rest / 4).max(1).min(rest);
    let file = |flag: &str, name: &str| format!("--{flag}={FOLDER}/{name}");
    vec![
        "proxy".to_owned(),
        format!("--claim={}", pods.claim),
        format!("--listen=:{HTTP_PORT}"),
        format!("--manage-listen=:{MANAGE_PORT}"),
        file("database-url-file", DATABASE_URL_FILE),
        file("encryption-key-file", ENCRYPTION_KEY_FILE),
        file("management-token-file", MANAGEMENT_TOKEN_FILE),
        format!("--drain-delay={delay}s"),
        format!("--drain-grace={grace}s"),
        "--log-format=json".to_owned(),
    ]
}

/// The management port answers for health, too: it is none of the threads that carry streams.
fn probe(path: &str, period: i32, timeout: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("manage".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn resources(spec: Option<&ContainerResources>) -> ResourceRequirements {
    let Some(spec) = spec else {
        let amounts = |pairs: &[(&str, &str)]| {
            Some(
                pairs
                    .iter()
                    .map(|(name, text)| ((*name).to_owned(), Quantity((*text).to_owned())))
                    .collect(),
            )
        };
        return ResourceRequirements {
            requests: amounts(&[("cpu", CPU_REQUEST), ("memory", MEMORY_REQUEST)]),
            limits: amounts(&[("memory", MEMORY_LIMIT)]),
            ..ResourceRequirements::default()
        };
    };
    let amounts = |amounts: &Option<crds::Amounts>| {
        let named = amounts.iter().flat_map(|amounts| [("cpu", &amounts.cpu), ("memory", &amounts.memory)]);
        let set: BTreeMap<String, Quantity> = named
            .filter_map(|(name, text)| Some((name.to_owned(), Quantity(text.clone()?))))
            .collect();
        (!set.is_empty()).then_some(set)
    };
    ResourceRequirements {
        requests: amounts(&spec.requests),
        limits: amounts(&spec.limits),
        ..ResourceRequirements::default()
    }
}

/// Everything that the pod reads, in one folder whose files change together.
fn volume(parent: &Parent, pods: &Pods<'_>) -> Volume {
    let file = |secret: &str, key: &str, path: &str| VolumeProjection {
        secret: Some(SecretProjection {
            name: secret.to_owned(),
            items: Some(vec![KeyToPath {
                key: key.to_owned(),
                path: path.to_owned(),
                mode: None,
            }]),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    let (secret, key) = pods.database_secret;
    Volume {
        name: VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(FILE_MODE),
            sources: Some(vec![
                file(secret, key, DATABASE_URL_FILE),
                file(&parent.names.encryption_secret, ENCRYPTION_KEY, ENCRYPTION_KEY_FILE),
                file(&parent.names.management_secret, TOKEN_KEY, MANAGEMENT_TOKEN_FILE),
            ]),
        }),
        ..Volume::default()
    }
}

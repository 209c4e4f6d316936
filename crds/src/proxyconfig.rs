//! ProxyConfig: a fleet as the platform team declares it, with its database and the providers that it can reach.
//! Its parts stand in `database`, `provider`, `pods` and `allowed`. It refuses to know projects and tokens.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::allowed::AllowedProjects;
use crate::base_url;
use crate::database::{Database, DatabaseStatus};
use crate::deletion::DeletionPolicy;
use crate::pods::{ContainerResources, DEFAULT_REPLICAS, Drain, Image, MAX_REPLICAS};
use crate::provider::Provider;
use crate::schema::{self, MAX_SAFE_INTEGER, MAX_SUBDOMAIN};
use crate::validate::{Mode, Validate, Violation};

/// The most providers that a fleet may have.
const MAX_PROVIDERS: usize = 32;

const UNIQUE_NAME: &str = "stands in the list twice; give each provider a name of its own";

/// A fleet of proxies: which database it keeps its state in and which LLM providers it forwards to.
///
/// Whose projects use it is said by LLMProjects, never here.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "llm-proxy.dev",
    version = "v1alpha1",
    kind = "ProxyConfig",
    plural = "proxyconfigs",
    shortname = "llmpx",
    category = "llm-proxy",
    namespaced,
    status = "ProxyConfigStatus",
    derive = "PartialEq",
    doc = "A ProxyConfig is a fleet of llm-proxy: its database, its LLM providers and its pods. LLMProjects use it by name.",
    label("app.kubernetes.io/part-of", "llm-proxy"),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the fleet serves."
    ),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "How many pods are ready."
    ),
    printcolumn(
        name = "URL",
        type_ = "string",
        json_path = ".status.url",
        description = "The base URL for applications.",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is ready or not.",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation."
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct ProxyConfigSpec {
    /// Where the fleet keeps projects, tokens, limits and usage. Exactly one engine. `llm-proxy standalone` uses its own SQLite file in place of it.
    pub database: Database,

    /// The LLM providers that the fleet can reach, each under a name of its own. LLMProjects refer to them by these names.
    #[schemars(length(min = 1, max = MAX_PROVIDERS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub providers: Vec<Provider>,

    /// How many pods serve, 0 to 500; 2 if unset. 0 stops serving and keeps everything. Only in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = MAX_REPLICAS))]
    pub replicas: Option<i32>,

    /// The image of the pods, where it is not the operator's own. Only in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,

    /// What each pod asks for and may use at most. Only in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ContainerResources>,

    /// How a pod ends. Only in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,

    /// Which namespaces may have LLMProjects that use the fleet; its own if unset. Only in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_projects: Option<AllowedProjects>,

    /// What deleting this object means, besides the end of its pods. Retain: the database and the Secret with the encryption key stay, and a
    /// ProxyConfig of the same name takes them up again. Delete: once the pods are gone everything of the fleet in its database goes, audit included,
    /// and the Secret. Only in a cluster.
    #[serde(default, deserialize_with = "schema::null_as_default")]
    pub deletion_policy: DeletionPolicy,
}

impl ProxyConfigSpec {
    /// How many pods serve, with the default filled in.
    #[must_use]
    pub fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(DEFAULT_REPLICAS)
    }

    /// The fields that are set and say something only in a cluster, as `kubectl` names them. `llm-proxy standalone` passes over them, and over
    /// `spec.database`, whatever it says.
    #[must_use]
    pub fn cluster_only(&self) -> Vec<&'static str> {
        [
            (self.replicas.is_some(), "spec.replicas"),
            (self.image.is_some(), "spec.image"),
            (self.resources.is_some(), "spec.resources"),
            (self.drain.is_some(), "spec.drain"),
            (self.allowed_projects.is_some(), "spec.allowedProjects"),
            (self.deletion_policy != DeletionPolicy::Retain, "spec.deletionPolicy"),
        ]
        .into_iter()
        .filter_map(|(set, field)| set.then_some(field))
        .collect()
    }
}

/// What was observed of a fleet.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct ProxyConfigStatus {
    /// metadata.generation of the spec that this status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub observed_generation: Option<i64>,

    /// Accepted, DatabaseReady, Migrated, Programmed, Available and Ready, each with its reason and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The base URL that applications use, ending in /v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = base_url::MAX_LEN))]
    pub url: Option<String>,

    /// How many pods there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000))]
    pub replicas: Option<i32>,

    /// How many of them are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000))]
    pub ready_replicas: Option<i32>,

    /// The label selector of the pods, as text, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,

    /// The image that the pods are to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,

    /// The Secret, in the same namespace, with the token for /manage under the key `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_SUBDOMAIN))]
    pub management_secret_name: Option<String>,

    /// The database as it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseStatus>,
}

impl Validate for ProxyConfigSpec {
    fn validate(&self, mode: Mode) -> Vec<Violation> {
        let mut found = Vec::new();
        self.database.judge("spec.database", &mut found);
        if self.providers.is_empty() || self.providers.len() > MAX_PROVIDERS {
            found.push(Violation::new(
                "spec.providers",
                format!("must hold 1 to {MAX_PROVIDERS} providers; it holds {}", self.providers.len()),
            ));
        }
        for (index, provider) in self.providers.iter().enumerate() {
            let path = format!("spec.providers[{index}]");
            if self.providers[..index].iter().any(|other| other.name == provider.name) {
                found.push(Violation::new(format!("{path}.name"), UNIQUE_NAME));
            }
            provider.judge(&path, mode, &mut found);
        }
        if self.replicas.is_some_and(|replicas| !(0..=MAX_REPLICAS).contains(&replicas)) {
            found.push(Violation::new("spec.replicas", format!("must be from 0 to {MAX_REPLICAS}")));
        }
        if let Some(image) = &self.image {
            image.judge("spec.image", &mut found);
        }
        if let Some(resources) = &self.resources {
            resources.judge("spec.resources", &mut found);
        }
        if let Some(drain) = &self.drain {
            drain.judge("spec.drain", &mut found);
        }
        if let Some(allowed) = &self.allowed_projects {
            allowed.judge("spec.allowedProjects", &mut found);
        }
        found
    }

    fn validate_update(&self, old: &Self) -> Vec<Violation> {
        let mut found = Vec::new();
        self.database.judge_update(&old.database, "spec.database", &mut found);
        found
    }
}

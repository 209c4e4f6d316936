//! LLMProject: a team's share of a fleet, with the Secrets that hold its provider credentials.
//! It refuses to know what those Secrets hold and whether the fleet exists.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::limits::{self, Budget, MAX_BUDGETS, MAX_RATE_LIMITS, ONE_BUDGET_FOR_EACH, ONE_RATE_FOR_EACH_SCOPE, ProjectRateLimit};
use crate::names;
use crate::schema::{self, CelRule, LABEL_PATTERN, MAX_LABEL, MAX_SAFE_INTEGER, MAX_SUBDOMAIN, SECRET_KEY_PATTERN, SUBDOMAIN_PATTERN};
use crate::validate::{Mode, Validate, Violation, check};

/// The key read from a credential's Secret if the spec names none.
pub const DEFAULT_CREDENTIAL_KEY: &str = "api-key";

/// The bound of the list in the schema; what works is [`ONE_PROVIDER`], as a rule whose message can say so.
const MAX_PROVIDERS: usize = 16;

const SAME_PROXY: CelRule = CelRule {
    cel: "self.name == oldSelf.name && has(self.__namespace__) == has(oldSelf.__namespace__) \
          && (!has(self.__namespace__) || self.__namespace__ == oldSelf.__namespace__)",
    message: "cannot be changed, because tokens and usage stay with their fleet; create a new LLMProject that names the other ProxyConfig",
    field_path: None,
};

const ONE_PROVIDER: CelRule = CelRule {
    cel: "size(self) == 1",
    message: "must hold exactly one provider: that is what works until routes exist; create one LLMProject per provider",
    field_path: None,
};

/// A team's project on a fleet: which provider it uses, with which credentials, and whether it is switched on.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "llm-proxy.dev",
    version = "v1alpha1",
    kind = "LLMProject",
    root = "LlmProject",
    plural = "llmprojects",
    shortname = "llmproj",
    category = "llm-proxy",
    namespaced,
    status = "LlmProjectStatus",
    derive = "PartialEq",
    doc = "An LLMProject is a team's share of a ProxyConfig: its provider and the Secret with the credential. WitheringTokens belong to a project.",
    label("app.kubernetes.io/part-of", "llm-proxy"),
    selectable = ".spec.proxyRef.name",
    selectable = ".spec.state",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the project takes requests."
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state", description = "Active or Inactive."),
    printcolumn(name = "Proxy", type_ = "string", json_path = ".spec.proxyRef.name", description = "The ProxyConfig."),
    printcolumn(
        name = "Provider",
        type_ = "string",
        json_path = ".spec.providers[0].name",
        description = "The provider that it uses.",
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
pub struct LlmProjectSpec {
    /// The ProxyConfig that serves this project. It cannot be changed.
    #[x_kube(validation = SAME_PROXY)]
    pub proxy_ref: ProxyRef,

    /// The provider that this project uses, out of those of the ProxyConfig. Exactly one, until routes exist.
    #[schemars(length(max = MAX_PROVIDERS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]), validation = ONE_PROVIDER)]
    pub providers: Vec<ProjectProvider>,

    /// Active: tokens of this project are served. Inactive: every request is refused with project_inactive, and nothing is deleted.
    #[serde(default, deserialize_with = "schema::null_as_default")]
    pub state: ProjectState,

    /// How many requests and LLM tokens the project may use in each minute, hour or day: all tokens together, or each token. At most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_RATE_LIMITS))]
    #[x_kube(merge_strategy = ListMerge::Atomic, validation = ONE_RATE_FOR_EACH_SCOPE)]
    pub rate_limits: Option<Vec<ProjectRateLimit>>,

    /// How much all tokens of the project together may spend in each day, week, month, or in all: at most one budget for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_BUDGETS))]
    #[x_kube(merge_strategy = ListMerge::Atomic, validation = ONE_BUDGET_FOR_EACH)]
    pub budgets: Option<Vec<Budget>>,
}

/// A reference to a ProxyConfig.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(transform = schema::tidy)]
pub struct ProxyRef {
    /// The ProxyConfig's name.
    #[schemars(length(min = 1, max = MAX_SUBDOMAIN), regex(pattern = SUBDOMAIN_PATTERN))]
    pub name: String,

    /// The ProxyConfig's namespace; the project's own if unset. Another one must allow it in its spec.allowedProjects. Only in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_LABEL), regex(pattern = LABEL_PATTERN))]
    pub namespace: Option<String>,
}

/// A provider as a project uses it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(transform = schema::tidy)]
pub struct ProjectProvider {
    /// The provider's name in the ProxyConfig.
    #[schemars(length(min = 1, max = MAX_LABEL), regex(pattern = LABEL_PATTERN))]
    pub name: String,

    /// Where the provider's key comes from. Needed unless the provider has api Echo or auth None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<ProviderCredentials>,
}

/// Where a provider's key comes from.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct ProviderCredentials {
    /// The Secret, in the same namespace, that holds the key. It is read again whenever it changes.
    pub secret_ref: SecretKeyRef,
}

/// One value of a Secret.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[schemars(transform = schema::tidy)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = MAX_SUBDOMAIN), regex(pattern = SUBDOMAIN_PATTERN))]
    pub name: String,

    /// The key inside the Secret; api-key if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_SUBDOMAIN), regex(pattern = SECRET_KEY_PATTERN))]
    pub key: Option<String>,
}

/// Whether a project takes requests.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProjectState {
    /// It does.
    #[default]
    Active,
    /// Every request is refused; nothing is deleted.
    Inactive,
}

impl ProxyRef {
    /// The ProxyConfig's namespace, with the default, the project's own, filled in.
    #[must_use]
    pub fn namespace<'a>(&'a self, own: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(own)
    }
}

impl SecretKeyRef {
    /// The key to read, with the default filled in.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(DEFAULT_CREDENTIAL_KEY)
    }
}

/// What was observed of a project.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct LlmProjectStatus {
    /// metadata.generation of the spec that this status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub observed_generation: Option<i64>,

    /// Accepted, ResolvedRefs, Programmed, Active and Ready, each with its reason and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

impl Validate for LlmProjectSpec {
    fn validate(&self, _mode: Mode) -> Vec<Violation> {
        let mut found = Vec::new();
        check(&mut found, "spec.proxyRef.name", names::dns_subdomain(&self.proxy_ref.name));
        let namespace = self.proxy_ref.namespace.as_deref().map_or(Ok(()), names::dns_label);
        check(&mut found, "spec.proxyRef.namespace", namespace);
        if self.providers.len() != 1 {
            found.push(Violation::new("spec.providers", ONE_PROVIDER.message));
        }
        for (index, provider) in self.providers.iter().enumerate() {
            let path = format!("spec.providers[{index}]");
            check(&mut found, format!("{path}.name"), names::dns_label(&provider.name));
            if let Some(secret) = provider.credentials.as_ref().map(|credentials| &credentials.secret_ref) {
                check(
                    &mut found,
                    format!("{path}.credentials.secretRef.name"),
                    names::dns_subdomain(&secret.name),
                );
                check(&mut found, format!("{path}.credentials.secretRef.key"), names::secret_key(secret.key()));
            }
        }
        limits::judge_project_rates(self.rate_limits.as_deref().unwrap_or_default(), "spec.rateLimits", &mut found);
        limits::judge_budgets(self.budgets.as_deref().unwrap_or_default(), "spec.budgets", &mut found);
        found
    }

    fn validate_update(&self, old: &Self) -> Vec<Violation> {
        if self.proxy_ref == old.proxy_ref {
            Vec::new()
        } else {
            vec![Violation::new("spec.proxyRef", SAME_PROXY.message)]
        }
    }
}

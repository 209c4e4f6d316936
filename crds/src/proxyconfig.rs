//! ProxyConfig: a fleet as the platform team declares it, with its database and the providers that it can reach.
//! It refuses to know projects and tokens; how its pods are run and who may use it stand in `pods` and `allowed`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::allowed::AllowedProjects;
use crate::base_url;
use crate::names;
use crate::pods::{ContainerResources, DEFAULT_REPLICAS, Drain, Image, MAX_REPLICAS};
use crate::schema::{self, CelRule, LABEL_PATTERN, MAX_LABEL, MAX_SAFE_INTEGER, MAX_SUBDOMAIN, SECRET_KEY_PATTERN, SUBDOMAIN_PATTERN};
use crate::validate::{Mode, Validate, Violation, check};

/// The most providers that a fleet may have.
const MAX_PROVIDERS: usize = 32;

/// The keys of a database Secret that are looked for if the spec names none, in this order: our own word, and the one that CloudNativePG writes.
pub const DEFAULT_DATABASE_KEYS: [&str; 2] = ["url", "uri"];

const ONE_ENGINE: CelRule = CelRule {
    cel: "has(self.sqlite) != has(self.postgres)",
    message: "must name exactly one engine: write `postgres: {secretRef: {name: …}}` for a cluster or `sqlite: {}` for llm-proxy standalone",
    field_path: None,
};

const SAME_ENGINE: CelRule = CelRule {
    cel: "has(self.sqlite) == has(oldSelf.sqlite)",
    message: "cannot change its engine, because what is stored does not move; create a new ProxyConfig with the other engine",
    field_path: None,
};

const OPENAI_HAS_URL: CelRule = CelRule {
    cel: "self.api != 'OpenAI' || has(self.baseURL)",
    message: "is required for api OpenAI; give what stands before /v1, such as https://api.openai.com",
    field_path: Some(".baseURL"),
};

const ECHO_HAS_NO_URL: CelRule = CelRule {
    cel: "self.api != 'Echo' || !has(self.baseURL)",
    message: "must be absent for api Echo, which answers inside the proxy; remove it or set api to OpenAI",
    field_path: Some(".baseURL"),
};

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
}

/// The engine that holds the fleet's state.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = ONE_ENGINE, validation = SAME_ENGINE)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct Database {
    /// SQLite, for a single process: only llm-proxy standalone has it so far. It has no settings: write `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<Sqlite>,

    /// PostgreSQL, for any number of pods. The operator migrates it; one database, or one of its schemas, belongs to one ProxyConfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Postgres>,
}

/// Settings of SQLite: none so far.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[schemars(transform = schema::tidy)]
pub struct Sqlite {}

/// How PostgreSQL is reached.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct Postgres {
    /// The Secret, in the same namespace, with the connection URL: `postgres://user:password@host:5432/database`. It is read again when it changes.
    pub secret_ref: DatabaseSecretRef,
}

/// The value of a Secret that holds a database URL.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[schemars(transform = schema::tidy)]
pub struct DatabaseSecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = MAX_SUBDOMAIN), regex(pattern = SUBDOMAIN_PATTERN))]
    pub name: String,

    /// The key inside the Secret; if unset, `url`, or else `uri`, as CloudNativePG writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_SUBDOMAIN), regex(pattern = SECRET_KEY_PATTERN))]
    pub key: Option<String>,
}

/// The engine that a [`Database`] names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Engine<'a> {
    /// SQLite, for a single process.
    Sqlite(&'a Sqlite),
    /// PostgreSQL.
    Postgres(&'a Postgres),
}

impl Database {
    /// The engine named, or none if the spec is invalid.
    #[must_use]
    pub fn engine(&self) -> Option<Engine<'_>> {
        match (&self.sqlite, &self.postgres) {
            (Some(sqlite), None) => Some(Engine::Sqlite(sqlite)),
            (None, Some(postgres)) => Some(Engine::Postgres(postgres)),
            _ => None,
        }
    }
}

impl DatabaseSecretRef {
    /// The keys to look for, in this order.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        self.key.as_deref().map_or_else(|| DEFAULT_DATABASE_KEYS.to_vec(), |key| vec![key])
    }
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
        ]
        .into_iter()
        .filter_map(|(set, field)| set.then_some(field))
        .collect()
    }
}

/// One LLM provider.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = OPENAI_HAS_URL, validation = ECHO_HAS_NO_URL)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct Provider {
    /// The name by which LLMProjects refer to this provider: 1 to 63 lower-case letters, digits or '-'.
    #[schemars(length(min = 1, max = MAX_LABEL), regex(pattern = LABEL_PATTERN))]
    pub name: String,

    /// The API that it speaks. OpenAI: any server compatible with OpenAI's API. Echo: answers inside the proxy, for demos and tests, without any
    /// network.
    pub api: ProviderApi,

    /// The http or https URL that stands before /v1, such as `https://api.openai.com`; a trailing /v1 is accepted. Required for OpenAI, refused
    /// for Echo. Without user, query and fragment. In a cluster it must not be a loopback or link-local address.
    #[serde(rename = "baseURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = base_url::MAX_LEN))]
    #[x_kube(
        validation = base_url::SCHEME,
        validation = base_url::NO_USER,
        validation = base_url::NO_QUERY,
        validation = base_url::SHAPE,
        validation = base_url::ADDRESS,
        validation = base_url::ROUTABLE
    )]
    pub base_url: Option<String>,

    /// How requests to the provider are authenticated. Bearer (if unset): with the project's credential. None: not at all, for keyless servers
    /// such as vLLM or Ollama.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<ProviderAuth>,
}

/// The API that a provider speaks.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProviderApi {
    /// OpenAI's API, or one compatible with it.
    OpenAI,
    /// Answers inside the proxy, for demos and tests.
    Echo,
}

/// How requests to a provider are authenticated.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProviderAuth {
    /// `Authorization: Bearer` with the project's credential.
    #[default]
    Bearer,
    /// Not at all.
    None,
}

impl Provider {
    /// How requests are authenticated, with the default filled in; Echo never is.
    #[must_use]
    pub fn auth(&self) -> ProviderAuth {
        if self.api == ProviderApi::Echo {
            ProviderAuth::None
        } else {
            self.auth.unwrap_or_default()
        }
    }

    /// Whether a project must bring a credential for this provider.
    #[must_use]
    pub fn needs_credentials(&self) -> bool {
        self.auth() == ProviderAuth::Bearer
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

/// A fleet's database as it was found.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct DatabaseStatus {
    /// PostgreSQL or SQLite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub engine: Option<String>,

    /// The version of the schema in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub schema_version: Option<i64>,
}

impl Validate for ProxyConfigSpec {
    fn validate(&self, mode: Mode) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.database.engine().is_none() {
            found.push(Violation::new("spec.database", ONE_ENGINE.message));
        }
        if let Some(secret) = self.database.postgres.as_ref().map(|postgres| &postgres.secret_ref) {
            let path = "spec.database.postgres.secretRef";
            check(&mut found, format!("{path}.name"), names::dns_subdomain(&secret.name));
            let key = secret.key.as_deref().map_or(Ok(()), names::secret_key);
            check(&mut found, format!("{path}.key"), key);
        }
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
        if self.database.sqlite.is_some() == old.database.sqlite.is_some() {
            Vec::new()
        } else {
            vec![Violation::new("spec.database", SAME_ENGINE.message)]
        }
    }
}

impl Provider {
    fn judge(&self, path: &str, mode: Mode, found: &mut Vec<Violation>) {
        let base_url = format!("{path}.baseURL");
        check(found, format!("{path}.name"), names::dns_label(&self.name));
        match (self.api, self.base_url.as_deref()) {
            (ProviderApi::OpenAI, None) => found.push(Violation::new(base_url, OPENAI_HAS_URL.message)),
            (ProviderApi::Echo, None) => {}
            (api, Some(url)) => {
                if api == ProviderApi::Echo {
                    found.push(Violation::new(&base_url, ECHO_HAS_NO_URL.message));
                }
                if url.len() > base_url::MAX_LEN {
                    found.push(Violation::new(&base_url, format!("must be at most {} characters", base_url::MAX_LEN)));
                }
                found.extend(
                    base_url::broken_rules(url, mode)
                        .into_iter()
                        .map(|message| Violation::new(&base_url, message)),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(api: ProviderApi, auth: Option<ProviderAuth>) -> Provider {
        Provider {
            name: "p".to_owned(),
            api,
            base_url: None,
            auth,
        }
    }

    #[test]
    fn only_a_bearer_provider_needs_credentials() {
        assert!(provider(ProviderApi::OpenAI, None).needs_credentials());
        assert!(!provider(ProviderApi::OpenAI, Some(ProviderAuth::None)).needs_credentials());
        assert!(!provider(ProviderApi::Echo, Some(ProviderAuth::Bearer)).needs_credentials());
    }
}

//! WitheringToken: a virtual key that expires by itself, is renewed before it does, and lands in a Secret.
//! It refuses to know the key's value and whether its project exists.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::delivery::{MAX_TRIGGER, Rotation, SecretFormat, TokenSecret};
use crate::duration::{self, DurationError};
use crate::limits::{self, Budget, MAX_BUDGETS, MAX_IN_FLIGHT, MAX_RATE_LIMITS, ONE_BUDGET_FOR_EACH, ONE_RATE_FOR_EACH, TokenRateLimit};
use crate::names;
use crate::schema::{self, CelRule, MAX_SAFE_INTEGER, MAX_SUBDOMAIN, SUBDOMAIN_PATTERN};
use crate::validate::{Mode, Validate, Violation, check};

/// The life of a revision if the spec says nothing.
pub const DEFAULT_TTL: SignedDuration = SignedDuration::from_hours(24);
/// The shortest life of a revision.
pub const MIN_TTL: SignedDuration = SignedDuration::from_mins(1);
/// The longest life of a revision: 365 days.
pub const MAX_TTL: SignedDuration = SignedDuration::from_hours(8760);

const SAME_PROJECT: CelRule = CelRule {
    cel: "self.name == oldSelf.name",
    message: "cannot be changed, because a key never moves to another project; create a new WitheringToken that names the other LLMProject",
    field_path: Some(".name"),
};

const TTL_IN_BOUNDS: CelRule = CelRule {
    cel: "duration(self) >= duration('1m') && duration(self) <= duration('8760h')",
    message: "must be from 1m to 8760h (365 days)",
    field_path: None,
};

const REVOKED_IS_FINAL: CelRule = CelRule {
    cel: "!has(oldSelf.state) || oldSelf.state != 'Revoked' || (has(self.state) && self.state == 'Revoked')",
    message: "cannot leave Revoked, which is final; create a new WitheringToken (Suspended is the state that can be left)",
    field_path: Some(".state"),
};

const OVERLAP_WITHIN_TTL: CelRule = CelRule {
    cel: "!has(self.rotation) || !has(self.rotation.overlap) || duration(self.rotation.overlap) < duration(has(self.ttl) ? self.ttl : '24h')",
    message: "must be less than spec.ttl (24h if unset), so that at most two keys live at a time; shorten it or lengthen the ttl",
    field_path: Some(".rotation.overlap"),
};

/// A virtual key that withers: it belongs to a project, lives for a while, is renewed, and stands in a Secret.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "llm-proxy.dev",
    version = "v1alpha1",
    kind = "WitheringToken",
    plural = "witheringtokens",
    shortname = "wtok",
    category = "llm-proxy",
    namespaced,
    status = "WitheringTokenStatus",
    derive = "PartialEq",
    doc = "A WitheringToken is a virtual key of an LLMProject. It expires, is renewed at 2/3 of its life, and stands in a Secret as OPENAI_API_KEY.",
    label("app.kubernetes.io/part-of", "llm-proxy"),
    selectable = ".spec.projectRef.name",
    selectable = ".spec.state",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether the key in the Secret works."
    ),
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.projectRef.name", description = "The LLMProject."),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".spec.state",
        description = "Active, Suspended or Revoked."
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".status.expirationTime",
        description = "When the present key ends."
    ),
    printcolumn(
        name = "Rev",
        type_ = "integer",
        json_path = ".status.revision",
        description = "How often a key was issued."
    ),
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".status.secretName",
        description = "The Secret that holds the key.",
        priority = 1
    ),
    printcolumn(
        name = "Renews",
        type_ = "string",
        json_path = ".status.renewalTime",
        description = "When the next key is issued.",
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
#[x_kube(validation = REVOKED_IS_FINAL, validation = OVERLAP_WITHIN_TTL)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct WitheringTokenSpec {
    /// The LLMProject, in the same namespace, that the key belongs to. It cannot be changed.
    #[x_kube(validation = SAME_PROJECT)]
    pub project_ref: ProjectRef,

    /// How long each issued key lives: a duration such as 24h, 1h30m or 45m, from 1m to 8760h; 24h if unset. A change counts from the next key on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = duration::MAX_LEN), regex(pattern = duration::PATTERN))]
    #[x_kube(validation = TTL_IN_BOUNDS)]
    pub ttl: Option<String>,

    /// How many requests may be made until the next renewal, over all replicas of the fleet; unlimited if unset. Keys that overlap share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_SAFE_INTEGER))]
    pub max_requests: Option<i64>,

    /// How many requests and LLM tokens may be used in each minute, hour or day, over all replicas of the fleet. At most 16. Of this and a limit
    /// that the LLMProject sets for each token the lower one counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_RATE_LIMITS))]
    #[x_kube(merge_strategy = ListMerge::Atomic, validation = ONE_RATE_FOR_EACH)]
    pub rate_limits: Option<Vec<TokenRateLimit>>,

    /// How much may be spent in each day, week, month, or in all, renewals included: at most one budget for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_BUDGETS))]
    #[x_kube(merge_strategy = ListMerge::Atomic, validation = ONE_BUDGET_FOR_EACH)]
    pub budgets: Option<Vec<Budget>>,

    /// How many requests may run at one moment, over all replicas of the fleet; unlimited if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_IN_FLIGHT))]
    pub max_in_flight: Option<i64>,

    /// Active: the key works. Suspended: it is refused until the state is Active again. Revoked: it is refused for ever and its Secret is deleted.
    #[serde(default, deserialize_with = "schema::null_as_default")]
    pub state: TokenState,

    /// The Secret that the key is written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<TokenSecret>,

    /// How the next key takes the place of the present one, and when besides its renewal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
}

/// A reference to an LLMProject.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(transform = schema::tidy)]
pub struct ProjectRef {
    /// The LLMProject's name.
    #[schemars(length(min = 1, max = MAX_SUBDOMAIN), regex(pattern = SUBDOMAIN_PATTERN))]
    pub name: String,
}

/// Whether a key works.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TokenState {
    /// It does.
    #[default]
    Active,
    /// It is refused until the state is Active again.
    Suspended,
    /// It is refused for ever.
    Revoked,
}

impl WitheringTokenSpec {
    /// How long each issued key lives, with the default filled in.
    ///
    /// # Errors
    /// [`DurationError`] if the text is none; a validated spec has none such.
    pub fn lifetime(&self) -> Result<SignedDuration, DurationError> {
        self.ttl.as_deref().map_or(Ok(DEFAULT_TTL), duration::parse)
    }

    /// How long a replaced key works on, if the spec says.
    ///
    /// # Errors
    /// [`DurationError`] if the text is none; a validated spec has none such.
    pub fn overlap(&self) -> Result<Option<SignedDuration>, DurationError> {
        let overlap = self.rotation.as_ref().and_then(|rotation| rotation.overlap.as_deref());
        overlap.map(duration::parse).transpose()
    }

    /// The text whose change asks for a further key.
    #[must_use]
    pub fn trigger(&self) -> Option<&str> {
        self.rotation.as_ref().and_then(|rotation| rotation.trigger.as_deref())
    }

    /// The fields that are set and say something only in a cluster, as `kubectl` names them. `llm-proxy standalone` passes over them.
    #[must_use]
    pub fn cluster_only(&self) -> Vec<&'static str> {
        let formats = self.secret.as_ref().is_some_and(|secret| secret.formats.is_some());
        if formats { vec!["spec.secret.formats"] } else { Vec::new() }
    }

    /// What the Secret holds: ascending and each once, with the default filled in.
    #[must_use]
    pub fn formats(&self) -> Vec<SecretFormat> {
        let named = self.secret.as_ref().and_then(|secret| secret.formats.as_deref());
        let mut formats = named.unwrap_or(SecretFormat::ALL).to_vec();
        formats.sort_unstable();
        formats.dedup();
        formats
    }
}

impl WitheringToken {
    /// The name of the Secret that the key is written to, with the default filled in.
    #[must_use]
    pub fn secret_name(&self) -> &str {
        let named = self.spec.secret.as_ref().and_then(|secret| secret.name.as_deref());
        named.or(self.metadata.name.as_deref()).unwrap_or_default()
    }
}

/// What was observed of a token. The key itself is never here.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct WitheringTokenStatus {
    /// metadata.generation of the spec that this status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub observed_generation: Option<i64>,

    /// Accepted, Programmed, Delivered and Ready, each with its reason and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The public beginning of the present key, such as sk-lp-1a2B3c4D, by which logs and usage name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub token_prefix: Option<String>,

    /// The number of the present key, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub revision: Option<i64>,

    /// When the present key was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub issued_time: Option<Time>,

    /// When the present key ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub expiration_time: Option<Time>,

    /// When the next key is issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub renewal_time: Option<Time>,

    /// The key before the present one, while it still works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousRevision>,

    /// The Secret that holds the present key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_SUBDOMAIN))]
    pub secret_name: Option<String>,
}

/// A key that was replaced and still works for a while.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct PreviousRevision {
    /// Its number.
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub revision: i64,

    /// When it ends.
    #[schemars(schema_with = "schema::time")]
    pub expiration_time: Time,
}

impl Validate for WitheringTokenSpec {
    fn validate(&self, mode: Mode) -> Vec<Violation> {
        let mut found = Vec::new();
        check(&mut found, "spec.projectRef.name", names::dns_subdomain(&self.project_ref.name));
        match self.lifetime() {
            Err(error) => found.push(Violation::new("spec.ttl", error)),
            Ok(lifetime) if !(MIN_TTL..=MAX_TTL).contains(&lifetime) => found.push(Violation::new("spec.ttl", TTL_IN_BOUNDS.message)),
            Ok(_) => {}
        }
        if self.max_requests.is_some_and(|max| !(1..=MAX_SAFE_INTEGER).contains(&max)) {
            found.push(Violation::new(
                "spec.maxRequests",
                "must be at least 1 and at most 9007199254740991; leave it out for no limit",
            ));
        }
        limits::judge_token_rates(self.rate_limits.as_deref().unwrap_or_default(), "spec.rateLimits", &mut found);
        limits::judge_budgets(self.budgets.as_deref().unwrap_or_default(), "spec.budgets", &mut found);
        if self.max_in_flight.is_some_and(|max| !(1..=MAX_IN_FLIGHT).contains(&max)) {
            let why = format!("must be at least 1 and at most {MAX_IN_FLIGHT}; leave it out for no limit");
            found.push(Violation::new("spec.maxInFlight", why));
        }
        match (self.overlap(), self.lifetime()) {
            (Err(error), _) => found.push(Violation::new("spec.rotation.overlap", error)),
            (Ok(Some(overlap)), Ok(lifetime)) if overlap >= lifetime => {
                found.push(Violation::new("spec.rotation.overlap", OVERLAP_WITHIN_TTL.message));
            }
            _ => {}
        }
        if self
            .trigger()
            .is_some_and(|trigger| !(1..=MAX_TRIGGER).contains(&trigger.chars().count()) || trigger.contains(char::is_control))
        {
            let why = format!(
                "must be a text of 1 to {MAX_TRIGGER} characters without line ends and other control characters; leave it out for no rotation"
            );
            found.push(Violation::new("spec.rotation.trigger", why));
        }
        if let Some(formats) = self.secret.as_ref().and_then(|secret| secret.formats.as_deref())
            && (formats.is_empty() || (1..formats.len()).any(|index| formats[..index].contains(&formats[index])))
        {
            found.push(Violation::new(
                "spec.secret.formats",
                "must name Raw, OpenAI or both, each once; leave it out for both",
            ));
        }
        if let Some(name) = self.secret.as_ref().and_then(|secret| secret.name.as_deref()) {
            check(&mut found, "spec.secret.name", names::dns_subdomain(name));
            if mode == Mode::Files && name.len() > names::MAX_SECRET_NAME_IN_FILES {
                let limit = names::MAX_SECRET_NAME_IN_FILES;
                found.push(Violation::new(
                    "spec.secret.name",
                    format!("must be at most {limit} characters here, where it becomes the name of a file"),
                ));
            }
        }
        found
    }

    fn validate_update(&self, old: &Self) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.project_ref != old.project_ref {
            found.push(Violation::new("spec.projectRef.name", SAME_PROJECT.message));
        }
        if old.state == TokenState::Revoked && self.state != TokenState::Revoked {
            found.push(Violation::new("spec.state", REVOKED_IS_FINAL.message));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(yaml: &str) -> WitheringToken {
        WitheringToken::new("web", serde_yaml::from_str(yaml).unwrap())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let plain = token("projectRef: {name: shop}");
        assert_eq!(plain.spec.lifetime(), Ok(DEFAULT_TTL));
        assert_eq!(plain.spec.state, TokenState::Active);
        assert_eq!(plain.secret_name(), "web");
        assert_eq!(plain.spec.formats(), SecretFormat::ALL);
        assert_eq!((plain.spec.overlap(), plain.spec.trigger()), (Ok(None), None));
        let named = token("{projectRef: {name: shop}, ttl: 90m, secret: {name: shop-llm}}");
        assert_eq!(named.spec.lifetime(), Ok(SignedDuration::from_mins(90)));
        assert_eq!(named.secret_name(), "shop-llm");
    }
}

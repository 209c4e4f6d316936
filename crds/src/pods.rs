//! How the pods of a fleet are run: image, resources, and how they end. Defaults are code; an operator fills in its own image.
//! It refuses to know what a Deployment looks like.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::quantity;
use crate::schema::{self, CelRule};
use crate::validate::{Violation, check};

/// The most replicas that a fleet may have.
pub const MAX_REPLICAS: i32 = 500;
/// Replicas of a fleet whose spec names no number.
pub const DEFAULT_REPLICAS: i32 = 2;
/// How long a pod has to end if the spec says nothing, in seconds: streamed answers are long.
pub const DEFAULT_GRACE_PERIOD_SECONDS: i32 = 300;
/// How long an ending pod goes on accepting if the spec says nothing, in seconds: load balancers need about that long to leave it out.
pub const DEFAULT_PRE_STOP_SECONDS: i32 = 8;

/// An image repository: an optional registry with an optional port, then path parts.
const REPOSITORY_PATTERN: &str = "^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*$";
/// The longest image repository.
const MAX_REPOSITORY: usize = 255;
/// A tag, as the OCI distribution specification has it.
const TAG_PATTERN: &str = "^[A-Za-z0-9_][-A-Za-z0-9_.]*$";
/// The longest tag.
const MAX_TAG: usize = 128;
/// The only digest that registries use.
const DIGEST_PATTERN: &str = "^sha256:[0-9a-f]{64}$";
/// The length of such a digest.
const DIGEST_LEN: usize = 71;

const CPU_REQUEST_FITS: CelRule = CelRule {
    cel: "!has(self.requests) || !has(self.requests.cpu) || !has(self.limits) || !has(self.limits.cpu) \
          || !quantity(self.requests.cpu).isGreaterThan(quantity(self.limits.cpu))",
    message: "must not be greater than limits.cpu; lower it or raise the limit",
    field_path: Some(".requests.cpu"),
};

const MEMORY_REQUEST_FITS: CelRule = CelRule {
    cel: "!has(self.requests) || !has(self.requests.memory) || !has(self.limits) || !has(self.limits.memory) \
          || !quantity(self.requests.memory).isGreaterThan(quantity(self.limits.memory))",
    message: "must not be greater than limits.memory; lower it or raise the limit",
    field_path: Some(".requests.memory"),
};

const PRE_STOP_WITHIN_GRACE: CelRule = CelRule {
    cel: "(has(self.preStopSeconds) ? self.preStopSeconds : 8) < (has(self.gracePeriodSeconds) ? self.gracePeriodSeconds : 300)",
    message: "must be less than gracePeriodSeconds (300 if unset), which it is a part of; lower it (8 if unset) or raise gracePeriodSeconds",
    field_path: Some(".preStopSeconds"),
};

/// The image of a fleet's pods. What is left out is taken from the image that the operator was started with.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct Image {
    /// Registry and repository, such as `registry.example.com/llm-proxy`, without tag and digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_REPOSITORY), regex(pattern = REPOSITORY_PATTERN))]
    pub repository: Option<String>,

    /// The tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_TAG), regex(pattern = TAG_PATTERN))]
    pub tag: Option<String>,

    /// The digest, `sha256:` and 64 hexadecimal digits. It wins over the tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = DIGEST_LEN, max = DIGEST_LEN), regex(pattern = DIGEST_PATTERN))]
    pub digest: Option<String>,

    /// When the image is pulled; as Kubernetes decides if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
}

/// When an image is pulled.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Each time a pod starts.
    Always,
    /// If the node does not have it.
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

impl PullPolicy {
    /// The word that a container's `imagePullPolicy` takes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

impl Image {
    /// The image to run, with what is left out taken from `default` (`repository[:tag][@digest]`). A tag or a digest named here stands in place
    /// of both of the default's; a repository alone keeps them, as a mirror does.
    #[must_use]
    pub fn reference(&self, default: &str) -> String {
        let (named, digest) = default.split_once('@').map_or((default, None), |(named, digest)| (named, Some(digest)));
        // A colon before the last slash belongs to the registry's port.
        let (repository, tag) = match named.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (named, None),
        };
        let repository = self.repository.as_deref().unwrap_or(repository);
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("{repository}@{digest}"),
            (None, Some(tag)) => format!("{repository}:{tag}"),
            (None, None) => {
                let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
                let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
                format!("{repository}{tag}{digest}")
            }
        }
    }

    /// Every rule that this part of a spec breaks.
    pub(crate) fn judge(&self, path: &str, found: &mut Vec<Violation>) {
        let is_repository = |text: &str| !text.is_empty() && text.len() <= MAX_REPOSITORY && is_repository(text);
        if self.repository.as_deref().is_some_and(|text| !is_repository(text)) {
            let why = "must be a registry and a repository of at most 255 characters, without tag and digest";
            found.push(Violation::new(format!("{path}.repository"), why));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let is_tag = |text: &str| !text.is_empty() && text.len() <= MAX_TAG && !text.starts_with(['-', '.']) && text.bytes().all(allowed);
        if self.tag.as_deref().is_some_and(|text| !is_tag(text)) {
            let why = "must be 1 to 128 letters, digits, '_', '-' or '.', and begin with none of the last two";
            found.push(Violation::new(format!("{path}.tag"), why));
        }
        let is_digest = |text: &str| {
            let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            text.len() == DIGEST_LEN && text.strip_prefix("sha256:").is_some_and(|rest| rest.bytes().all(hex))
        };
        if self.digest.as_deref().is_some_and(|text| !is_digest(text)) {
            found.push(Violation::new(
                format!("{path}.digest"),
                "must be sha256: and 64 lower-case hexadecimal digits",
            ));
        }
    }
}

/// [`REPOSITORY_PATTERN`] without a regex engine: the first part is a host with an optional port, the others are lower-case path parts.
fn is_repository(text: &str) -> bool {
    let mut parts = text.split('/');
    let host = parts.next().unwrap_or_default();
    let (host, port) = host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port)));
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let host_good = edge(host.as_bytes().first()) && edge(host.as_bytes().last()) && host.bytes().all(inner);
    let port_good = port.is_none_or(|port| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()));
    host_good && port_good && parts.all(is_path_part)
}

/// Runs of lower-case letters and digits, with one separator between each two: `.`, `_`, `__` or any number of `-`.
fn is_path_part(part: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().is_some_and(is_word) && bytes.last().is_some_and(is_word);
    let separators = part
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .filter(|run| !run.is_empty());
    ends && separators
        .into_iter()
        .all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|byte| byte == b'-'))
}

/// What a pod's container asks for and may use, as `resources` of a container: quantities are strings, such as `"500m"` or `"1Gi"`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = CPU_REQUEST_FITS, validation = MEMORY_REQUEST_FITS)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct ContainerResources {
    /// What a node must have free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Amounts>,

    /// What the container may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
}

/// Amounts of the two resources that a proxy uses.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(transform = schema::tidy)]
pub struct Amounts {
    /// Processor cores, such as `"500m"` or `"2"`; a number stands in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = quantity::MAX_LEN), regex(pattern = quantity::PATTERN))]
    pub cpu: Option<String>,

    /// Memory, such as `"256Mi"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = quantity::MAX_LEN), regex(pattern = quantity::PATTERN))]
    pub memory: Option<String>,
}

impl ContainerResources {
    /// Every rule that this part of a spec breaks.
    pub(crate) fn judge(&self, path: &str, found: &mut Vec<Violation>) {
        for (part, amounts) in [("requests", &self.requests), ("limits", &self.limits)] {
            for (name, text) in amounts.iter().flat_map(|amounts| [("cpu", &amounts.cpu), ("memory", &amounts.memory)]) {
                if let Some(text) = text {
                    check(found, format!("{path}.{part}.{name}"), quantity::parse(text).map(|_| ()));
                }
            }
        }
        let exceeds = |of: fn(&Amounts) -> Option<&String>| {
            let read = |amounts: &Option<Amounts>| amounts.as_ref().and_then(of).and_then(|text| quantity::parse(text).ok());
            read(&self.requests)
                .zip(read(&self.limits))
                .is_some_and(|(request, limit)| request > limit)
        };
        for (rule, broken) in [
            (CPU_REQUEST_FITS, exceeds(|amounts| amounts.cpu.as_ref())),
            (MEMORY_REQUEST_FITS, exceeds(|amounts| amounts.memory.as_ref())),
        ] {
            if broken {
                let field = rule.field_path.unwrap_or_default();
                found.push(Violation::new(format!("{path}{field}"), rule.message));
            }
        }
    }
}

/// How a pod of the fleet ends, so that no request is lost and no stream is cut.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = PRE_STOP_WITHIN_GRACE)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct Drain {
    /// How many seconds an ending pod goes on accepting requests while it says that it is not ready, so that everybody stops sending; 8 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 300))]
    pub pre_stop_seconds: Option<i32>,

    /// How many seconds a pod has to end, from the moment it is told to; streams that still run then are ended with an error event. 300 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 3600))]
    pub grace_period_seconds: Option<i32>,
}

impl Drain {
    /// How long an ending pod goes on accepting, in seconds, with the default filled in.
    #[must_use]
    pub fn pre_stop_seconds(&self) -> i32 {
        self.pre_stop_seconds.unwrap_or(DEFAULT_PRE_STOP_SECONDS)
    }

    /// How long a pod has to end, in seconds, with the default filled in.
    #[must_use]
    pub fn grace_period_seconds(&self) -> i32 {
        self.grace_period_seconds.unwrap_or(DEFAULT_GRACE_PERIOD_SECONDS)
    }

    /// Every rule that this part of a spec breaks.
    pub(crate) fn judge(&self, path: &str, found: &mut Vec<Violation>) {
        if self.pre_stop_seconds.is_some_and(|seconds| !(0..=300).contains(&seconds)) {
            found.push(Violation::new(format!("{path}.preStopSeconds"), "must be from 0 to 300"));
        }
        if self.grace_period_seconds.is_some_and(|seconds| !(5..=3600).contains(&seconds)) {
            found.push(Violation::new(format!("{path}.gracePeriodSeconds"), "must be from 5 to 3600"));
        }
        if self.pre_stop_seconds() >= self.grace_period_seconds() {
            found.push(Violation::new(format!("{path}.preStopSeconds"), PRE_STOP_WITHIN_GRACE.message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::Regex;

    fn image(yaml: &str) -> Image {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn what_an_image_leaves_out_comes_from_the_operators_own() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = format!("host:5000/llm-proxy:1.2@{digest}");
        for (yaml, default, reference) in [
            ("{}", "ghcr.io/a/llm-proxy:1.2", "ghcr.io/a/llm-proxy:1.2".to_owned()),
            ("{}", "host:5000/llm-proxy", "host:5000/llm-proxy".to_owned()),
            ("{}", pinned.as_str(), pinned.clone()),
            (
                "{repository: mirror/llm-proxy}",
                pinned.as_str(),
                format!("mirror/llm-proxy:1.2@{digest}"),
            ),
            ("{tag: next}", pinned.as_str(), "host:5000/llm-proxy:next".to_owned()),
            ("{repository: mirror:443/x, tag: v2}", "a:1", "mirror:443/x:v2".to_owned()),
            (&format!("{{tag: v2, digest: '{digest}'}}"), "a:1", format!("a@{digest}")),
        ] {
            assert_eq!(image(yaml).reference(default), reference, "{yaml} over {default}");
        }
    }

    proptest! {
        #[test]
        fn the_rules_agree_with_the_patterns_of_the_schema(text in "([a-cA0:/._-]|__){0,12}|sha256:[0-9a-f]{63,65}|a{250,258}|[a-c]{126,130}") {
            let rejected = |image: Image| {
                let mut found = Vec::new();
                image.judge("spec.image", &mut found);
                !found.is_empty()
            };
            let matches = |pattern: &str, max: usize| Regex::new(pattern).unwrap().is_match(&text) && text.len() <= max;
            let one = |field: fn(&mut Image) -> &mut Option<String>| {
                let mut image = Image::default();
                *field(&mut image) = Some(text.clone());
                rejected(image)
            };
            prop_assert_eq!(!one(|image| &mut image.repository), matches(REPOSITORY_PATTERN, MAX_REPOSITORY), "repository {:?}", text);
            prop_assert_eq!(!one(|image| &mut image.tag), matches(TAG_PATTERN, MAX_TAG), "tag {:?}", text);
            prop_assert_eq!(!one(|image| &mut image.digest), matches(DIGEST_PATTERN, DIGEST_LEN), "digest {:?}", text);
        }
    }
}

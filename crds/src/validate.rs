//! The frame of validation: where a spec is judged, what a broken rule looks like, and the rules on an object's own name.
//! The rules themselves stand beside the fields that they judge; cross-object rules (missing references, shared Secrets) are the operator's.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::names;

/// Where a spec is judged. One rule differs: a provider on a loopback address is this machine for `standalone`, and the wrong pod in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By the API server, or by the operator after it.
    Cluster,
    /// By `standalone`, from manifests on disk.
    Files,
}

/// A rule that a spec breaks. It is a result, not an error: the object stays as last accepted until the spec changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Violation {
    /// The field, as `kubectl` names it: `spec.providers[0].baseURL`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Violation {
    /// A violation at a path.
    pub(crate) fn new(field: impl Into<String>, message: impl ToString) -> Self {
        Self {
            field: field.into(),
            message: message.to_string(),
        }
    }
}

/// The rules of a kind's spec, the same in Rust as in its schema.
pub trait Validate {
    /// Every rule that this spec breaks by itself; empty means accepted.
    fn validate(&self, mode: Mode) -> Vec<Violation>;

    /// Every rule that the change from `old` to this spec breaks, besides those of [`Validate::validate`].
    fn validate_update(&self, old: &Self) -> Vec<Violation>;
}

/// The rules that the API server has for the name and namespace of every object, for manifests that never meet one.
#[must_use]
pub fn object_meta(metadata: &ObjectMeta) -> Vec<Violation> {
    let mut found = Vec::new();
    match metadata.name.as_deref() {
        None | Some("") => found.push(Violation::new("metadata.name", "is required")),
        Some(name) => check(&mut found, "metadata.name", names::dns_subdomain(name)),
    }
    if let Some(namespace) = metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        check(&mut found, "metadata.namespace", names::dns_label(namespace));
    }
    found
}

/// Adds a violation if a check failed.
pub(crate) fn check<E: std::fmt::Display>(found: &mut Vec<Violation>, field: impl Into<String>, verdict: Result<(), E>) {
    if let Err(error) = verdict {
        found.push(Violation::new(field, error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(name: &str, namespace: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: namespace.map(str::to_owned),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn an_objects_name_obeys_kubernetes_even_without_kubernetes() {
        assert_eq!(object_meta(&meta("web.v2", None)), []);
        assert_eq!(object_meta(&meta("web", Some("shop"))), []);
        assert_eq!(object_meta(&ObjectMeta::default())[0].to_string(), "metadata.name: is required");
        assert_eq!(object_meta(&meta("../web", None))[0].field, "metadata.name");
        assert_eq!(object_meta(&meta("web", Some("shop.dev")))[0].field, "metadata.namespace");
    }
}

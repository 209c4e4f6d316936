//! The objects that stand around a fleet in its namespace, built from its spec and a few facts. Pure, and it cannot fail.
//! It refuses to know the API server, the database and when an object is applied.

pub(crate) mod boot_hash;
pub(crate) mod deployment;
pub(crate) mod difference;
pub(crate) mod disruption_budget;
pub(crate) mod labels;
pub(crate) mod names;
pub(crate) mod secrets;
pub(crate) mod services;

use crds::ProxyConfig;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use names::ChildNames;

/// The port of /v1 and health inside a pod and on its Service.
pub(crate) const HTTP_PORT: i32 = 8080;
/// The port of /manage, health and metrics inside a pod and on a Service of its own.
pub(crate) const MANAGE_PORT: i32 = 8081;

/// The ProxyConfig that children belong to, and what they are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    /// Its namespace, and so theirs.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its uid.
    pub(crate) uid: String,
    /// Their names.
    pub(crate) names: ChildNames,
}

impl Parent {
    /// The parent that a ProxyConfig is.
    pub(crate) fn of(object: &ProxyConfig) -> Self {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let name = part(&object.metadata.name);
        Self {
            namespace: part(&object.metadata.namespace),
            names: ChildNames::of(&name),
            uid: part(&object.metadata.uid),
            name,
        }
    }

    /// The base URL for applications inside the cluster, ending in `/v1`.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}.{}.svc:{HTTP_PORT}/v1", self.names.service, self.namespace)
    }

    /// Metadata of a child: ours by its labels, and collected with its owner.
    pub(crate) fn metadata(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels::of_child(&self.name)),
            owner_references: Some(vec![self.owner_reference()]),
            ..ObjectMeta::default()
        }
    }

    /// The reference by which the garbage collector takes a child when its ProxyConfig goes. It blocks no deletion, which would want a right on
    /// finalizers.
    pub(crate) fn owner_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: crds::API_VERSION.to_owned(),
            kind: crds::Kind::ProxyConfig.as_str().to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }

    /// Whether an object is a child of this very ProxyConfig.
    pub(crate) fn owns(&self, metadata: &ObjectMeta) -> bool {
        let references = metadata.owner_references.iter().flatten();
        references
            .into_iter()
            .any(|owner| owner.controller == Some(true) && owner.uid == self.uid)
    }
}

/// The ProxyConfig that an object belongs to by its controller reference, for whoever watches children.
pub(crate) fn parent_name(metadata: &ObjectMeta) -> Option<&str> {
    let references = metadata.owner_references.iter().flatten();
    let ours = |owner: &&OwnerReference| {
        owner.controller == Some(true) && owner.kind == crds::Kind::ProxyConfig.as_str() && owner.api_version.starts_with("llm-proxy.dev/")
    };
    references.into_iter().find(ours).map(|owner| owner.name.as_str())
}

#[cfg(test)]
mod tests;

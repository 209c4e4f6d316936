//! What the watches have shown: the three kinds and the namespaces' labels, as the latest known copies, without managedFields.
//! It refuses to know what follows from a change.

use std::sync::Arc;

use crds::{LlmProject, ProxyConfig, WitheringToken};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};

/// The latest known copies.
#[derive(Clone)]
pub(crate) struct Stores {
    /// The ProxyConfigs in scope.
    pub(crate) proxy_configs: Store<ProxyConfig>,
    /// The LLMProjects in scope.
    pub(crate) projects: Store<LlmProject>,
    /// The WitheringTokens in scope.
    pub(crate) tokens: Store<WitheringToken>,
    /// The namespaces' labels; none where only some namespaces are watched.
    pub(crate) namespaces: Option<Store<PartialObjectMeta<Namespace>>>,
}

impl Stores {
    /// A ProxyConfig.
    pub(crate) fn proxy_config(&self, namespace: &str, name: &str) -> Option<Arc<ProxyConfig>> {
        self.proxy_configs.get(&ObjectRef::new(name).within(namespace))
    }

    /// An LLMProject.
    pub(crate) fn project(&self, namespace: &str, name: &str) -> Option<Arc<LlmProject>> {
        self.projects.get(&ObjectRef::new(name).within(namespace))
    }

    /// A WitheringToken.
    pub(crate) fn token(&self, namespace: &str, name: &str) -> Option<Arc<WitheringToken>> {
        self.tokens.get(&ObjectRef::new(name).within(namespace))
    }
}

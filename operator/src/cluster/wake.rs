//! Asking a controller to look at an object again. Duplicates cost nothing: the controllers' queues merge them.
//! It refuses to know why.

use crds::{LlmProject, ProxyConfig, WitheringToken};
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc;

/// The sending ends, one per kind. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Wakes {
    proxy_configs: mpsc::UnboundedSender<ObjectRef<ProxyConfig>>,
    projects: mpsc::UnboundedSender<ObjectRef<LlmProject>>,
    tokens: mpsc::UnboundedSender<ObjectRef<WitheringToken>>,
}

/// The receiving ends, for the controllers.
#[derive(Debug)]
pub(crate) struct Woken {
    /// Of ProxyConfigs.
    pub(crate) proxy_configs: mpsc::UnboundedReceiver<ObjectRef<ProxyConfig>>,
    /// Of LLMProjects.
    pub(crate) projects: mpsc::UnboundedReceiver<ObjectRef<LlmProject>>,
    /// Of WitheringTokens.
    pub(crate) tokens: mpsc::UnboundedReceiver<ObjectRef<WitheringToken>>,
}

impl Wakes {
    /// Both ends.
    pub(crate) fn new() -> (Self, Woken) {
        let (proxy_configs, woken_proxy_configs) = mpsc::unbounded_channel();
        let (projects, woken_projects) = mpsc::unbounded_channel();
        let (tokens, woken_tokens) = mpsc::unbounded_channel();
        let wakes = Self {
            proxy_configs,
            projects,
            tokens,
        };
        let woken = Woken {
            proxy_configs: woken_proxy_configs,
            projects: woken_projects,
            tokens: woken_tokens,
        };
        (wakes, woken)
    }

    /// Asks for another look at a ProxyConfig. Without a controller nothing happens.
    pub(crate) fn proxy_config(&self, namespace: &str, name: &str) {
        let _ = self.proxy_configs.send(ObjectRef::new(name).within(namespace));
    }

    /// Asks for another look at an LLMProject.
    pub(crate) fn project(&self, namespace: &str, name: &str) {
        let _ = self.projects.send(ObjectRef::new(name).within(namespace));
    }

    /// Asks for another look at a WitheringToken.
    pub(crate) fn token(&self, namespace: &str, name: &str) {
        let _ = self.tokens.send(ObjectRef::new(name).within(namespace));
    }
}

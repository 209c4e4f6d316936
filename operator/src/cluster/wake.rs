//! Asking a controller to look at an object again. Duplicates cost nothing: the controllers' queues merge them.
//! It refuses to know why.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crds::{Kind, LlmProject, ProxyConfig, WitheringToken};
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc;

/// The sending ends, one per kind. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Wakes {
    proxy_configs: mpsc::UnboundedSender<ObjectRef<ProxyConfig>>,
    projects: mpsc::UnboundedSender<ObjectRef<LlmProject>>,
    tokens: mpsc::UnboundedSender<ObjectRef<WitheringToken>>,
    waiting: Waiting,
}

/// Kind, namespace and name.
type Waits = (&'static str, String, String);

/// The objects that were woken and that nobody has looked at since. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    inner: Arc<Mutex<HashSet<Waits>>>,
}

impl Waiting {
    /// How many of a kind wait.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.lock().iter().filter(|(of, ..)| *of == kind.as_str()).count()
    }

    /// One is looked at now, or is not there.
    pub(crate) fn begun(&self, kind: Kind, namespace: &str, name: &str) {
        self.lock().remove(&(kind.as_str(), namespace.to_owned(), name.to_owned()));
    }

    fn woken(&self, kind: Kind, namespace: &str, name: &str) {
        self.lock().insert((kind.as_str(), namespace.to_owned(), name.to_owned()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Waits>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            waiting: Waiting::default(),
        };
        let woken = Woken {
            proxy_configs: woken_proxy_configs,
            projects: woken_projects,
            tokens: woken_tokens,
        };
        (wakes, woken)
    }

    /// Who waits for a look.
    pub(crate) fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// Asks for another look at an object of any kind.
    pub(crate) fn object(&self, kind: Kind, namespace: &str, name: &str) {
        match kind {
            Kind::ProxyConfig => self.proxy_config(namespace, name),
            Kind::LlmProject => self.project(namespace, name),
            Kind::WitheringToken => self.token(namespace, name),
        }
    }

    /// Asks for another look at a ProxyConfig. Without a controller nothing happens.
    pub(crate) fn proxy_config(&self, namespace: &str, name: &str) {
        self.waiting.woken(Kind::ProxyConfig, namespace, name);
        let _ = self.proxy_configs.send(ObjectRef::new(name).within(namespace));
    }

    /// Asks for another look at an LLMProject.
    pub(crate) fn project(&self, namespace: &str, name: &str) {
        self.waiting.woken(Kind::LlmProject, namespace, name);
        let _ = self.projects.send(ObjectRef::new(name).within(namespace));
    }

    /// Asks for another look at a WitheringToken.
    pub(crate) fn token(&self, namespace: &str, name: &str) {
        self.waiting.woken(Kind::WitheringToken, namespace, name);
        let _ = self.tokens.send(ObjectRef::new(name).within(namespace));
    }
}

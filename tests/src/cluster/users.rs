//! Who the tests are to the API server, and the files and clients by which they speak to it. It refuses to know what they may do: that is rbac.yaml.

use std::net::SocketAddr;
use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use super::Cluster;

/// A user of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum User {
    /// May everything (group `system:masters`).
    Admin,
    /// The operator, with the rights of rbac.yaml and no other.
    Operator,
    /// The operator of one namespace: it may in [`Cluster::let_operate_in`]'s namespaces what the operator may everywhere, and nothing elsewhere.
    NamespacedOperator,
    /// Somebody who writes our three kinds and Secrets in every namespace, but no status.
    Editor,
    /// Kubernetes' own controllers.
    ControllerManager,
    /// Kubernetes' scheduler, where there is a node.
    Scheduler,
    /// The kubelet of the one node.
    Kubelet,
    /// The kube-proxy of the one node.
    KubeProxy,
}

impl User {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Admin,
        Self::Operator,
        Self::NamespacedOperator,
        Self::Editor,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kubelet,
        Self::KubeProxy,
    ];

    /// The name that stands in the audit log and in bindings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::NamespacedOperator => "namespaced-operator",
            Self::Editor => "editor",
            Self::ControllerManager => "system:kube-controller-manager",
            Self::Scheduler => "system:kube-scheduler",
            Self::Kubelet => "system:node:node1",
            Self::KubeProxy => "system:kube-proxy",
        }
    }

    fn group(self) -> &'static str {
        match self {
            Self::Admin => "system:masters",
            Self::Kubelet => "system:nodes",
            _ => "",
        }
    }

    /// The name of the kubeconfig file.
    pub(super) fn file(self) -> String {
        format!("{}.kubeconfig", self.name().trim_start_matches("system:").replace(':', "-"))
    }

    /// What the user presents; worth nothing outside of this very control plane.
    pub(super) fn token(self, secret: &str) -> String {
        format!("{}-{secret}", self.file())
    }
}

/// Writes `tokens.csv` for the API server.
///
/// # Panics
/// If the folder is not writable.
pub(super) fn write_tokens(folder: &Path, secret: &str) {
    let line = |user: User| format!("{},{},{},\"{}\"\n", user.token(secret), user.name(), user.name(), user.group());
    std::fs::write(folder.join("tokens.csv"), User::ALL.map(line).concat()).expect("a writable run folder");
}

/// A kubeconfig for a server by HTTPS (with its CA) or, in front of it, by HTTP.
///
/// # Panics
/// If the file cannot be written.
pub(super) fn write_kubeconfig(path: &Path, server: &str, ca: Option<&Path>, token: &str, namespace: &str) {
    let mut cluster = json!({ "server": server });
    if let Some(ca) = ca {
        cluster["certificate-authority"] = json!(ca);
    }
    // JSON is YAML.
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "tests", "cluster": cluster }],
        "users": [{ "name": "user", "user": { "token": token } }],
        "contexts": [{ "name": "tests", "context": { "cluster": "tests", "user": "user", "namespace": namespace } }],
        "current-context": "tests",
    });
    std::fs::write(path, document.to_string()).expect("a kubeconfig");
}

/// The configuration that a kubeconfig file describes.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn config_of(path: &Path) -> Config {
    let path = path.to_owned();
    super::blocking(async move {
        let kubeconfig = Kubeconfig::read_from(path).expect("a kubeconfig");
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("a configuration")
    })
}

/// The HTTPS address of the API server.
pub(super) fn url(address: SocketAddr) -> String {
    format!("https://{address}")
}

impl Cluster {
    /// How to speak to the API server as this user, without the client's own retries: a test sees the first answer.
    #[must_use]
    pub fn config(&self, user: User) -> Config {
        let mut config = config_of(&self.kubeconfig(user));
        config.default_retry = false;
        config
    }

    /// A client of this user. It belongs to the runtime in which it is made: every test makes its own.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn client(&self, user: User) -> Client {
        Client::try_from(self.config(user)).expect("a client")
    }
}

//! What the operator is told at its start. It refuses to know command lines.

use std::net::SocketAddr;

use super::scope::Scope;

/// What the operator is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which namespaces it looks at.
    pub scope: Scope,
    /// The cluster part of every identity; the uid of namespace kube-system if none is given (which needs cluster scope).
    pub cluster_id: Option<String>,
    /// The namespace of the Lease.
    pub lease_namespace: String,
    /// The name of the Lease.
    pub lease_name: String,
    /// Who this process is in the Lease and in events, such as the Pod's name.
    pub identity: String,
    /// The image of the fleets' Pods unless a ProxyConfig names another.
    pub image: String,
    /// How many objects of each kind are worked on at once.
    pub concurrency: Concurrency,
    /// Where health and metrics are served; nowhere if none.
    pub listen: Option<SocketAddr>,
}

/// How many objects of each kind are worked on at once; 0 is without bound.
#[derive(Clone, Copy, Debug)]
pub struct Concurrency {
    /// ProxyConfigs.
    pub proxy_configs: u16,
    /// LLMProjects.
    pub projects: u16,
    /// WitheringTokens.
    pub tokens: u16,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            proxy_configs: 2,
            projects: 4,
            tokens: 8,
        }
    }
}

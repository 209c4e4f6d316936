//! What the operator is told at its start. It refuses to know command lines.

use std::net::SocketAddr;
use std::time::Duration;

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
    /// How long the Lease lasts and how it is renewed.
    pub lease_timing: LeaseTiming,
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

/// How long a Lease lasts and how it is renewed. Two operators must agree on it only as far as the holder's duration stands in the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTiming {
    /// How long others wait after the last renewal that they saw.
    pub duration: Duration,
    /// How long after its last renewal the holder itself goes on writing; shorter than `duration`.
    pub renew_deadline: Duration,
    /// The pause between two renewals; candidates ask twice as often.
    pub retry_period: Duration,
}

impl Default for LeaseTiming {
    /// Those of Kubernetes' own components: 15, 10 and 2 s.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

impl LeaseTiming {
    /// Whether the periods keep two processes from writing at the same time, and leave room for a failed renewal.
    ///
    /// # Errors
    /// A sentence that says which period is wrong.
    pub fn check(self) -> Result<(), &'static str> {
        if self.duration.subsec_nanos() != 0 || self.duration.is_zero() {
            Err("the Lease's duration must be whole seconds, at least one: the API stores no fractions")
        } else if self.renew_deadline >= self.duration {
            Err("the renewal deadline must be shorter than the Lease's duration")
        } else if self.retry_period.is_zero() || self.retry_period * 2 > self.renew_deadline {
            Err("the retry period must be at most half of the renewal deadline")
        } else {
            Ok(())
        }
    }
}

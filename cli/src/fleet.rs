//! A fleet in a Kubernetes cluster, as its administrator reaches it: which one, with which management token, and a stream to one of its pods.
//! Everything is done with the caller's own rights. It refuses to know what is asked of the management API.

mod cluster;
mod find;
mod kubeconfig;
mod pods;
mod refusal;
mod token;
mod tunnel;

use std::time::Duration;

use secrecy::SecretString;

pub(crate) use tunnel::{Tunnel, broken_by};

use crate::args::FleetArgs;
use crate::exit::{Failure, Kind};
use cluster::Cluster;

/// The port that a fleet's pods serve /manage on.
pub(crate) const MANAGE_PORT: u16 = 8081;

/// What the management API of a fleet is asked through and with.
pub(crate) struct Reached {
    /// To a pod that is ready.
    pub(crate) tunnel: Tunnel,
    /// What the pod is asked with.
    pub(crate) token: SecretString,
}

/// Why a call to the cluster brought nothing: what a command line needs for its one line and its exit code.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The exit code's kind.
    pub(crate) kind: Kind,
    /// What happened and what to do; never a secret.
    pub(crate) why: String,
    /// Whether it is a right that is missing.
    pub(crate) forbidden: bool,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::of(refusal.kind, refusal.why)
    }
}

/// Finds the fleet, reads its management token and picks one of its pods. `patience` bounds each call to the API server.
///
/// # Errors
/// One line: no cluster, no right, no fleet or several, no pod that is ready.
pub(crate) async fn reach(args: &FleetArgs, patience: Duration) -> Result<Reached, Failure> {
    let cluster = Cluster::of(args, patience).await?;
    let fleet = find::fleet(&cluster, args).await?;
    let token = token::management_token(&cluster, &fleet).await?;
    let pod = pods::ready_pod(&cluster, &fleet).await?;
    Ok(Reached {
        tunnel: Tunnel::to(&cluster, &fleet.namespace, &pod),
        token,
    })
}

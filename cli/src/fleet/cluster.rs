//! One Kubernetes cluster and the caller's way into it: bounded calls, each with the right that it takes. It refuses to know what is looked for.

use std::time::Duration;

use kube::Client;

use super::{Refusal, kubeconfig, refusal};
use crate::args::FleetArgs;
use crate::exit::{Failure, Kind};

/// A cluster, as its caller.
pub(super) struct Cluster {
    client: Client,
    /// The API server's address, for people.
    server: String,
    namespace: String,
    patience: Duration,
}

/// What a call is for, in the words of its error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Act<'a> {
    /// Such as `cannot read the Secret team-a/main-management`.
    pub(super) cannot: &'a str,
    /// Such as `get on secrets in namespace team-a`.
    pub(super) right: &'a str,
}

impl Cluster {
    /// The cluster of the kubeconfig; nothing is connected yet, but its credential plugin runs.
    ///
    /// # Errors
    /// If there is no kubeconfig, or it cannot be used.
    pub(super) async fn of(args: &FleetArgs, patience: Duration) -> Result<Self, Failure> {
        let config = kubeconfig::load(args).await?;
        let server = refusal::server_name(&config.cluster_url);
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| {
            let act = Act {
                cannot: "cannot use the kubeconfig",
                right: "",
            };
            refusal::refusal(&error, act, &server)
        })?;
        Ok(Self {
            client,
            server,
            namespace,
            patience,
        })
    }

    /// Its client, for `kube::Api`.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The API server's address, for people.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// The namespace of the context.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Waits for a call, not longer than the caller's patience.
    ///
    /// # Errors
    /// What the API server says, for a command line.
    pub(super) async fn ask<T>(&self, call: impl Future<Output = kube::Result<T>>, act: Act<'_>) -> Result<T, Refusal> {
        match tokio::time::timeout(self.patience, call).await {
            Ok(answer) => answer.map_err(|error| refusal::refusal(&error, act, &self.server)),
            Err(_) => Err(Refusal {
                kind: Kind::Timeout,
                forbidden: false,
                why: format!(
                    "{}: no answer from the API server at {} within {:?}: try again, or raise --timeout",
                    act.cannot, self.server, self.patience
                ),
            }),
        }
    }
}

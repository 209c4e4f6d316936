//! `llm-proxy operator`: the control plane in a Kubernetes cluster. It wires; it refuses to know how anything works.

use operator::cluster::{self, Concurrency, LeaseTiming, OperatorError, Options, Scope};

use crate::args::OperatorArgs;
use crate::exit::{Failure, Outcome};
use crate::logging;
use crate::serving;

/// Operates until a signal.
pub(crate) fn run(args: &OperatorArgs) -> Result<Outcome, Failure> {
    let timing = LeaseTiming {
        duration: args.lease_duration,
        renew_deadline: args.renew_deadline,
        retry_period: args.retry_period,
    };
    timing.check().map_err(Failure::new)?;
    let _log = logging::start(&args.log)?;
    let runtime = serving::runtime()?;
    let ended = runtime.block_on(async {
        let asked_to_end = serving::signals()?;
        let identity = identity(args);
        let client = cluster::connect(None, &identity).await.map_err(failure)?;
        let options = Options {
            scope: scope(args),
            cluster_id: args.cluster_id.clone(),
            lease_namespace: args.lease_namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned()),
            lease_name: args.lease_name.clone(),
            lease_timing: timing,
            identity,
            image: args.image.clone(),
            concurrency: Concurrency {
                proxy_configs: args.concurrency_proxyconfigs,
                projects: args.concurrency_projects,
                tokens: args.concurrency_tokens,
            },
            listen: Some(args.listen),
        };
        cluster::run(client, options, asked_to_end.wait()).await.map_err(failure)
    });
    runtime.shutdown_timeout(serving::LEFTOVERS);
    ended?;
    tracing::info!("ended");
    Ok(Outcome::Ok)
}

fn scope(args: &OperatorArgs) -> Scope {
    if args.watch_namespaces.is_empty() {
        Scope::Cluster
    } else {
        Scope::Namespaces(args.watch_namespaces.iter().cloned().collect())
    }
}

/// In a Pod the host's name is the Pod's.
fn identity(args: &OperatorArgs) -> String {
    let given = args.identity.clone().or_else(|| std::env::var("HOSTNAME").ok());
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = given.or_else(host).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "llm-proxy-operator".to_owned())
}

fn failure(error: OperatorError) -> Failure {
    Failure::new(error)
}

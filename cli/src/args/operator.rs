//! Flags of `llm-proxy operator`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::LogArgs;
use super::values::{duration, listen_addr};

/// Flags of `llm-proxy operator`.
#[derive(Debug, Args)]
#[command(after_help = "\
Environment:
  KUBECONFIG   which API server, and as whom; in a Pod its ServiceAccount, unless this is set
A flag wins over the environment.")]
pub(crate) struct OperatorArgs {
    /// Look only at this namespace; repeatable, or several with commas between; every namespace if absent
    #[arg(long = "watch-namespace", value_name = "NAMESPACE", value_delimiter = ',', requires = "cluster_id")]
    pub(crate) watch_namespaces: Vec<String>,

    /// Which cluster this is, the same for all of its operators for ever [default: the uid of namespace kube-system]
    #[arg(long, value_name = "ID", value_parser = cluster_id)]
    pub(crate) cluster_id: Option<String>,

    /// Namespace of the Lease [default: the Pod's, or that of the kubeconfig's context]
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub(crate) lease_namespace: Option<String>,

    /// Name of the Lease by which one of several operators leads
    #[arg(long, value_name = "NAME", default_value = "llm-proxy-operator")]
    pub(crate) lease_name: String,

    /// Image of the fleets' Pods, unless a ProxyConfig names another
    #[arg(long, value_name = "IMAGE", default_value = concat!("llm-proxy:", env!("CARGO_PKG_VERSION")))]
    pub(crate) image: String,

    /// How many ProxyConfigs are worked on at once; 0 is without bound
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) concurrency_proxyconfigs: u16,

    /// How many LLMProjects
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) concurrency_projects: u16,

    /// How many WitheringTokens
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) concurrency_tokens: u16,

    /// Address of /healthz, /readyz and /metrics; :8080 means every interface, port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = listen_addr)]
    pub(crate) listen: SocketAddr,

    /// Who this process is, in the Lease and in events [default: the host's name]
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub(crate) identity: Option<String>,

    /// How long the others wait for a leader that is silent
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub(crate) lease_duration: Duration,

    /// How long after its last renewal a leader goes on writing
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) renew_deadline: Duration,

    /// The pause between two renewals
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub(crate) retry_period: Duration,

    /// Flags of the log.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// It stands in every row and, before a slash, in every claim.
fn cluster_id(text: &str) -> Result<String, String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if text.is_empty() || text.len() > 63 || !text.bytes().all(is_good) {
        return Err("expected 1 to 63 letters, digits, dashes, dots and underscores".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_is_one_word_without_slashes() {
        assert!(cluster_id("6f1f0d3e-1111-2222-3333-444455556666").is_ok() && cluster_id("prod.eu_1").is_ok());
        for wrong in ["", "a/b", "a b", &"x".repeat(64)] {
            assert!(cluster_id(wrong).is_err(), "{wrong}");
        }
    }
}

//! Flags that name a fleet in a Kubernetes cluster, as kubectl spells its own.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use crds::names::{dns_label, dns_subdomain};

/// Which fleet, and of which cluster; before or after the subcommand.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "A fleet in a Kubernetes cluster")]
pub(crate) struct FleetArgs {
    /// Ask this fleet, a ProxyConfig, through the Kubernetes API server and with the kubeconfig's rights; `kubectl llm-proxy` takes the only one
    #[arg(long, global = true, value_name = "[NAMESPACE/]NAME", value_parser = fleet_name)]
    pub(crate) fleet: Option<FleetName>,

    /// The fleet's namespace; the context's if absent
    #[arg(short, long, global = true, value_name = "NAMESPACE", value_parser = namespace)]
    pub(crate) namespace: Option<String>,

    /// The context of the kubeconfig; its current one if absent
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// The kubeconfig; KUBECONFIG or ~/.kube/config if absent
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl FleetArgs {
    /// A flag that is given and says something only with a fleet, other than `--fleet` itself.
    pub(crate) fn detail(&self) -> Option<&'static str> {
        [
            (self.namespace.is_some(), "--namespace"),
            (self.context.is_some(), "--context"),
            (self.kubeconfig.is_some(), "--kubeconfig"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
    }
}

/// A fleet as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FleetName {
    /// Where it is, if that is said.
    pub(crate) namespace: Option<String>,
    /// The ProxyConfig's name.
    pub(crate) name: String,
}

impl fmt::Display for FleetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

fn fleet_name(text: &str) -> Result<FleetName, String> {
    let (space, name) = match text.split_once('/') {
        Some((space, name)) => (Some(namespace(space)?), name),
        None => (None, text),
    };
    dns_subdomain(name).map_err(|why| format!("the name {why}"))?;
    Ok(FleetName {
        namespace: space,
        name: name.to_owned(),
    })
}

fn namespace(text: &str) -> Result<String, String> {
    dns_label(text).map(|()| text.to_owned()).map_err(|why| format!("the namespace {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_named_with_or_without_its_namespace() {
        let read = |text| fleet_name(text).map(|fleet| fleet.to_string());
        assert_eq!(read("main").as_deref(), Ok("main"));
        assert_eq!(read("team-a/main.eu").as_deref(), Ok("team-a/main.eu"));
        for wrong in ["", "/", "a/", "/b", "a/b/c", "A/b", "a.b/c", "a/B", "../x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}

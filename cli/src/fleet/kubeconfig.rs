//! Which cluster, and as whom: the kubeconfig that a flag or the environment names, the usual one, or the ServiceAccount of this very pod.
//! None of its errors shows what stands in a file: it may hold tokens and keys.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use hyper_util::client::proxy::matcher::Matcher;
use kube::Config;
use kube::config::{ExecInteractiveMode, KubeConfigOptions, Kubeconfig, KubeconfigError, LoadDataError};

use crate::args::FleetArgs;
use crate::exit::Failure;

/// How to speak to the cluster.
///
/// # Errors
/// One line that names the file, the context, or what else is missing.
pub(super) async fn load(args: &FleetArgs) -> Result<Config, Failure> {
    let Some(kubeconfig) = read(args.kubeconfig.as_deref())? else {
        return in_cluster(args);
    };
    let names_proxy = names_proxy(&kubeconfig, args.context.as_deref());
    let options = KubeConfigOptions {
        context: args.context.clone(),
        ..KubeConfigOptions::default()
    };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| unusable(&error))?;
    if !names_proxy && !is_proxied(&config.cluster_url) {
        config.proxy_url = None;
    }
    // A credential plugin must not read what the command itself is about to read.
    if let Some(plugin) = &mut config.auth_info.exec
        && !io::stdin().is_terminal()
        && plugin.interactive_mode != Some(ExecInteractiveMode::Always)
    {
        plugin.interactive_mode = Some(ExecInteractiveMode::Never);
    }
    Ok(config)
}

fn in_cluster(args: &FleetArgs) -> Result<Config, Failure> {
    if args.context.is_some() || std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() {
        return Err(Failure::new(
            "no kubeconfig: give --kubeconfig FILE, set KUBECONFIG, or have one at ~/.kube/config",
        ));
    }
    Config::incluster()
        .map_err(|_| Failure::new("the ServiceAccount's token of this pod cannot be read: have the pod mount it, or give --kubeconfig FILE"))
}

/// The one file of the flag; else those of KUBECONFIG that exist, merged; else the usual one. `None` if there is none.
fn read(flag: Option<&Path>) -> Result<Option<Kubeconfig>, Failure> {
    if let Some(path) = flag {
        return read_file(path).map(Some);
    }
    let listed = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
    let paths: Vec<PathBuf> = match listed {
        Some(list) => std::env::split_paths(&list).collect(),
        None => std::env::home_dir().into_iter().map(|home| home.join(".kube/config")).collect(),
    };
    let mut found: Option<Kubeconfig> = None;
    for path in paths.iter().filter(|path| path.exists()) {
        let next = read_file(path)?;
        found = Some(match found {
            Some(found) => found
                .merge(next)
                .map_err(|_| Failure::new("the files of KUBECONFIG are of different kinds: give one of them by --kubeconfig"))?,
            None => next,
        });
    }
    Ok(found)
}

fn read_file(path: &Path) -> Result<Kubeconfig, Failure> {
    Kubeconfig::read_from(path).map_err(|error| match error {
        KubeconfigError::ReadConfig(why, _) => Failure::new(format_args!("cannot read the kubeconfig {}: {}", path.display(), plain(&why))),
        _ => Failure::new(format_args!(
            "{} is no kubeconfig: expected YAML with clusters, contexts and users",
            path.display()
        )),
    })
}

/// What is wrong with a kubeconfig that could be read.
fn unusable(error: &KubeconfigError) -> Failure {
    let data = |what: &str, why: &LoadDataError| match why {
        LoadDataError::ReadFile(error, path) => format!("its {what} cannot be read: {}: {}", path.display(), plain(error)),
        _ => format!("its {what} is not base64, or one half of a pair is missing"),
    };
    let why = match error {
        KubeconfigError::CurrentContextNotSet => "it has no current context: give --context NAME".to_owned(),
        KubeconfigError::LoadContext(name) => format!("it has no context {name:?}: `kubectl config get-contexts` lists them"),
        KubeconfigError::LoadClusterOfContext(name) => format!("its context names the cluster {name:?}, which it does not have"),
        KubeconfigError::MissingClusterUrl | KubeconfigError::ParseClusterUrl(_) => "its cluster has no server, or one that is no URL".to_owned(),
        KubeconfigError::LoadCertificateAuthority(why) => data("certificate authority", why),
        KubeconfigError::LoadClientCertificate(why) => data("client certificate", why),
        KubeconfigError::LoadClientKey(why) => data("client key", why),
        KubeconfigError::ParseCertificates(_) => "its certificate authority is not PEM".to_owned(),
        KubeconfigError::ParseProxyUrl(_) => "the proxy that it or HTTPS_PROXY names is no URL".to_owned(),
        KubeconfigError::ParseNoProxy(_) => "NO_PROXY is no list of hosts and networks".to_owned(),
        _ => "it is incomplete".to_owned(),
    };
    Failure::new(format_args!("the kubeconfig cannot be used: {why}"))
}

/// Whether the context's cluster names a proxy of its own: that one wins over the environment.
fn names_proxy(kubeconfig: &Kubeconfig, context: Option<&str>) -> bool {
    let Some(context) = context.or(kubeconfig.current_context.as_deref()) else {
        return false;
    };
    let context = kubeconfig.contexts.iter().find(|named| named.name == context);
    let Some(context) = context.and_then(|named| named.context.as_ref()) else {
        return false;
    };
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster);
    cluster
        .and_then(|named| named.cluster.as_ref()?.proxy_url.as_deref())
        .is_some_and(|proxy| !proxy.is_empty())
}

/// Whether the environment's HTTPS_PROXY and NO_PROXY mean this server. (kube 5.0 holds the proxy's own address against NO_PROXY.)
fn is_proxied(server: &http::Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    !loopback && Matcher::from_env().intercept(server).is_some()
}

/// The system's reason without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_PROXY: &str = r#"
clusters: [{name: c, cluster: {server: "https://example.com", proxy-url: "http://proxy:1"}}, {name: d, cluster: {server: "https://example.com"}}]
contexts: [{name: c, context: {cluster: c, user: u}}, {name: d, context: {cluster: d, user: u}}]
current-context: c
users: [{name: u, user: {token: canary}}]
"#;

    fn args(kubeconfig: &Path, context: Option<&str>) -> FleetArgs {
        FleetArgs {
            kubeconfig: Some(kubeconfig.to_owned()),
            context: context.map(str::to_owned),
            ..FleetArgs::default()
        }
    }

    async fn refusal(text: &str, context: Option<&str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, text).unwrap();
        let report = load(&args(&path, context)).await.unwrap_err().report();
        assert!(!report.contains("canary") && report.lines().count() == 1, "{report}");
        report
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_kubeconfig_is_said_without_what_stands_in_it() {
        let missing = load(&args(Path::new("/nonexistent/config"), None)).await.unwrap_err().report();
        assert_eq!(
            missing,
            "error: cannot read the kubeconfig /nonexistent/config: no such file or directory\n"
        );
        for wrong in [
            "canary",
            "users: canary",
            "contexts: [canary",
            "users: [{name: u, user: {token: [canary]}}]",
        ] {
            let said = refusal(wrong, None).await;
            assert!(said.contains("kubeconfig"), "{said}");
        }
        assert!(refusal(WITH_PROXY, Some("nowhere")).await.contains("no context \"nowhere\""));
        let text = "contexts: [{name: c, context: {cluster: gone, user: u}}]\ncurrent-context: c\n";
        assert!(refusal(text, None).await.contains("the cluster \"gone\", which it does not have"));
        assert!(refusal("contexts: []\n", None).await.contains("no current context"));
        let text = WITH_PROXY.replace("https://example.com", "canary canary");
        assert!(refusal(&text, None).await.contains("no URL"));
        let text = WITH_PROXY.replace("proxy-url: ", "certificate-authority-data: '!canary', x: ");
        assert!(refusal(&text, None).await.contains("certificate authority is not base64"));
        let text = WITH_PROXY.replace("proxy-url: ", "certificate-authority: /nonexistent/ca.crt, x: ");
        assert!(refusal(&text, None).await.contains("/nonexistent/ca.crt: no such file"));
    }

    #[tokio::test]
    async fn a_proxy_of_the_kubeconfig_counts_for_its_own_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, WITH_PROXY).unwrap();
        let config = load(&args(&path, None)).await.unwrap();
        assert_eq!(config.proxy_url.unwrap(), "http://proxy:1/");
        let kubeconfig = Kubeconfig::read_from(&path).unwrap();
        assert!(names_proxy(&kubeconfig, None) && !names_proxy(&kubeconfig, Some("d")));
    }

    #[test]
    fn a_server_on_this_host_is_never_proxied() {
        for server in ["https://127.0.0.1:6443", "https://localhost:6443", "https://[::1]:6443"] {
            assert!(!is_proxied(&server.parse().unwrap()), "{server}");
        }
    }
}

//! The programs of a node: Kubernetes' own, built from the module that pins the control plane, and those that the system's packages bring.
//! It refuses to know how they are started.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::runtime::cni_plugins;
use crate::cluster::programs::Recipe;

/// What has to be installed, under Debian's names.
const PACKAGES: &str = "containerd runc containernetworking-plugins iptables iproute2 conntrack kmod procps";

/// Where each program lies.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) containerd: PathBuf,
    pub(super) ctr: PathBuf,
    pub(super) cni_plugins: PathBuf,
    pub(super) kubelet: PathBuf,
    pub(super) kube_proxy: PathBuf,
    pub(super) scheduler: PathBuf,
    pub(super) name_server: PathBuf,
}

impl Programs {
    /// Finds the packages' programs and builds the others once (3 minutes on two cores). A process looks once.
    ///
    /// # Errors
    /// One line that says what to install.
    pub(super) fn find() -> Result<Self, String> {
        static FOUND: OnceLock<Result<Programs, String>> = OnceLock::new();
        FOUND.get_or_init(Self::look).clone()
    }

    fn look() -> Result<Self, String> {
        for name in ["runc", "iptables", "ip", "conntrack", "unshare", "nsenter", "sysctl", "ps"] {
            installed(name)?;
        }
        let cluster = Recipe::of("cluster");
        Ok(Self {
            containerd: installed("containerd")?,
            ctr: installed("ctr")?,
            cni_plugins: cni_plugins().ok_or_else(|| missing("the CNI plugins"))?,
            kubelet: cluster.build("kubelet", "k8s.io/kubernetes/cmd/kubelet")?,
            kube_proxy: cluster.build("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy")?,
            scheduler: cluster.build("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler")?,
            name_server: Recipe::of("coredns").build("coredns", "llm-proxy.dev/e2e/coredns")?,
        })
    }
}

fn installed(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).to_owned()));
    folders
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| missing(name))
}

fn missing(what: &str) -> String {
    format!("a node needs {what}: apt-get install {PACKAGES}")
}

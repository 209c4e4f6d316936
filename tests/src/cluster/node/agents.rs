//! What Kubernetes runs on a node, and the scheduler that gives it pods: their configuration, and how each is started. It refuses to know containers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::machine::{Inmate, Machine};
use super::network::Network;
use super::programs::Programs;
use super::runtime::SOCKET;
use crate::cluster::keeper::Kept;
use crate::cluster::{Cluster, User, users};

/// The node's name.
pub(super) const NODE: &str = "node1";

/// Starts the kubelet.
pub(super) fn kubelet(machine: &Machine, cluster: &Cluster, network: Network, programs: &Programs) -> Inmate {
    let own = cluster.folder().join("kubelet");
    fs::create_dir_all(disk(cluster)).expect("a writable run folder");
    let resolver = own.join("resolv.conf");
    fs::write(&resolver, "").expect("a writable run folder");
    let configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node(),
        // Nobody but this machine reaches it.
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", machine.group()),
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        // The pressure is over as soon as it is, not five minutes later.
        "evictionPressureTransitionPeriod": "1s",
        "evictionHard": { "memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
        // The tests' images come from nowhere else: never swept.
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [network.name_server()],
        "clusterDomain": "cluster.local",
        "resolvConf": resolver,
        "podLogsDir": own.join("logs"),
        "volumePluginDir": own.join("plugins"),
        // Changes of Secrets are seen by their watch; the files follow at the next look.
        "syncFrequency": "2s",
        "nodeStatusUpdateFrequency": "2s",
        "serializeImagePulls": false,
    });
    let file = own.join("kubelet.yaml");
    fs::write(&file, configuration.to_string()).expect("a writable run folder");
    let args = [
        format!("--config={}", file.display()),
        format!("--kubeconfig={}", kubeconfig(cluster, network, User::Kubelet).display()),
        format!("--root-dir={}", disk(cluster).display()),
        format!("--cert-dir={}", own.join("pki").display()),
        format!("--node-ip={}", network.node()),
        format!("--hostname-override={NODE}"),
    ];
    machine.spawn(cluster.folder(), "kubelet", &programs.kubelet, &args)
}

/// Where the kubelet keeps what its pods write.
pub(super) fn disk(cluster: &Cluster) -> PathBuf {
    cluster.folder().join("kubelet").join("disk")
}

/// Starts kube-proxy, which makes Services of iptables.
pub(super) fn kube_proxy(machine: &Machine, cluster: &Cluster, network: Network, programs: &Programs) -> Inmate {
    let args = [
        format!("--kubeconfig={}", kubeconfig(cluster, network, User::KubeProxy).display()),
        format!("--hostname-override={NODE}"),
        format!("--cluster-cidr={}", network.pods()),
        "--proxy-mode=iptables".to_owned(),
        // Sizes of connection tracking belong to the whole machine, not to this network.
        "--conntrack-max-per-core=0".to_owned(),
        "--conntrack-tcp-timeout-established=0s".to_owned(),
        "--conntrack-tcp-timeout-close-wait=0s".to_owned(),
    ];
    machine.spawn(cluster.folder(), "kube-proxy", &programs.kube_proxy, &args)
}

/// Starts CoreDNS, which answers for the names of Services.
pub(super) fn name_server(machine: &Machine, cluster: &Cluster, network: Network, programs: &Programs) -> Inmate {
    let file = cluster.folder().join("Corefile");
    let kubeconfig = kubeconfig(cluster, network, User::Admin);
    let corefile = format!(
        "cluster.local:53 {{\n    bind {}\n    errors\n    kubernetes cluster.local {{\n        kubeconfig {}\n        ttl 1\n    }}\n}}\n",
        network.name_server(),
        kubeconfig.display()
    );
    fs::write(&file, corefile).expect("a writable run folder");
    let args = ["-conf".to_owned(), file.display().to_string()];
    machine.spawn(cluster.folder(), "coredns", &programs.name_server, &args)
}

/// Starts the scheduler, on this machine.
pub(super) fn scheduler(cluster: &Cluster, programs: &Programs) -> Kept {
    let mut command = Command::new(&programs.scheduler);
    command
        .args(["--leader-elect=false", "--secure-port=0", "--kubeconfig"])
        .arg(cluster.kubeconfig(User::Scheduler));
    Kept::spawn(cluster.folder(), "kube-scheduler", &command)
}

/// A kubeconfig that leads to the API server from within.
fn kubeconfig(cluster: &Cluster, network: Network, user: User) -> PathBuf {
    let file = cluster.folder().join(format!("inside-{}", user.file()));
    let url = users::url((network.machine(), cluster.address().port()).into());
    users::write_kubeconfig(&file, &url, Some(&authority(cluster.folder())), &cluster.token(user), "default");
    file
}

fn authority(folder: &Path) -> PathBuf {
    folder.join("ca.crt")
}

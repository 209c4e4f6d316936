//! containerd and the network of pods, inside a machine. It refuses to know Kubernetes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::machine::{Inmate, Machine};
use super::network::Network;
use super::programs::Programs;
use crate::image::{self, Image, Recipe};
use crate::wait;

/// Where containerd listens, inside.
pub(super) const SOCKET: &str = "/run/containerd.sock";

/// The image that holds a pod's namespaces: something that waits.
const PAUSE: &str = "llm-proxy-tests/pause:1";

/// A running containerd.
#[derive(Debug)]
pub(super) struct Runtime {
    process: Inmate,
}

impl Runtime {
    /// Starts it, and gives it the pause image.
    ///
    /// # Panics
    /// With its log, if it does not answer.
    pub(super) fn start(machine: &Machine, folder: &Path, network: Network, programs: &Programs) -> Self {
        let folders = ["containerd", "cni"].map(|name| folder.join(name));
        for folder in &folders {
            fs::create_dir(folder).expect("a writable run folder");
        }
        let [own, cni] = &folders;
        fs::write(own.join("config.toml"), configuration(own, cni, programs)).expect("a writable run folder");
        fs::write(cni.join("pods.conflist"), pod_network(cni, network)).expect("a writable run folder");
        let args = ["--config".to_owned(), own.join("config.toml").display().to_string()];
        let process = machine.spawn(folder, "containerd", &programs.containerd, &args);
        let runtime = Self { process };
        wait::until("containerd answers", Duration::from_secs(60), || {
            assert!(!runtime.process.has_ended(), "containerd ends:\n{}", runtime.process.last_words());
            let mut ctr = machine.command(&programs.ctr);
            ctr.args(["--address", SOCKET, "version"])
                .output()
                .is_ok_and(|output| output.status.success())
        });
        let pause = Recipe {
            binary: Path::new("/bin/sleep"),
            path: "/bin/sleep",
            name: PAUSE,
            arguments: &["infinity"],
        };
        let pause = image::write(&pause, &folder.join("pause.tar")).unwrap_or_else(|why| panic!("{why}"));
        runtime.import(machine, programs, &pause);
        runtime
    }

    /// Makes an image known, as a registry would.
    ///
    /// # Panics
    /// If containerd refuses it.
    pub(super) fn import(&self, machine: &Machine, programs: &Programs, image: &Image) {
        Self::images(machine, programs, &["import", &image.file.display().to_string()]);
    }

    /// Gives an image a further name.
    ///
    /// # Panics
    /// If containerd refuses it.
    pub(super) fn name_image(&self, machine: &Machine, programs: &Programs, known: &str, further: &str) {
        // As a container runtime reads a name without a registry.
        let full = |name: &str| {
            if name.contains('/') {
                name.to_owned()
            } else {
                format!("docker.io/library/{name}")
            }
        };
        Self::images(machine, programs, &["tag", "--force", &full(known), &full(further)]);
    }

    fn images(machine: &Machine, programs: &Programs, words: &[&str]) {
        let ctr = programs.ctr.display().to_string();
        machine.succeed(&[&[&ctr, "--address", SOCKET, "--namespace", "k8s.io", "images"], words].concat());
    }
}

fn configuration(own: &Path, cni: &Path, programs: &Programs) -> String {
    let folder = |name: &str| own.join(name).display().to_string();
    let unused = ["aufs", "btrfs", "devmapper", "zfs"]
        .map(|name| format!("\"io.containerd.snapshotter.v1.{name}\""))
        .join(", ");
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = [{unused}]
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
# Without it every sandbox dies where root may not lower oom_score_adj (no CAP_SYS_RESOURCE).
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{cni}"
"#,
        root = folder("root"),
        state = folder("state"),
        plugins = programs.cni_plugins.display(),
        cni = cni.display(),
    )
}

fn pod_network(cni: &Path, network: Network) -> String {
    json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": cni.join("addresses"),
                    "ranges": [[{ "subnet": network.pods() }]], "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
    .to_string()
}

/// The folder of the CNI plugins: Debian's, or that of their own releases.
pub(super) fn cni_plugins() -> Option<PathBuf> {
    let folders = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
    folders.into_iter().map(PathBuf::from).find(|folder| folder.join("bridge").is_file())
}

//! A node for a control plane of the tests, on this machine: containerd, kubelet, kube-proxy, cluster DNS, and the scheduler. Pods run, Services
//! answer. It needs root and Linux. What it does to network, mounts and processes it does in a machine of its own, and leaves nothing behind,
//! whatever ends it.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

mod agents;
mod machine;
mod network;
mod programs;
mod runtime;

pub use network::Network;

use super::Cluster;
use super::keeper::Kept;
use crate::image::Image;
use crate::wait;
use machine::{Inmate, Machine};
use programs::Programs;
use runtime::Runtime;

/// How long the node may take to be Ready on a loaded machine.
const READY: Duration = Duration::from_secs(180);

/// A control plane with one node.
#[derive(Debug)]
pub struct Node {
    // Dropped from top to bottom: what writes to the API server before it, the machine with everything that is left in it, the run folder last.
    _kube_proxy: Inmate,
    kubelet: Mutex<Option<Inmate>>,
    _name_server: Inmate,
    runtime: Runtime,
    _scheduler: Kept,
    machine: Machine,
    cluster: Cluster,
    network: Network,
    programs: Programs,
}

/// Nodes of one process start one after the other: a start takes both cores of a small machine, and a node that runs takes 600 MB and little else.
static START: Mutex<()> = Mutex::new(());

impl Node {
    /// Why this machine cannot be a node, in one line.
    ///
    /// # Errors
    /// That line: no root, or a program is missing.
    pub fn possible() -> Result<(), String> {
        if !cfg!(target_os = "linux") || !rustix::process::geteuid().is_root() {
            return Err("a node needs root on Linux".to_owned());
        }
        Programs::find().map(|_| ())
    }

    /// Starts one and waits until it is Ready, or says loudly on standard error that this machine cannot be a node. In CI that is a failure: no test
    /// is skipped there. Nothing stands on its control plane but what Kubernetes brings.
    ///
    /// # Panics
    /// In CI, if it is not possible; with the log of what does not start.
    #[must_use]
    pub fn start_where_possible() -> Option<Self> {
        match Self::possible() {
            Ok(()) => Some(Self::start()),
            Err(why) => {
                assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{why}");
                say(&format!("\n*** SKIPPED: {why}. This test proves nothing here. ***\n"));
                None
            }
        }
    }

    fn start() -> Self {
        let _one_at_a_time = START.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        let programs = Programs::find().unwrap_or_else(|why| panic!("{why}"));
        let network = Network::free();
        let cluster = Cluster::options().bare().with_network(network).start();
        let folder = cluster.folder();
        let group = machine::group_name();
        let scheduler = agents::scheduler(&cluster, &programs);
        let machine = Machine::start(folder, network, &group);
        let runtime = Runtime::start(&machine, folder, network, &programs);
        let node = Self {
            _kube_proxy: agents::kube_proxy(&machine, &cluster, network, &programs),
            kubelet: Mutex::new(Some(agents::kubelet(&machine, &cluster, network, &programs))),
            _name_server: agents::name_server(&machine, &cluster, network, &programs),
            runtime,
            _scheduler: scheduler,
            machine,
            cluster,
            network,
            programs,
        };
        node.wait_until_ready();
        eprintln!("a node is ready after {:.1} s", begun.elapsed().as_secs_f64());
        node
    }

    fn wait_until_ready(&self) {
        let ready = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}/{.items[*].spec.taints}";
        wait::until("the node is Ready", READY, || {
            let kubelet = self.kubelet.lock().unwrap_or_else(PoisonError::into_inner);
            let kubelet = kubelet.as_ref().expect("the kubelet runs");
            assert!(!kubelet.has_ended(), "the kubelet ends:\n{}", kubelet.last_words());
            std::thread::sleep(Duration::from_millis(100));
            self.cluster.kubectl(&["get", "nodes", "-o", ready]).stdout == "True/"
        });
    }

    /// Its control plane.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Its addresses.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// The control group of everything that runs in its pods.
    #[must_use]
    pub fn control_group(&self) -> &str {
        self.machine.group()
    }

    /// Makes an image known to the node, as a registry would.
    ///
    /// # Panics
    /// If containerd refuses it.
    pub fn import(&self, image: &Image) {
        self.runtime.import(&self.machine, &self.programs, image);
    }

    /// Gives an image that the node knows a further name.
    ///
    /// # Panics
    /// If containerd refuses.
    pub fn name_image(&self, known: &str, further: &str) {
        self.runtime.name_image(&self.machine, &self.programs, known, further);
    }

    /// Gives the pods that come a disk of their own, of so many MiB, and returns where it is. Before the first pod: what stood on the other is lost
    /// to the kubelet.
    ///
    /// # Panics
    /// If it cannot be mounted.
    #[must_use]
    pub fn shrink_disk(&self, mebibytes: u32) -> PathBuf {
        let disk = agents::disk(&self.cluster);
        drop(self.kubelet.lock().unwrap_or_else(PoisonError::into_inner).take());
        let (size, place) = (format!("size={mebibytes}m"), disk.display().to_string());
        self.machine.succeed(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", &place]);
        self.restart_kubelet();
        disk
    }

    /// Kills the kubelet and starts it again; pods run on meanwhile.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart_kubelet(&self) {
        let mut kubelet = self.kubelet.lock().unwrap_or_else(PoisonError::into_inner);
        drop(kubelet.take());
        *kubelet = Some(agents::kubelet(&self.machine, &self.cluster, self.network, &self.programs));
    }

    /// Where an image may be written.
    #[must_use]
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.cluster.folder().join(name)
    }

    /// Runs a command in the node's own network, mounts and processes, and returns what it said.
    ///
    /// # Panics
    /// With what it said, if it fails.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> String {
        self.machine.succeed(words)
    }
}

/// Past the test runner, which shows what a test that passes says to nobody.
fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}

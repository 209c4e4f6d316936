//! What a node could leave behind on this machine, and that it does not. It refuses to know what ran on it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::cluster::node::{Network, Node};

/// Where this machine could show that a node is or was here: devices, routes, the packet filter, mounts, control groups, processes, folders.
#[derive(Clone, Debug)]
pub(crate) struct Traces {
    pub(crate) network: Network,
    pub(crate) folder: PathBuf,
    pub(crate) group: String,
}

impl Traces {
    pub(crate) fn of(node: &Node) -> Self {
        Self {
            network: node.network(),
            folder: node.cluster().folder().to_owned(),
            group: node.control_group().to_owned(),
        }
    }

    /// What there is now, a line each.
    pub(crate) fn now(&self) -> Vec<String> {
        // find complains of what vanishes while it looks.
        let said = |words: &[&str]| String::from_utf8_lossy(&Command::new(words[0]).args(&words[1..]).output().unwrap().stdout).into_owned();
        let third = self.network.machine().octets()[2];
        let (folder, group) = (self.folder.to_string_lossy().into_owned(), self.group.as_str());
        let addresses = [213, 214, 215].map(|second| format!("10.{second}.{third}."));
        let sources = [
            ("address", said(&["ip", "-o", "-4", "address"])),
            ("route", said(&["ip", "-4", "route", "show", "table", "all"])),
            ("rule", said(&["iptables-save"])),
            ("mount", fs::read_to_string("/proc/self/mounts").unwrap()),
            (
                "control group",
                said(&["find", "/sys/fs/cgroup", "-type", "d", "-path", &format!("*/{group}*")]),
            ),
            ("process", said(&["ps", "-eo", "args"])),
        ];
        let telling = |line: &&str| {
            // The search itself is a process, too.
            let ours = line.contains(&folder) || line.contains(group) || addresses.iter().any(|address| line.contains(address));
            ours && !line.starts_with("ps ")
        };
        let mut found: Vec<String> = Vec::new();
        for (kind, text) in &sources {
            found.extend(text.lines().filter(telling).map(|line| format!("{kind}: {line}")));
        }
        let folders = [
            folder.as_str(),
            "/run/containerd",
            "/var/lib/kubelet",
            "/var/log/pods",
            "/sys/class/net/cni0",
        ];
        found.extend(
            folders
                .iter()
                .filter(|folder| fs::metadata(folder).is_ok())
                .map(|folder| format!("folder: {folder}")),
        );
        found
    }

    /// Waits until there is nothing.
    pub(crate) fn until_gone(&self) {
        let begun = Instant::now();
        loop {
            let now = self.now();
            if now.is_empty() {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{now:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

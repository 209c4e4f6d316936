//! A machine within this machine: processes, mounts, network and packet filter of its own, joined to this machine by one wire. Whatever a node does
//! (bridges, iptables, mounts, containers) happens inside, and is gone with the machine's first process. It refuses to know what a node is.
//!
//! Control groups alone are not part of it: they are counted by their path, and swept when everything in them is dead.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::network::Network;
use crate::cluster::keeper::{Kept, shell};
use crate::random::Random;
use crate::wait;

/// The first process. Sockets, state and logs that programs keep at fixed places go to folders of its own. It stays as the parent of orphans.
const FIRST: &str = r#"set -e
for folder in /run /var/lib /var/log; do mount -t tmpfs tmpfs "$folder"; done
mount --make-rshared /
ip link set lo up
touch "$1"
trap '' INT TERM HUP
while :; do sleep 1000000; done"#;

/// Removes the control groups `$1` of every hierarchy, deepest first, when nobody holds them any more. `$2` is the id file of the machine.
const SWEEPER: &str = r#"trap '' INT TERM HUP
cat >/dev/null
tries=0
while [ $tries -lt 200 ]; do
    groups=$(find /sys/fs/cgroup -depth -type d -path "*/$1*" 2>/dev/null)
    [ -n "$groups" ] || exit 0
    rmdir $groups 2>/dev/null
    sleep 0.05
    tries=$((tries + 1))
done"#;

/// How the names of control groups begin; the id of the process that made it follows.
const GROUP: &str = "llm-proxy-test-";

/// A machine that lives as long as this does, or as its process does.
#[derive(Debug)]
pub(super) struct Machine {
    first: Kept,
    inside: Pid,
    sweeper: Child,
    group: String,
}

impl Machine {
    /// Starts it in a run folder. `group` is the control group that is swept after it.
    ///
    /// # Panics
    /// If this process is not root, or a step fails: with what was said.
    pub(super) fn start(folder: &Path, network: Network, group: &str) -> Self {
        let sweeper = shell(SWEEPER).arg(group).spawn().expect("/bin/sh runs");
        sweep_leftovers();
        make_group(group);
        let ready = folder.join("machine.ready");
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["/bin/sh", "-c", FIRST, "machine"]).arg(&ready);
        let first = Kept::spawn(folder, "machine", &command);
        wait::until("the machine is up", Duration::from_secs(20), || {
            assert!(!first.has_ended(), "the machine does not start:\n{}", first.last_words());
            ready.is_file()
        });
        let inside = child_of(first.pid()).expect("the machine's first process");
        let machine = Self {
            first,
            inside,
            sweeper,
            group: group.to_owned(),
        };
        machine.connect(network);
        machine
    }

    /// Lays the wire, and the routes to what lies behind it.
    fn connect(&self, network: Network) {
        let (device, inside) = (network.device(), self.inside.as_raw_nonzero().to_string());
        let (machine, node) = (format!("{}/30", network.machine()), format!("{}/30", network.node()));
        let via = network.node().to_string();
        succeed(Command::new("ip").args(["link", "add", &device, "type", "veth", "peer", "name", "eth0", "netns", &inside]));
        succeed(Command::new("ip").args(["address", "add", &machine, "dev", &device]));
        succeed(Command::new("ip").args(["link", "set", &device, "up"]));
        self.succeed(&["ip", "address", "add", &node, "dev", "eth0"]);
        self.succeed(&["ip", "link", "set", "eth0", "up"]);
        self.succeed(&["ip", "route", "add", "default", "via", &network.machine().to_string()]);
        self.succeed(&["ip", "address", "add", &format!("{}/32", network.name_server()), "dev", "lo"]);
        self.succeed(&["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"]);
        for subnet in [network.pods(), network.services()] {
            succeed(Command::new("ip").args(["route", "add", &subnet, "via", &via]));
        }
    }

    /// A command that runs inside.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.inside.as_raw_nonzero().to_string()]);
        command.args(["--net", "--mount", "--pid", "--uts", "--ipc", "--"]).arg(program);
        command
    }

    /// Runs a command inside that has to succeed, and returns what it said.
    ///
    /// # Panics
    /// With what it said, if it fails.
    pub(super) fn succeed(&self, words: &[&str]) -> String {
        succeed(self.command(words[0]).args(&words[1..]))
    }

    /// Keeps a process running inside. Its arguments must name files by absolute paths.
    pub(super) fn spawn(&self, folder: &Path, name: &str, program: &Path, args: &[String]) -> Inmate {
        let mut command = self.command(program);
        command.args(args);
        Inmate(Kept::spawn(folder, name, &command))
    }

    /// The control group of everything that runs in pods.
    pub(super) fn group(&self) -> &str {
        &self.group
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        kill(self.inside);
        wait::until("the machine is gone", Duration::from_secs(20), || self.first.has_ended());
        drop(self.sweeper.stdin.take());
        let _ = self.sweeper.wait();
    }
}

/// A process inside a machine. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Inmate(Kept);

impl Inmate {
    /// Whether it has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.0.has_ended()
    }

    /// The last lines of what it said.
    pub(super) fn last_words(&self) -> String {
        self.0.last_words()
    }
}

impl Drop for Inmate {
    fn drop(&mut self) {
        // nsenter waits for the process inside, which does not end with it.
        if let Some(process) = child_of(self.0.pid()) {
            kill(process);
        }
    }
}

fn kill(process: Pid) {
    // It may be gone already.
    let _ = kill_process(process, Signal::KILL);
}

/// The one child of a process that only stands in front of it.
fn child_of(process: Pid) -> Option<Pid> {
    let process = process.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok().and_then(Pid::from_raw)
}

/// A name for the control group of a machine of this process.
pub(super) fn group_name() -> String {
    format!("{GROUP}{}-{}", std::process::id(), Random::fresh().base62(6))
}

/// Where control groups are: one place in version 2, one per controller in version 1.
fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    if root.join("cgroup.controllers").is_file() {
        return vec![root];
    }
    // Some names are links to others.
    folders_in(&root)
}

/// Makes a control group in every hierarchy.
fn make_group(group: &str) {
    for hierarchy in hierarchies() {
        let folder = hierarchy.join(group);
        fs::create_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    }
}

/// Removes the control groups of processes whose shells were killed, too.
fn sweep_leftovers() {
    for group in hierarchies().iter().flat_map(|hierarchy| folders_in(hierarchy)) {
        let name = group.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let owner = name.strip_prefix(GROUP).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            remove_group(&group);
        }
    }
}

/// Children first. What is not empty stays: somebody is still in it.
fn remove_group(group: &Path) {
    for child in folders_in(group) {
        remove_group(&child);
    }
    let _ = fs::remove_dir(group);
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let own = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(own).map(|entry| entry.path()).collect()
}

fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (said, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?} failed ({status}): {said}{complained}");
    said.into_owned()
}

//! `llm-proxy operator` as a process of its own. It refuses to know what it operates on.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::program;

/// Starts an operator that reaches the API server by a kubeconfig file. Its logs stand below `scratch`; health and metrics are on a free port.
///
/// # Panics
/// If it does not start.
#[must_use]
pub fn start(scratch: &Path, kubeconfig: &Path, args: &[&str]) -> Process {
    let mut all = vec!["operator", "--listen", "127.0.0.1:0", "--log-format", "json"];
    all.extend(args);
    let mut command = program::command(&all);
    command.env("KUBECONFIG", kubeconfig);
    Process::spawn(command, scratch, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "")
}

/// Where its health and metrics are, as its log says.
///
/// # Panics
/// With its log, if that does not say so soon.
#[must_use]
pub fn address(process: &Process) -> SocketAddr {
    let begun = Instant::now();
    loop {
        let log = process.stderr();
        let found = log.lines().find_map(|line| {
            let (_, rest) = line.split_once("health and metrics are served on http://")?;
            rest.split('"').next()?.parse().ok()
        });
        if let Some(address) = found {
            return address;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "no address in its log:\n{log}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

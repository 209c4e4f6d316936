//! A fleet's pod as a process: `llm-proxy proxy` with the flags of the Deployment and the files that its Secrets would be mounted as.
//! It refuses to know who declared the fleet.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::process::Process;
use crate::program;

/// What a pod of a fleet reads at its start.
#[derive(Clone, Debug)]
pub struct Mounted {
    /// The database's URL.
    pub database_url: String,
    /// The fleet's encryption key.
    pub encryption_key: String,
    /// The fleet's management token.
    pub management_token: String,
}

/// Starts a pod of the fleet `claim` (cluster/namespace/name) on free ports and waits until it serves. Its files stand below `scratch`.
///
/// # Panics
/// If it does not become ready.
#[must_use]
pub fn start(scratch: &Path, claim: &str, mounted: &Mounted, args: &[&str]) -> Process {
    let folder = tempfile::Builder::new().prefix("mounted-").tempdir_in(scratch).expect("a folder").keep();
    let file = |flag: &str, value: &str| {
        let path = folder.join(flag);
        fs::write(&path, value).expect("a file for what is mounted");
        format!("--{flag}-file={}", path.display())
    };
    let files = [
        file("database-url", &mounted.database_url),
        file("encryption-key", &mounted.encryption_key),
        file("management-token", &mounted.management_token),
    ];
    let mut all = vec![
        "proxy",
        "--claim",
        claim,
        "--listen",
        "127.0.0.1:0",
        "--manage-listen",
        "127.0.0.1:0",
        "--log-format",
        "json",
    ];
    all.extend(files.iter().map(String::as_str));
    all.extend(args);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut process = Process::spawn(program::command(&all), scratch, address, "");
    process.wait_until_ready();
    process
}

//! A signal that comes while the process of a pod has only just begun.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{eventually, llm_proxy};

#[test]
fn a_pod_that_is_told_to_end_while_it_still_reads_its_files_ends_in_order_once_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let (url, key) = (folder.path().join("url"), folder.path().join("key"));
    // Whoever reads it waits for who writes it, and the other way round.
    assert!(Command::new("mkfifo").arg(&url).status().unwrap().success());
    fs::write(&key, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let mut command = llm_proxy([
        "proxy",
        "--claim=cluster/namespace/name",
        "--listen=127.0.0.1:0",
        "--drain-delay=0s",
        &flag("database-url-file", &url),
        &flag("encryption-key-file", &key),
    ]);
    let mut pod = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut writer = fs::OpenOptions::new().write(true).open(&url).unwrap();
    let id = pod.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    // Nobody listens there.
    writer.write_all(b"postgres://nobody@127.0.0.1:1/nothing").unwrap();
    drop(writer);
    let ended = eventually("the pod ends", || pod.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0), "in order, not by the signal");
}

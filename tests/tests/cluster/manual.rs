//! The block of docs/cli.md that needs an API server is run, as somebody would type it.

use std::process::Command;

use testkit::cluster::{Cluster, User};
use testkit::postgres::Database;
use testkit::program;

const MANUAL: &str = include_str!("../../../docs/cli.md");

#[test]
fn the_manuals_way_to_a_key_in_a_cluster_leads_there() {
    // Of its own: it is operated on as a whole.
    let (cluster, database, scratch) = (Cluster::start(), Database::create(), tempfile::tempdir().unwrap());
    let (_, after) = MANUAL.split_once("<!-- cluster: operate -->\n```sh\n").expect("the block");
    let (block, _) = after.split_once("\n```").expect("its end");
    let tools = scratch.path().join("bin");
    std::fs::create_dir(&tools).unwrap();
    std::os::unix::fs::symlink(program::path(), tools.join("llm-proxy")).unwrap();
    std::os::unix::fs::symlink(cluster.kubectl_path(), tools.join("kubectl")).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let script = format!("set -euo pipefail\ntrap 'kill %1 && wait %1' EXIT\n{block}\n");
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .env("PATH", path)
        .env("HOME", scratch.path())
        .env("KUBECONFIG", cluster.kubeconfig(User::Admin))
        .env("DATABASE_URL", database.url())
        .output()
        .expect("bash");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    let key = stdout.lines().last().unwrap_or_default();
    assert!(
        key.starts_with("sk-lp-") && key.len() == 53,
        "no key at the end of {} lines",
        stdout.lines().count()
    );
    assert!(!stderr.contains(key), "the key stands in a log");
}

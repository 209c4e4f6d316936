//! A node whose disk is full: pods without a disk of their own are evicted, the fleet says so, and comes back when there is space, with every key.

use std::time::{Duration, Instant};

use testkit::client::Connection;

use crate::site::{Site, long, until};
use crate::stage::{Stage, is_whole, stream};

/// The node's condition, `True` or `False`.
fn disk_pressure(site: &Site) -> String {
    let path = r#"jsonpath={.status.conditions[?(@.type=="DiskPressure")].status}"#;
    site.kubectl(&["get", "node", "node1", "-o", path]).stdout
}

#[test]
fn pods_that_a_full_disk_has_evicted_come_back_with_it_and_every_key_works_on() {
    if !long("a node whose disk is full") {
        return;
    }
    let Some(site) = Site::of_its_own() else { return };
    let disk = site.node.shrink_disk(256);
    site.make_system_namespace();
    site.install(&["--wait", "--set=replicaCount=1"]);
    let stage = Stage::with_fleet(&site, 2);
    let key = stage.key();
    let answer = Connection::open(stage.service(2)).unwrap().send(&stream(&key, 3)).unwrap();
    assert!(is_whole(&answer, 3), "{}", answer.text());

    let begun = Instant::now();
    let hog = disk.join("hog").display().to_string();
    // All but 1.5 MiB, less than what evicts: without any space the kubelet itself can end no pod.
    let fill = format!(
        "head -c $(($(df --output=avail -B1 {0} | tail -n 1) - 1572864)) /dev/zero >{hog}",
        disk.display()
    );
    let _ = site.node.run(&["/bin/sh", "-c", &fill]);
    until("the node is under pressure", Duration::from_secs(120), || disk_pressure(&site) == "True");
    eprintln!("under pressure {:.1} s after the disk was full", begun.elapsed().as_secs_f64());
    let evicted = || stage.field("pods", r#".items[?(@.status.reason=="Evicted")].metadata.name"#);
    until("a pod is evicted", Duration::from_secs(180), || !evicted().is_empty());
    eprintln!("evicted after {:.1} s: {}", begun.elapsed().as_secs_f64(), evicted());
    // One pod after the other goes, and none can come.
    until("the fleet is not Ready", Duration::from_secs(240), || {
        stage.condition("proxyconfig/main", "Ready").0 == "NoReplicas"
    });
    let (_, message) = stage.condition("proxyconfig/main", "Progressing");
    eprintln!("after {:.1} s no pod serves: {message}", begun.elapsed().as_secs_f64());
    assert!(message.contains("Unschedulable"), "{message}");

    let begun = Instant::now();
    let _ = site.node.run(&["rm", &hog]);
    until("the pressure is over", Duration::from_secs(120), || disk_pressure(&site) == "False");
    stage.wait_for("proxyconfig/main", "condition=Ready");
    stage.wait_for("proxyconfig/main", "jsonpath={.status.readyReplicas}=2");
    eprintln!("two pods are back {:.1} s after there was space", begun.elapsed().as_secs_f64());
    let answer = Connection::open(stage.service(2)).unwrap().send(&stream(&key, 3)).unwrap();
    assert!(is_whole(&answer, 3), "{}", answer.text());
    assert_eq!(stage.key(), key);
}

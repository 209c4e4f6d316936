//! What goes wrong on a node: a wrong Secret, a database that is down, a restarted kubelet, killed pods, a rollout under load.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::client::Connection;

use crate::site::{IMAGE, SYSTEM, Site, long, until};
use crate::stage::{Stage, is_whole, ours, stream};
use crate::workers::Workers;

/// Restarts of the operator's containers, summed.
fn restarts(site: &Site) -> u32 {
    let path = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    let counts = site.kubectl(&["-n", SYSTEM, "get", "pods", "-o", path]).ok();
    counts.split_whitespace().map(|count| count.parse::<u32>().unwrap()).sum()
}

#[test]
fn a_wrong_secret_and_a_database_that_is_down_are_said_and_heal_without_a_restart() {
    let Some(site) = Site::shared() else { return };
    let (stage, before) = (Stage::on(site), restarts(site));
    // Down at first, and the password is not the point: nobody answers.
    stage.wire.refuse(true);
    stage.database_secret("not a URL");
    stage.fleet(1);
    stage.wait_for("proxyconfig/main", "condition=DatabaseReady=False");
    let (_, why) = stage.condition("proxyconfig/main", "DatabaseReady");
    assert!(!why.is_empty() && !why.contains("not a URL"), "{why}");
    stage.database_secret(&stage.database_url());
    until("the database is said to be away", Duration::from_secs(60), || {
        stage.condition("proxyconfig/main", "DatabaseReady").0 == "DatabaseUnavailable"
    });
    stage.wire.refuse(false);
    stage.wait_for("proxyconfig/main", "condition=Ready");
    stage.wait_for("witheringtoken/hello", "condition=Ready");
    let address = stage.service(1);
    let answer = Connection::open(address).unwrap().send(&stream(&stage.key(), 3)).unwrap();
    assert!(is_whole(&answer, 3), "{}", answer.text());
    assert_eq!(restarts(site), before, "{}", stage.told());
}

#[test]
fn a_stream_outlives_the_kubelet_its_own_pod_and_the_leading_operator() {
    if !long("a stream outlives a restart of the kubelet, its own pod and the leading operator") {
        return;
    }
    let Some(site) = Site::for_an_installation() else { return };
    site.make_system_namespace();
    site.install(&["--wait"]);
    let stage = Stage::with_fleet(&site, 1);
    let (address, key) = (stage.service(1), stage.key());
    // Ten seconds.
    let words = 500;
    let streaming = std::thread::spawn({
        let key = key.clone();
        move || Connection::open(address).unwrap().send(&stream(&key, words)).unwrap()
    });
    let pod = stage.kubectl(&["get", "pods", "-o", "name"]).ok().trim().to_owned();
    site.node.restart_kubelet();
    let _ = stage.kubectl(&["delete", &pod, "--wait=false"]).ok();
    let holder = || {
        let path = "jsonpath={.spec.holderIdentity}";
        site.kubectl(&["-n", SYSTEM, "get", "lease", "llm-proxy", "-o", path]).stdout
    };
    let first = holder();
    // After the pod's name stands what tells two processes of one pod apart.
    let leader = first.split('_').next().unwrap();
    let _ = site.kubectl(&["-n", SYSTEM, "delete", "pod", leader, "--grace-period=0", "--force"]).ok();
    let begun = Instant::now();
    until("another operator leads", Duration::from_secs(60), || {
        let now = holder();
        !now.is_empty() && now != first
    });
    eprintln!("another operator leads {:.1} s after the kill", begun.elapsed().as_secs_f64());
    stage.apply(&[ours("WitheringToken", "next", json!({ "projectRef": { "name": "demo" } }))]);
    stage.wait_for("witheringtoken/next", "condition=Ready");
    let answer = streaming.join().unwrap();
    assert!(is_whole(&answer, words), "{:?} {}", answer.end, answer.text());
    let answer = Connection::open(stage.service(1)).unwrap().send(&stream(&key, 3)).unwrap();
    assert!(is_whole(&answer, 3), "{}", answer.text());
    drop(stage);
    site.uninstall();
    site.remove_system_namespace();
}

/// How many clients stream all the time.
const WORKERS: usize = 20;

#[test]
fn a_change_of_the_image_of_three_pods_fails_and_cuts_no_stream() {
    if !long("a change of the image of three pods under 20 workers") {
        return;
    }
    let Some(site) = Site::shared() else { return };
    site.node.name_image(IMAGE, "llm-proxy:next");
    let stage = Stage::with_fleet(site, 3);
    let (address, key) = (stage.service(3), stage.key());
    let workers = Workers::start(WORKERS, address, &key, 50);
    until("every worker has streamed", Duration::from_secs(60), || workers.whole() >= WORKERS);
    let begun = Instant::now();
    let _ = stage
        .kubectl(&[
            "patch",
            "proxyconfig/main",
            "--type=merge",
            r#"--patch={"spec":{"image":{"tag":"next"}}}"#,
        ])
        .ok();
    let rolled = || {
        let images = stage
            .kubectl(&["get", "pods", "-o", "jsonpath={.items[*].spec.containers[0].image}"])
            .stdout;
        let images: Vec<&str> = images.split_whitespace().collect();
        images.len() == 3 && images.iter().all(|image| image.ends_with(":next"))
    };
    until("three new pods and no old one", Duration::from_secs(240), rolled);
    eprintln!("rolled in {:.1} s", begun.elapsed().as_secs_f64());
    let (whole, broken) = workers.stop();
    eprintln!("{whole} streams were whole, {} were not", broken.len());
    assert!(broken.is_empty(), "{broken:#?}");
}

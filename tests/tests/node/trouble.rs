//! What goes wrong on a node: a wrong Secret, a database that is down, a restarted kubelet, killed pods, a rollout under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::client::Connection;
use testkit::wait;

use crate::stage::{SYSTEM, Stage, is_whole, ours, stream};

/// Restarts of the operator's containers, summed.
fn restarts(stage: &Stage) -> u32 {
    let path = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    let counts = stage.cluster().kubectl(&["-n", SYSTEM, "get", "pods", "-o", path]).ok();
    counts.split_whitespace().map(|count| count.parse::<u32>().unwrap()).sum()
}

#[test]
fn a_wrong_secret_and_a_database_that_is_down_are_said_and_heal_without_a_restart() {
    let Some(stage) = Stage::where_possible() else { return };
    // Down at first, and the password is not the point: nobody answers.
    stage.wire.refuse(true);
    stage.database_secret("not a URL");
    stage.fleet(1);
    stage.wait_for("proxyconfig/main", "condition=DatabaseReady=False");
    let why = stage.field("proxyconfig/main", r#".status.conditions[?(@.type=="DatabaseReady")].message"#);
    assert!(!why.is_empty() && !why.contains("not a URL"), "{why}");
    stage.database_secret(&stage.database_url());
    wait::until("the database is said to be away", Duration::from_secs(60), || {
        stage.field("proxyconfig/main", r#".status.conditions[?(@.type=="DatabaseReady")].reason"#) == "DatabaseUnavailable"
    });
    stage.wire.refuse(false);
    stage.wait_for("proxyconfig/main", "condition=Ready");
    stage.wait_for("witheringtoken/hello", "condition=Ready");
    let address = stage.service(1);
    let answer = Connection::open(address).unwrap().send(&stream(&stage.key(), 3)).unwrap();
    assert!(is_whole(&answer, 3), "{}", answer.text());
    assert_eq!(restarts(&stage), 0, "{}", stage.told());
}

#[test]
fn an_image_that_no_registry_has_is_named_within_seconds_of_the_kubelets_word_and_its_correction_heals() {
    let Some(stage) = Stage::where_possible() else { return };
    stage.database_secret(&stage.database_url());
    stage.fleet(1);
    stage.wait_for("proxyconfig/main", "condition=Ready");
    assert_eq!(stage.field("proxyconfig/main", ".status.readyReplicas"), "1");
    let tag = |tag: &str| {
        let patch = format!(r#"--patch={{"spec":{{"image":{{"tag":"{tag}"}}}}}}"#);
        let _ = stage.kubectl(&["patch", "proxyconfig/main", "--type=merge", &patch]).ok();
    };
    let reason = || stage.field("proxyconfig/main", r#".status.conditions[?(@.type=="Progressing")].reason"#);
    tag("typo");
    wait::until("the kubelet cannot pull it", Duration::from_secs(60), || {
        let path = "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}";
        stage.kubectl(&["get", "pods", "-o", path]).stdout.contains("Pull")
    });
    let begun = Instant::now();
    wait::until("the fleet says so", Duration::from_secs(15), || reason() == "ImagePullFailed");
    eprintln!("ImagePullFailed {:.1} s after the kubelet's word", begun.elapsed().as_secs_f64());
    let why = stage.field("proxyconfig/main", r#".status.conditions[?(@.type=="Progressing")].message"#);
    assert!(why.contains("llm-proxy:typo") && why.contains("spec.image"), "{why}");
    // What ran goes on.
    stage.wait_for("proxyconfig/main", "condition=Ready");
    let answer = Connection::open(stage.service(1)).unwrap().send(&stream(&stage.key(), 3)).unwrap();
    assert!(is_whole(&answer, 3), "{}", answer.text());
    tag("tests");
    wait::until("the fleet is whole again", Duration::from_secs(60), || reason() == "Deployed");
}

#[test]
fn a_stream_outlives_the_kubelet_its_own_pod_and_the_leading_operator() {
    let Some(mut stage) = Stage::where_possible() else { return };
    stage.database_secret(&stage.database_url());
    stage.fleet(1);
    stage.wait_for("witheringtoken/hello", "condition=Ready");
    let (address, key) = (stage.service(1), stage.key());
    // Ten seconds.
    let words = 500;
    let streaming = std::thread::spawn({
        let key = key.clone();
        move || Connection::open(address).unwrap().send(&stream(&key, words)).unwrap()
    });
    let pod = stage.kubectl(&["get", "pods", "-o", "name"]).ok().trim().to_owned();
    stage.node.restart_kubelet();
    let _ = stage.kubectl(&["delete", &pod, "--wait=false"]).ok();
    let holder = stage
        .cluster()
        .kubectl(&["-n", SYSTEM, "get", "lease", "llm-proxy", "-o", "jsonpath={.spec.holderIdentity}"])
        .ok();
    // After the pod's name stands what tells two processes of one pod apart.
    let leader = holder.split('_').next().unwrap();
    let _ = stage
        .cluster()
        .kubectl(&["-n", SYSTEM, "delete", "pod", leader, "--grace-period=0", "--force"])
        .ok();
    let begun = Instant::now();
    wait::until("another operator leads", Duration::from_secs(60), || {
        let path = ["-n", SYSTEM, "get", "lease", "llm-proxy", "-o", "jsonpath={.spec.holderIdentity}"];
        let now = stage.cluster().kubectl(&path).stdout;
        !now.is_empty() && now != holder
    });
    eprintln!("another operator leads {:.1} s after the kill", begun.elapsed().as_secs_f64());
    stage.apply(&[ours("WitheringToken", "next", json!({ "projectRef": { "name": "demo" } }))]);
    stage.wait_for("witheringtoken/next", "condition=Ready");
    let answer = streaming.join().unwrap();
    assert!(is_whole(&answer, words), "{:?} {}", answer.end, answer.text());
    let answer = Connection::open(stage.service(1)).unwrap().send(&stream(&key, 3)).unwrap();
    assert!(is_whole(&answer, 3), "{}", answer.text());
}

/// How many clients stream all the time.
const WORKERS: usize = 20;

#[test]
fn a_change_of_the_image_of_three_pods_fails_and_cuts_no_stream() {
    let Some(stage) = Stage::where_possible() else { return };
    stage.import("llm-proxy:next");
    stage.database_secret(&stage.database_url());
    stage.fleet(3);
    stage.wait_for("witheringtoken/hello", "condition=Ready");
    let (address, key) = (stage.service(3), stage.key());
    let (over, whole) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (over, whole, key) = (Arc::clone(&over), Arc::clone(&whole), key.clone());
            std::thread::spawn(move || {
                let mut broken = Vec::new();
                while !over.load(Ordering::SeqCst) {
                    match Connection::open(address).and_then(|mut connection| connection.send(&stream(&key, 50))) {
                        Ok(answer) if is_whole(&answer, 50) => {
                            whole.fetch_add(1, Ordering::SeqCst);
                        }
                        Ok(answer) => broken.push(format!("{} {:?} {}", answer.status, answer.end, answer.text())),
                        Err(error) => broken.push(error.to_string()),
                    }
                }
                broken
            })
        })
        .collect();
    wait::until("every worker has streamed", Duration::from_secs(60), || {
        whole.load(Ordering::SeqCst) >= WORKERS
    });
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
    wait::until("three new pods and no old one", Duration::from_secs(240), || {
        std::thread::sleep(Duration::from_millis(200));
        rolled()
    });
    eprintln!("rolled in {:.1} s", begun.elapsed().as_secs_f64());
    over.store(true, Ordering::SeqCst);
    let broken: Vec<String> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
    eprintln!("{} streams were whole, {} were not", whole.load(Ordering::SeqCst), broken.len());
    assert!(broken.is_empty(), "{broken:#?}");
}

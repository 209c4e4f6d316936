//! A pod that is taken away under load: what streams in it ends whole, what comes finds another, and every request is counted once.

use std::time::{Duration, Instant};

use crate::site::{Site, until};
use crate::stage::Stage;
use crate::workers::Workers;

#[test]
fn a_pod_deleted_under_load_cuts_nothing_and_what_was_used_is_exactly_what_was_answered() {
    let Some(site) = Site::shared() else { return };
    let stage = Stage::with_fleet(site, 2);
    let limit = [
        "patch",
        "witheringtoken/hello",
        "--type=merge",
        r#"--patch={"spec":{"maxRequests":100000}}"#,
    ];
    let _ = stage.kubectl(&limit).ok();
    stage.wait_for("witheringtoken/hello", "jsonpath={.status.observedGeneration}=2");
    stage.wait_for("witheringtoken/hello", "condition=Ready");
    let workers = Workers::start(6, stage.service(2), &stage.key(), 20);
    until("every worker has streamed", Duration::from_secs(60), || workers.whole() >= 6);
    let pods = stage.kubectl(&["get", "pods", "-o", "name"]).ok();
    let leaving = pods.lines().next().unwrap();
    let _ = stage.kubectl(&["delete", leaving, "--wait=false"]).ok();
    let gone = stage.kubectl(&["wait", leaving, "--for=delete", "--timeout=90s"]);
    assert!(gone.success, "{}\n{}", gone.stderr, stage.told());
    let (whole, broken) = workers.stop();
    eprintln!("{whole} streams were whole, {} were not", broken.len());
    assert!(broken.is_empty(), "{broken:#?}");

    // What was leased and not used is free again, from the pod that went as from those that have nothing to do.
    let sums = "SELECT SUM(used)::bigint AS a, SUM(reserved)::bigint AS b, SUM(forfeited)::bigint AS c FROM quotas";
    let figures = || stage.database.texts(sums);
    let expected = vec![vec![whole.to_string(), "0".to_owned(), "0".to_owned()]];
    let mut seen = figures();
    let begun = Instant::now();
    while seen != expected && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(200));
        seen = figures();
    }
    assert_eq!(seen, expected, "used, reserved, forfeited");
}

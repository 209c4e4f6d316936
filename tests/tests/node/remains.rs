//! All objects of an API server, and what is left of them after an uninstallation: nothing but what is said, with the reason why it stays.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::site::Site;

/// Every object on the API server, as `Kind namespace name`.
pub(crate) fn everything(site: &Site) -> BTreeSet<String> {
    let kinds = site.kubectl(&["api-resources", "--verbs=list", "--output=name"]).ok();
    // The same objects under a second name: Events of the older group, Endpoints of the EndpointSlices.
    let kinds: Vec<&str> = kinds.lines().filter(|&kind| kind != "events").collect();
    let found = site.kubectl(&[
        "get",
        &kinds.join(","),
        "-A",
        "--ignore-not-found",
        "-o",
        "custom-columns=K:.kind,NS:.metadata.namespace,N:.metadata.name",
        "--no-headers",
    ]);
    let lines = found.ok();
    lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Waits until what came since `before` is what may stay, and returns it. `stays` are beginnings of lines, each of which is there.
#[track_caller]
pub(crate) fn await_only(site: &Site, before: &BTreeSet<String>, stays: &[&str]) {
    let begun = Instant::now();
    loop {
        let now = everything(site);
        let came: Vec<&String> = now.difference(before).collect();
        let surplus: Vec<_> = came.iter().filter(|line| !stays.iter().any(|stay| line.starts_with(stay))).collect();
        let absent: Vec<_> = stays.iter().filter(|&&stay| !came.iter().any(|line| line.starts_with(stay))).collect();
        let lost: Vec<&String> = before.difference(&now).collect();
        if surplus.is_empty() && absent.is_empty() && lost.is_empty() {
            eprintln!("nothing else is left after {:.1} s", begun.elapsed().as_secs_f64());
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(90),
            "left without a reason: {surplus:#?}\nsaid to stay, and gone: {absent:#?}\nnot ours, and gone: {lost:#?}"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

//! An image that is nowhere: said by a condition, with its name, soon after the kubelet knows; healed by the image alone, or by another name.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::client::Connection;

use crate::site::{IMAGE, Site, until};
use crate::stage::{Stage, fleet_of, is_whole, ours, stream};

#[test]
fn an_image_that_is_missing_is_named_by_a_condition_and_heals_when_it_comes() {
    let Some(site) = Site::shared() else { return };
    let stage = Stage::on(site);
    // A registry where nobody listens, which is known at once.
    let (repository, tag) = ("127.0.0.1:1/llm-proxy", stage.namespace.clone());
    let image = format!("{repository}:{tag}");
    stage.database_secret(&stage.database_url());
    stage.fleet(1);
    stage.wait_for("proxyconfig/main", "condition=Ready");
    let mut spec = fleet_of(1);
    spec["image"] = json!({ "repository": repository, "tag": tag });
    stage.apply(&[ours("ProxyConfig", "main", spec)]);
    let progress = || stage.condition("proxyconfig/main", "Progressing");
    until("the kubelet cannot pull it", Duration::from_secs(60), || {
        let waiting = stage.field("pods", ".items[*].status.containerStatuses[*].state.waiting.reason");
        waiting.contains("Pull")
    });
    let begun = Instant::now();
    until("the fleet says so", Duration::from_secs(15), || progress().0 == "ImagePullFailed");
    eprintln!("said {:.1} s after the kubelet knew", begun.elapsed().as_secs_f64());
    let (_, message) = progress();
    assert!(message.contains(&image) && message.contains("spec.image"), "{message}");
    // What serves goes on while the new pod cannot start.
    assert_eq!(stage.condition("proxyconfig/main", "Ready").0, "Ready", "{}", stage.told());
    stage.wait_for("witheringtoken/hello", "condition=Ready");
    let (address, key) = (stage.service(1), stage.key());
    let answer = Connection::open(address).unwrap().send(&stream(&key, 3)).unwrap();
    assert!(is_whole(&answer, 3), "{}", answer.text());

    site.node.name_image(IMAGE, &image);
    until("the new pod has taken over", Duration::from_secs(120), || progress().0 == "Deployed");
    until("the old pod is gone", Duration::from_secs(60), || {
        stage.field("pods", ".items[*].spec.containers[0].image") == image
    });
    let answer = Connection::open(stage.service(1)).unwrap().send(&stream(&key, 3)).unwrap();
    assert!(is_whole(&answer, 3), "{}", answer.text());

    let rename = |tag: &str| {
        let patch = format!(r#"--patch={{"spec":{{"image":{{"tag":"{tag}"}}}}}}"#);
        let _ = stage.kubectl(&["patch", "proxyconfig/main", "--type=merge", &patch]).ok();
    };
    rename("typo");
    until("the wrong name is said", Duration::from_secs(60), || progress().0 == "ImagePullFailed");
    rename(&tag);
    until("the right one is deployed", Duration::from_secs(60), || progress().0 == "Deployed");
}

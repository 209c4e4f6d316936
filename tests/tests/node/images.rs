//! An image that is nowhere: said by a condition, with its name, and healed by the image alone, without a touch of the object.

use std::time::Duration;

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
    until("the image is said to be missing", Duration::from_secs(60), || {
        stage.condition("proxyconfig/main", "Progressing").0 == "ImagePullFailed"
    });
    let (_, message) = stage.condition("proxyconfig/main", "Progressing");
    assert!(message.contains(&image), "{message}");
    // What serves goes on while the new pod cannot start.
    assert_eq!(stage.condition("proxyconfig/main", "Ready").0, "Ready", "{}", stage.told());
    stage.wait_for("witheringtoken/hello", "condition=Ready");
    let (address, key) = (stage.service(1), stage.key());
    let answer = Connection::open(address).unwrap().send(&stream(&key, 3)).unwrap();
    assert!(is_whole(&answer, 3), "{}", answer.text());

    site.node.name_image(IMAGE, &image);
    until("the new pod has taken over", Duration::from_secs(120), || {
        stage.condition("proxyconfig/main", "Progressing").0 == "Deployed"
    });
    until("the old pod is gone", Duration::from_secs(60), || {
        stage.field("pods", ".items[*].spec.containers[0].image") == image
    });
    let answer = Connection::open(stage.service(1)).unwrap().send(&stream(&key, 3)).unwrap();
    assert!(is_whole(&answer, 3), "{}", answer.text());
}

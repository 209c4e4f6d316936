//! The three kinds applied with kubectl become a working key in a Secret.

use std::time::Duration;

use crate::operating::{Operating, Team, options};

#[test]
fn the_three_kinds_applied_at_once_become_a_secret_with_a_key() {
    let team = Team::new();
    let operating = Operating::of(team.cluster, options(&[&team.namespace]));
    team.apply(&Team::everything());
    team.wait_for("wtok/app", "Ready", Duration::from_secs(20));
    let keys = team.kubectl(&["get", "secret", "app", "-o", "jsonpath={.data}"]);
    assert!(
        keys.contains("token") && keys.contains("OPENAI_API_KEY") && keys.contains("OPENAI_BASE_URL"),
        "{keys}"
    );
    team.wait_for("llmproj/team", "Ready", Duration::from_secs(5));
    operating.stop();
}

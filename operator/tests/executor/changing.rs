//! Edited specs, switched-off projects, revocation and replicas.

use super::*;

#[tokio::test]
async fn a_changed_limit_and_a_shorter_life_hold_without_a_new_value() {
    let mut home = issued().await;
    let value = home.value("web").unwrap();
    home.write("token.yaml", &token("web", "maxRequests: 3").replace("30m", "20m"));
    home.settled().await;
    let row = home.token("web").await;
    assert_eq!((row.max_requests, row.quota.unwrap().max_units), (Some(3), 3));
    assert_eq!(
        living(&row, RevisionState::Active, home.now())[0].ends_at,
        support::START.plus_ms(20 * MINUTE)
    );
    assert!(home.value("web").unwrap() == value);
    assert_eq!(home.object("WitheringToken", "web").await.unwrap().generation, 2);
}

#[tokio::test]
async fn a_suspended_token_gets_its_value_back() {
    let mut home = issued().await;
    let value = home.value("web").unwrap();
    home.write("token.yaml", &token("web", "state: Suspended"));
    home.settled().await;
    assert!(!home.serves(&value).await);
    assert_eq!(home.ready("web").await, "False Suspended");
    home.write("token.yaml", &token("web", ""));
    home.settled().await;
    assert!(home.serves(&value).await && home.value("web").unwrap() == value);
}

#[tokio::test]
async fn a_revoked_token_stays_revoked_whatever_its_manifest_says_next() {
    let mut home = issued().await;
    home.write("token.yaml", &token("web", "state: Revoked"));
    home.settled().await;
    home.write("token.yaml", &token("web", ""));
    let report = home.settled().await;
    assert_eq!(report.faults.len(), 1, "{:?}", report.faults);
    assert!(
        report.faults[0].to_string().contains("spec.state: cannot leave Revoked"),
        "{}",
        report.faults[0]
    );
    assert_eq!(home.ready("web").await, "False Revoked");
    assert!(!home.env_path("web").exists());
}

#[tokio::test]
async fn revoked_through_manage_is_seen_and_never_undone() {
    let mut home = issued().await;
    let value = home.value("web").unwrap();
    home.fleet.revoke_token(home.token("web").await.id, RevokedBy::Manage).await.unwrap();
    home.settled().await;
    home.advance(60 * MINUTE).await;
    home.settled().await;
    assert_eq!(home.ready("web").await, "False RevokedByManage");
    assert!(!home.serves(&value).await && !home.env_path("web").exists());
}

#[tokio::test]
async fn an_inactive_project_stops_its_tokens_and_gives_them_back() {
    let mut home = issued().await;
    let value = home.value("web").unwrap();
    home.write("project.yaml", &format!("{PROJECT}  state: Inactive\n"));
    home.settled().await;
    assert!(!home.serves(&value).await);
    assert_eq!(home.ready("web").await, "False ProjectInactive");
    home.write("project.yaml", PROJECT);
    home.settled().await;
    assert!(home.serves(&value).await);
}

#[tokio::test]
async fn a_deleted_project_ends_its_keys_and_a_new_one_of_the_name_gets_new_keys() {
    let mut home = issued().await;
    let value = home.value("web").unwrap();
    home.remove("project.yaml");
    home.settled().await;
    assert!(!home.serves(&value).await);
    assert_eq!(home.ready("web").await, "False ProjectNotFound");
    home.write("project.yaml", PROJECT);
    home.settled().await;
    let new = home.value("web").unwrap();
    assert!(new != value && home.serves(&new).await && !home.serves(&value).await);
    assert_eq!(
        (home.token("web").await.revisions.last().unwrap().revision, home.token("web").await.period),
        (2, 1)
    );
}

#[tokio::test]
async fn a_take_away_is_in_force_when_the_replica_has_acknowledged_it() {
    let mut home = issued().await;
    let replica = HolderId::new();
    home.fleet
        .heartbeat(replica, home.fleet.feed_head().await.unwrap().version, 60_000)
        .await
        .unwrap();
    home.write("token.yaml", &token("web", "maxRequests: 2"));
    home.settled().await;
    assert_eq!(home.ready("web").await, "False AwaitingReplicas");
    home.fleet.heartbeat(replica, FeedVersion(i64::MAX), 60_000).await.unwrap();
    home.settled().await;
    assert_eq!(home.ready("web").await, "True Issued");
    assert_eq!(home.condition("ProxyConfig", "main", ConditionType::Ready).await.0, "True");
}

#[tokio::test]
async fn a_manifest_made_for_a_cluster_is_served_and_each_field_that_is_passed_over_is_told_once() {
    let mut home = Home::new().await;
    home.write(
        "fleet.yaml",
        "apiVersion: llm-proxy.dev/v1alpha1
kind: ProxyConfig
metadata: {name: main}
spec:
  database: {postgres: {secretRef: {name: llm-db}}}
  providers: [{name: echo, api: Echo}]
  replicas: 3
  image: {tag: v1}
  resources: {limits: {memory: 512Mi}}
  drain: {gracePeriodSeconds: 60}
  allowedProjects: {from: Selector, selector: {matchLabels: {team: a}}}
",
    );
    home.write(
        "project.yaml",
        &support::PROJECT.replace("{name: main}", "{name: main, namespace: default}"),
    );
    home.write("token.yaml", &token("web", "secret: {formats: [Raw]}"));
    let mut process = home.process();
    let told = home.pass(&mut process).await.passed_over;
    let fields = [
        "spec.replicas",
        "spec.image",
        "spec.resources",
        "spec.drain",
        "spec.allowedProjects",
        "spec.secret.formats",
    ];
    assert_eq!(told.len(), fields.len(), "{told:?}");
    for field in fields {
        assert!(
            told.iter().any(|line| line.contains(&format!(": {field} is passed over"))),
            "{field}: {told:?}"
        );
    }
    assert_eq!(home.pass(&mut process).await.passed_over, [""; 0], "each once");
    assert_eq!(home.ready("web").await, "True Issued");
    assert!(home.value("web").is_some(), "the file holds what it always holds");
}

#[tokio::test]
async fn a_changed_trigger_rotates_and_the_replaced_value_lives_for_the_overlap() {
    let mut home = Home::new().await;
    home.write("token.yaml", &token("web", "rotation: {overlap: 90s, trigger: a}"));
    home.settled().await;
    let first = home.value("web").unwrap();
    home.settled().await;
    assert!(home.value("web").unwrap() == first, "the first sight of a trigger rotates nothing");
    home.write("token.yaml", &token("web", "rotation: {overlap: 90s, trigger: b}"));
    home.settled().await;
    let second = home.value("web").unwrap();
    assert!(second != first && home.ready("web").await == "True Rotated");
    assert_eq!(home.token("web").await.period, 1);
    home.advance(89_999).await;
    assert!(home.serves(&first).await && home.serves(&second).await);
    home.advance(1).await;
    assert!(!home.serves(&first).await && home.serves(&second).await);
}

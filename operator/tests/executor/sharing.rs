//! Several objects that want what only one can have.

use super::*;

#[tokio::test]
async fn two_new_tokens_for_one_secret_are_both_rejected() {
    let mut home = Home::new().await;
    home.write("a.yaml", &token("a", "secret: {name: shared}"));
    home.write("b.yaml", &token("b", "secret: {name: shared}"));
    let report = home.settled().await;
    assert_eq!(report.faults.len(), 2, "{:?}", report.faults);
    assert_eq!(
        (home.ready("a").await, home.ready("b").await),
        ("False SecretConflict".to_owned(), "False SecretConflict".to_owned())
    );
    assert!(!home.env_path("shared").exists());
    home.remove("b.yaml");
    assert!(home.settled().await.faults.is_empty());
    assert_eq!(home.ready("a").await, "True Issued");
}

#[tokio::test]
async fn an_owner_keeps_its_secret_and_only_the_newcomer_is_told() {
    let mut home = issued().await;
    let value = home.value("web").unwrap();
    home.write("b.yaml", &token("b", "secret: {name: web}"));
    let report = home.settled().await;
    assert_eq!(report.faults.len(), 1, "{:?}", report.faults);
    assert!(
        report.faults[0].file.ends_with("b.yaml") && report.faults[0].line == Some(7),
        "{:?}",
        report.faults
    );
    assert_eq!(
        (home.ready("web").await, home.ready("b").await),
        ("True Issued".to_owned(), "False SecretConflict".to_owned())
    );
    assert!(home.value("web").unwrap() == value);
}

#[tokio::test]
async fn a_token_renamed_in_its_manifest_takes_the_secret_over_once_the_old_one_is_gone() {
    let mut home = issued().await;
    let old = home.value("web").unwrap();
    home.write("token.yaml", &token("web2", "secret: {name: web}"));
    home.settled().await;
    assert_eq!(home.ready("web2").await, "True Issued");
    assert!(!home.serves(&old).await && home.serves(&home.value("web").unwrap()).await);
}

#[tokio::test]
async fn a_second_fleet_is_told_and_not_served() {
    let mut home = issued().await;
    home.write("other.yaml", &FLEET.replace("name: main", "name: other"));
    let report = home.settled().await;
    assert_eq!(report.faults.len(), 1, "{:?}", report.faults);
    assert!(
        report.faults[0].to_string().contains("serves ProxyConfig default/main"),
        "{}",
        report.faults[0]
    );
    assert!(home.object("ProxyConfig", "other").await.is_none());
}

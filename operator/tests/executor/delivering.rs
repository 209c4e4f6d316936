//! Keys in their files: written, lost, changed, failed, renewed.

use super::*;

#[tokio::test]
async fn three_manifests_become_a_key_in_a_file_for_its_owner_only() {
    let mut home = Home::new().await;
    home.write("token.yaml", &token("web", ""));
    let report = home.settled().await;
    assert_eq!(
        (report.objects, report.faults.len(), report.env_files),
        (3, 0, vec![home.env_path("web")])
    );
    let value = home.value("web").expect("a key");
    assert!(home.serves(&value).await);
    assert_eq!(fs::metadata(home.env_path("web")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(home.ready("web").await, "True Issued");
    assert_eq!(home.claim().to_string(), "standalone/default/main");
}

#[tokio::test]
async fn what_is_settled_costs_no_write_even_after_a_restart() {
    let mut home = issued().await;
    let before = (
        home.fleet.feed_head().await.unwrap().version,
        fs::metadata(home.env_path("web")).unwrap().modified().unwrap(),
    );
    let mut process = home.process();
    for _ in 0..3 {
        assert_eq!(home.pass(&mut process).await.effects, 0);
    }
    let after = (
        home.fleet.feed_head().await.unwrap().version,
        fs::metadata(home.env_path("web")).unwrap().modified().unwrap(),
    );
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_foreign_file_is_left_alone_and_the_token_waits_until_it_is_gone() {
    let mut home = Home::new().await;
    home.settled().await;
    fs::write(home.env_path("web"), "DATABASE_URL=mine\n").unwrap();
    home.write("token.yaml", &token("web", ""));
    home.settled().await;
    assert_eq!(home.ready("web").await, "False SecretConflict");
    assert_eq!(fs::read_to_string(home.env_path("web")).unwrap(), "DATABASE_URL=mine\n");
    fs::remove_file(home.env_path("web")).unwrap();
    home.settled().await;
    assert_eq!(home.ready("web").await, "True Issued");
}

#[tokio::test]
async fn a_deleted_file_is_written_anew_with_a_new_value_and_the_old_one_overlaps() {
    let mut home = issued().await;
    let old = home.value("web").unwrap();
    fs::remove_file(home.env_path("web")).unwrap();
    home.settled().await;
    let new = home.value("web").expect("a new key");
    assert!(new != old && home.serves(&new).await && home.serves(&old).await);
    assert_eq!((home.token("web").await.period, home.ready("web").await.as_str()), (1, "True Reissued"));
}

#[tokio::test]
async fn a_second_loss_cuts_the_older_overlap() {
    let mut home = issued().await;
    let oldest = home.value("web").unwrap();
    fs::remove_file(home.env_path("web")).unwrap();
    home.settled().await;
    let older = home.value("web").unwrap();
    fs::write(home.env_path("web"), "OPENAI_API_KEY=sk-mine\n").unwrap();
    home.settled().await;
    assert!(!home.serves(&oldest).await && home.serves(&older).await && home.serves(&home.value("web").unwrap()).await);
    assert_eq!(living(&home.token("web").await, RevisionState::Previous, home.now()).len(), 1);
}

#[tokio::test]
async fn a_write_that_fails_is_tried_again_with_the_same_value() {
    let mut home = Home::new().await;
    home.write("token.yaml", &token("web", ""));
    let mut process = home.process();
    let secrets = home.env_path("web").parent().unwrap().to_owned();
    fs::remove_dir_all(&secrets).unwrap();
    home.pass(&mut process).await;
    assert_eq!(home.ready("web").await, "False DeliveryFailed");
    let pending = home.token("web").await.revisions[0].digest;

    fs::create_dir(&secrets).unwrap();
    home.pass(&mut process).await;
    assert!(home.value("web").is_none(), "not before the pause is over");
    home.advance(1_000).await;
    home.settle(&mut process).await;
    assert_eq!(home.value("web").map(|value| value.digest()), Some(pending));
    assert_eq!(home.token("web").await.revisions.len(), 1, "no rows pile up");
}

#[tokio::test]
async fn time_renews_a_token_and_ends_the_old_value_when_it_was_announced() {
    let mut home = issued().await;
    let mut process = home.process();
    let old = home.value("web").unwrap();
    home.advance(25 * MINUTE).await;
    home.settle(&mut process).await;
    let row = home.token("web").await;
    assert!(home.value("web").unwrap() != old && home.serves(&old).await);
    assert_eq!((row.period, home.ready("web").await.as_str()), (2, "True Renewed"));
    let overlap = row
        .revisions
        .iter()
        .find(|revision| revision.state == RevisionState::Previous)
        .unwrap()
        .ends_at;
    assert_eq!(overlap, home.now().plus_ms(3 * MINUTE), "a tenth of half an hour");

    home.advance(3 * MINUTE).await;
    home.settle(&mut process).await;
    assert!(!home.serves(&old).await && home.serves(&home.value("web").unwrap()).await);
    assert!(home.object("WitheringToken", "web").await.unwrap().status.unwrap()["previous"].is_null());
}

//! The change feed.

use store::{Change, FeedVersion, ProjectState, RevokedBy, StoreError, Subject, TokenChange, TokenState, TokenValue};

use crate::harness::{Database, T0, echo, on_every_engine, pending, project_spec};

async fn every_configuration_transaction_is_one_version_and_says_what_it_touched(database: Database) {
    let world = database.fleet().await;
    let fleet = &world.fleet;
    let head = fleet.feed_head().await.unwrap();
    assert_eq!((head.version, head.epoch, head.now), (FeedVersion(0), 0, T0));
    assert_eq!(fleet.changes_after(FeedVersion(0)).await.unwrap(), Some(vec![]));

    let project = world.project("team").await;
    let token = world.token("app", project, Some(10)).await;
    fleet
        .change_token(
            token.id,
            &TokenChange {
                state: Some(TokenState::Suspended),
                ..Default::default()
            },
        )
        .await
        .unwrap();
    fleet.revoke_token(token.id, RevokedBy::Spec).await.unwrap();
    let last = fleet.delete_project(project).await.unwrap();

    let (p, t) = (Subject::Project(project), Subject::Token(token.id));
    let subjects = [Subject::Fleet, p, t, t, t, t, p];
    let expected: Vec<_> = (1..)
        .zip(subjects)
        .map(|(version, subject)| Change {
            version: FeedVersion(version),
            subject,
        })
        .collect();
    assert_eq!(last, FeedVersion(7));
    assert_eq!(fleet.feed_head().await.unwrap().version, last);
    assert_eq!(fleet.changes_after(FeedVersion(0)).await.unwrap().unwrap(), expected);
    assert_eq!(fleet.changes_after(FeedVersion(5)).await.unwrap().unwrap(), expected[5..]);
    assert_eq!(fleet.changes_after(last).await.unwrap(), Some(vec![]));
}

async fn what_already_stands_so_writes_nothing(database: Database) {
    let world = database.fleet().await;
    let fleet = &world.fleet;
    let project = world.project("team").await;
    let token = world.token("app", project, Some(10)).await;
    let head = fleet.feed_head().await.unwrap().version;
    let written = "SELECT SUM(version) FROM (SELECT version FROM tokens UNION ALL SELECT version FROM projects UNION ALL SELECT version FROM quotas) AS versions";
    let before = world.database.number(written).await;

    assert_eq!(fleet.put_providers(&[echo()]).await.unwrap(), head);
    assert_eq!(fleet.put_project(&project_spec("team")).await.unwrap(), (project, head));
    assert_eq!(fleet.activate(token.id, &token.value.digest(), 0).await.unwrap(), (false, head));
    let same = TokenChange {
        state: Some(TokenState::Active),
        max_requests: Some(Some(10)),
        limits: None,
        clamp_ends: None,
        secret_name: Some("app".into()),
    };
    assert_eq!(fleet.change_token(token.id, &same).await.unwrap(), head);
    assert_eq!(fleet.change_token(token.id, &TokenChange::default()).await.unwrap(), head);

    assert_eq!(fleet.feed_head().await.unwrap().version, head);
    assert_eq!(world.database.number(written).await, before);
}

async fn quota_traffic_usage_and_heartbeats_never_touch_it(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    world.token("app", project, Some(10)).await;
    let head = world.fleet.feed_head().await.unwrap().version;
    let quota = world.view("app").await.quota.unwrap().id;
    let me = store::HolderId::new();
    world
        .fleet
        .settle(
            me,
            &[store::LeaseReport {
                quota,
                spent: 0,
                amount: 0,
                want: 1,
                overrun: 0,
                need: 1,
            }],
        )
        .await
        .unwrap();
    world.fleet.heartbeat(me, head, 300_000).await.unwrap();
    world
        .fleet
        .add_usage(
            me,
            1,
            &[store::UsageDelta {
                requests: 1,
                ..Default::default()
            }],
        )
        .await
        .unwrap();
    assert_eq!(world.fleet.feed_head().await.unwrap().version, head);
}

async fn a_gap_or_a_head_that_went_back_is_said_so(database: Database) {
    let world = database.fleet().await;
    for name in ["a", "b", "c"] {
        world.project(name).await;
    }
    let fleet = &world.fleet;
    assert_eq!(fleet.changes_after(FeedVersion(0)).await.unwrap().unwrap().len(), 4);
    world.database.raw("DELETE FROM changes WHERE version <= 2").await;
    assert_eq!(fleet.changes_after(FeedVersion(1)).await.unwrap(), None);
    assert_eq!(fleet.changes_after(FeedVersion(2)).await.unwrap().unwrap().len(), 2);
    assert_eq!(fleet.changes_after(FeedVersion(5)).await.unwrap(), None);
}

async fn the_latest_ten_thousand_versions_are_kept(database: Database) {
    let world = database.fleet().await;
    let id = world.fleet_id();
    let old = format!(
        "INSERT INTO changes (fleet_id, version, subject_kind) WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 10495)
            SELECT '{id}', v, 'Fleet' FROM n;
        UPDATE feed_head SET version = 10495;"
    );
    world.database.raw(&old).await;
    assert_eq!(world.fleet.put_providers(&[echo()]).await.unwrap(), FeedVersion(10_496));
    assert_eq!(world.database.number("SELECT MIN(version) FROM changes").await, 497);
    assert_eq!(world.fleet.changes_after(FeedVersion(495)).await.unwrap(), None);
    assert_eq!(world.fleet.changes_after(FeedVersion(496)).await.unwrap().unwrap().len(), 10_000);
}

async fn a_commit_wakes_the_followers_of_this_process(database: Database) {
    let world = database.fleet().await;
    let mut wakeups = world.fleet.feed_wakeups();
    wakeups.borrow_and_update();
    let version = world.fleet.put_providers(&[echo()]).await.unwrap();
    assert!(wakeups.has_changed().unwrap());
    assert_eq!(*wakeups.borrow_and_update(), version);
    world.fleet.put_providers(&[echo()]).await.unwrap();
    assert!(!wakeups.has_changed().unwrap(), "nothing changed, nobody wakes");
}

async fn a_leader_of_an_older_epoch_is_fenced_and_leaves_nothing(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, None).await;
    let leader = world.fleet.leading(0);
    leader
        .change_token(
            token.id,
            &TokenChange {
                max_requests: Some(Some(5)),
                ..Default::default()
            },
        )
        .await
        .unwrap();
    world.database.raw("UPDATE feed_head SET epoch = 1").await;

    let value = TokenValue::mint();
    assert!(matches!(leader.revoke_token(token.id, RevokedBy::Spec).await, Err(StoreError::Fenced)));
    assert!(matches!(
        leader.insert_pending(&pending("late", project, 1, &value)).await,
        Err(StoreError::Fenced)
    ));
    let inactive = store::ProjectSpec {
        state: ProjectState::Inactive,
        ..project_spec("team")
    };
    assert!(matches!(leader.put_project(&inactive).await, Err(StoreError::Fenced)));
    assert_eq!(world.view("app").await.state, TokenState::Active);
    assert!(world.fleet.load_grant(&value.digest()).await.unwrap().is_none());
    assert_eq!(world.fleet.projects().await.unwrap()[0].state, ProjectState::Active);
    leader.store().claimed().await.unwrap();
    world.fleet.leading(1).revoke_token(token.id, RevokedBy::Spec).await.unwrap();
}

async fn the_subject_of_a_change_leads_to_the_resource_that_owns_it(database: Database) {
    let world = database.fleet().await;
    let fleet = &world.fleet;
    let project = world.project("team").await;
    let token = world.token("app", project, None).await;
    let name = |owner: Option<store::Owner>| owner.map(|owner| owner.name);
    assert_eq!(name(fleet.owner_of(&Subject::Project(project)).await.unwrap()).as_deref(), Some("team"));
    assert_eq!(name(fleet.owner_of(&Subject::Token(token.id)).await.unwrap()).as_deref(), Some("app"));
    assert_eq!(fleet.owner_of(&Subject::Fleet).await.unwrap(), None);
    assert_eq!(fleet.owner_of(&Subject::Token(store::TokenId::new())).await.unwrap(), None);
    fleet.store().check_writable().await.unwrap();
}

on_every_engine!(
    every_configuration_transaction_is_one_version_and_says_what_it_touched,
    the_subject_of_a_change_leads_to_the_resource_that_owns_it,
    what_already_stands_so_writes_nothing,
    quota_traffic_usage_and_heartbeats_never_touch_it,
    a_gap_or_a_head_that_went_back_is_said_so,
    the_latest_ten_thousand_versions_are_kept,
    a_commit_wakes_the_followers_of_this_process,
    a_leader_of_an_older_epoch_is_fenced_and_leaves_nothing,
);

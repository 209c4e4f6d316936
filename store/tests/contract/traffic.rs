//! What running processes write: usage and heartbeats.

use store::{FeedVersion, HolderId, ProjectId, TokenId, UsageDelta};

use crate::harness::{Database, T0, on_every_engine};

async fn usage_adds_up_per_day_project_token_model_and_provider(database: Database) {
    let world = database.fleet().await;
    let (project, token) = (ProjectId::new(), TokenId::new());
    let delta = UsageDelta {
        day: 20_000,
        project: Some(project),
        token: Some(token),
        model: "gpt".into(),
        provider: "openai".into(),
        requests: 2,
        input_tokens: 10,
        cached_tokens: 4,
        output_tokens: 20,
        reasoning_tokens: 5,
        estimated: 1,
        cost: 1_234,
        last_at: T0,
    };
    let next_day = UsageDelta {
        day: 20_001,
        project: None,
        token: None,
        ..delta.clone()
    };
    let (me, other) = (HolderId::new(), HolderId::new());
    let batch = [next_day.clone(), delta.clone(), delta.clone()];
    world.fleet.add_usage(me, 1, &batch).await.unwrap();
    let later = UsageDelta {
        last_at: T0.plus_ms(7),
        ..delta.clone()
    };
    world.fleet.add_usage(other, 1, &[later]).await.unwrap();
    world.fleet.add_usage(me, 2, &[]).await.unwrap();
    let sum = UsageDelta {
        requests: 6,
        input_tokens: 30,
        cached_tokens: 12,
        output_tokens: 60,
        reasoning_tokens: 15,
        estimated: 3,
        cost: 3_702,
        last_at: T0.plus_ms(7),
        ..delta
    };
    assert_eq!(world.fleet.usage().await.unwrap(), [next_day, sum], "newest day first");
}

async fn a_batch_of_usage_is_booked_once_however_often_it_is_repeated(database: Database) {
    let world = database.fleet().await;
    let (me, other) = (HolderId::new(), HolderId::new());
    let row = |model: String| UsageDelta {
        model,
        requests: 1,
        ..UsageDelta::default()
    };
    // More than fit into one statement.
    let batch: Vec<_> = (0..2_500).map(|n| row(format!("m{n}"))).collect();
    world.fleet.add_usage(me, 1, &batch).await.unwrap();
    world.fleet.add_usage(me, 1, &batch).await.unwrap();
    let total = "SELECT SUM(requests) FROM usage";
    assert_eq!(world.database.number(total).await, 2_500);
    // A part of a batch that was booked, as after a connection that broke between two statements.
    world.database.raw("UPDATE usage_writers SET line = 999").await;
    world.fleet.add_usage(me, 1, &batch).await.unwrap();
    assert_eq!(world.database.number(total).await, 4_000);
    world.fleet.add_usage(other, 1, &batch[..1]).await.unwrap();
    world.fleet.add_usage(me, 2, &batch[..1]).await.unwrap();
    world.fleet.add_usage(me, 1, &batch[..1]).await.unwrap();
    assert_eq!(world.database.number(total).await, 4_002, "an older batch is one that was booked");

    // Both of two that write the same batch at once, as when the first one's connection was given up.
    let batches = (0..8).map(|_| {
        let (fleet, batch) = (world.fleet.clone(), batch.clone());
        tokio::spawn(async move { fleet.add_usage(me, 3, &batch[..100]).await })
    });
    for done in batches.collect::<Vec<_>>() {
        done.await.unwrap().unwrap();
    }
    assert_eq!(world.database.number(total).await, 4_102);
    world.at(8 * 24 * crate::harness::HOUR).await;
    world.fleet.add_usage(HolderId::new(), 1, &batch[..1]).await.unwrap();
    assert_eq!(world.database.number("SELECT COUNT(*) FROM usage_writers").await, 1);
}

async fn a_replica_counts_while_it_was_seen_within_its_stale_window(database: Database) {
    let world = database.fleet().await;
    let (a, b) = (HolderId::new(), HolderId::new());
    world.fleet.heartbeat(a, FeedVersion(1), 5_000).await.unwrap();
    world.fleet.heartbeat(b, FeedVersion(2), 300_000).await.unwrap();
    world.fleet.heartbeat(a, FeedVersion(3), 5_000).await.unwrap();
    let seen = world.fleet.replicas().await.unwrap();
    let of_a = seen.iter().find(|replica| replica.holder == a).unwrap();
    assert_eq!(
        (seen.len(), of_a.acked, of_a.seen_at, of_a.stale_after_ms),
        (2, FeedVersion(3), T0, 5_000)
    );

    world.at(5_000).await;
    let left: Vec<_> = world.fleet.replicas().await.unwrap().into_iter().map(|replica| replica.holder).collect();
    assert_eq!(left, [b]);
    world.fleet.remove_replica(b).await.unwrap();
    assert!(world.fleet.replicas().await.unwrap().is_empty());
}

async fn a_restart_under_a_locked_folder_leaves_one_replica(database: Database) {
    let world = database.fleet().await;
    let me = HolderId::new();
    for holder in [HolderId::new(), me, HolderId::new()] {
        world.fleet.heartbeat(holder, FeedVersion(0), 300_000).await.unwrap();
    }
    world.fleet.remove_other_replicas(me).await.unwrap();
    assert_eq!(world.fleet.replicas().await.unwrap().len(), 1);
}

async fn long_silent_replicas_leave_no_rows(database: Database) {
    let world = database.fleet().await;
    world.fleet.heartbeat(HolderId::new(), FeedVersion(0), 5_000).await.unwrap();
    world.at(2 * crate::harness::HOUR).await;
    world.fleet.heartbeat(HolderId::new(), FeedVersion(0), 5_000).await.unwrap();
    assert_eq!(world.database.number("SELECT COUNT(*) FROM replicas").await, 1);
}

on_every_engine!(
    usage_adds_up_per_day_project_token_model_and_provider,
    a_batch_of_usage_is_booked_once_however_often_it_is_repeated,
    a_replica_counts_while_it_was_seen_within_its_stale_window,
    a_restart_under_a_locked_folder_leaves_one_replica,
    long_silent_replicas_leave_no_rows,
);

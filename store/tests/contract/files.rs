//! Objects that are declared in files.

use serde_json::json;
use store::{FileObjectKey, ResourceUid, StoreError};

use crate::harness::{Database, on_every_engine};

fn key(name: &str) -> FileObjectKey {
    FileObjectKey {
        kind: "WitheringToken".into(),
        namespace: "default".into(),
        name: name.into(),
    }
}

async fn a_uid_is_minted_at_first_sight_and_kept_through_changes(database: Database) {
    let world = database.fleet().await;
    let first = world
        .fleet
        .see_file_object(&key("app"), "a.yaml", &json!({"ttl": "1h", "state": "Active"}))
        .await
        .unwrap();
    assert_eq!((first.generation, first.source.as_str(), first.status.is_none()), (1, "a.yaml", true));
    let same = world
        .fleet
        .see_file_object(&key("app"), "a.yaml", &json!({"state": "Active", "ttl": "1h"}))
        .await
        .unwrap();
    assert_eq!(
        (same.uid.clone(), same.generation),
        (first.uid.clone(), 1),
        "the order of fields says nothing"
    );
    let moved = world
        .fleet
        .see_file_object(&key("app"), "b.yaml", &json!({"ttl": "1h", "state": "Active"}))
        .await
        .unwrap();
    assert_eq!(
        (moved.uid.clone(), moved.generation, moved.source.as_str()),
        (first.uid.clone(), 1, "b.yaml")
    );
    let changed = world.fleet.see_file_object(&key("app"), "b.yaml", &json!({"ttl": "2h"})).await.unwrap();
    assert_eq!((changed.uid, changed.generation), (first.uid, 2));
    assert_eq!(world.fleet.file_objects().await.unwrap()[0].spec, json!({"ttl": "2h"}));
}

async fn an_unchanged_object_takes_no_write_lock(database: Database) {
    let world = database.fleet().await;
    world.fleet.see_file_object(&key("app"), "a.yaml", &json!({"ttl": "1h"})).await.unwrap();
    let reader = world.database.open_readonly().await;
    let (_, reading) = reader.claimed().await.unwrap().unwrap();
    reading.see_file_object(&key("app"), "a.yaml", &json!({"ttl": "1h"})).await.unwrap();
    let written = reading.see_file_object(&key("app"), "a.yaml", &json!({"ttl": "2h"})).await;
    assert!(matches!(written, Err(StoreError::ReadOnly(_))));
}

async fn a_status_is_kept_through_a_change_of_spec(database: Database) {
    let world = database.fleet().await;
    let uid = world
        .fleet
        .see_file_object(&key("app"), "a.yaml", &json!({"ttl": "1h"}))
        .await
        .unwrap()
        .uid;
    let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    world.fleet.set_file_object_status(&uid, &status).await.unwrap();
    world.fleet.set_file_object_status(&uid, &status).await.unwrap();
    let changed = world.fleet.see_file_object(&key("app"), "a.yaml", &json!({"ttl": "2h"})).await.unwrap();
    assert_eq!(changed.status, Some(status.clone()));
    assert_eq!(world.fleet.file_objects().await.unwrap()[0].status, Some(status.clone()));
    let missing = world.fleet.set_file_object_status(&ResourceUid::new("nobody"), &status).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
}

async fn a_forgotten_object_that_comes_back_is_another_one(database: Database) {
    let world = database.fleet().await;
    let before = world.fleet.see_file_object(&key("app"), "a.yaml", &json!({})).await.unwrap().uid;
    world.fleet.see_file_object(&key("other"), "a.yaml", &json!({})).await.unwrap();
    world.fleet.forget_file_object(&before).await.unwrap();
    assert_eq!(world.fleet.file_objects().await.unwrap().len(), 1);
    let after = world.fleet.see_file_object(&key("app"), "a.yaml", &json!({})).await.unwrap().uid;
    assert_ne!(before, after);
}

on_every_engine!(
    a_uid_is_minted_at_first_sight_and_kept_through_changes,
    an_unchanged_object_takes_no_write_lock,
    a_status_is_kept_through_a_change_of_spec,
    a_forgotten_object_that_comes_back_is_another_one,
);

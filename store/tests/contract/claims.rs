//! Who may use a database, and which schema it must have.

use store::{KeyRing, SealingKey, StoreError};

use crate::harness::{Database, claim, on_every_engine};

fn some_key() -> KeyRing {
    KeyRing::single(SealingKey::generate())
}

async fn migrating_again_changes_nothing(database: Database) {
    let store = database.open(some_key()).await;
    assert_eq!(store.schema_info().await.unwrap(), None);
    let first = store.migrate().await.unwrap();
    assert_eq!(
        (first.min_reader, first.min_writer),
        (1, 1),
        "all that was added so far disturbs no older binary"
    );
    assert_eq!(store.migrate().await.unwrap(), first);
    assert_eq!(store.schema_info().await.unwrap(), Some(first));
}

async fn a_migration_that_is_taken_back_leaves_an_empty_database_and_can_be_done_again(database: Database) {
    let store = database.open(some_key()).await;
    store.migrate().await.unwrap();
    store.claim(&claim("fleet")).await.unwrap();
    assert_eq!(store.migrate_down(1).await.unwrap().map(|schema| schema.version), Some(1));
    assert_eq!(store.migrate_down(0).await.unwrap(), None);
    assert_eq!(database.relations().await, 0);
    store.migrate().await.unwrap();
    store.claim(&claim("another")).await.unwrap();
}

async fn two_migrators_at_once_both_find_it_done(database: Database) {
    let (a, b) = (database.open(some_key()).await, database.open(some_key()).await);
    let (a, b) = tokio::join!(a.migrate(), b.migrate());
    assert_eq!(a.unwrap(), b.unwrap());
}

async fn a_migration_that_fails_half_way_leaves_nothing_behind(database: Database) {
    let store = database.open(some_key()).await;
    store.migrate().await.unwrap();
    store.migrate_down(0).await.unwrap();
    // A view is no table, so the guard lets it pass, and the last of the tables meets it.
    database.raw("CREATE VIEW audit AS SELECT 1 AS one").await;
    assert!(matches!(store.migrate().await, Err(StoreError::Refused(_))));
    assert_eq!(store.schema_info().await.unwrap(), None);
    assert_eq!(database.relations().await, 1, "the view that was in the way");
    database.raw("DROP VIEW audit").await;
    store.migrate().await.unwrap();
}

async fn a_newer_schema_is_refused_unless_it_says_that_we_may_write_it(database: Database) {
    let store = database.open(some_key()).await;
    let ours = store.migrate().await.unwrap().version;
    let fleet = store.claim(&claim("fleet")).await.unwrap();
    let newer = ours + 2;
    database.raw(&format!("UPDATE schema_info SET version = {newer}")).await;
    assert_eq!(store.migrate().await.unwrap().version, newer);
    assert_eq!(store.claim(&claim("fleet")).await.unwrap().id(), fleet.id());

    database.raw(&format!("UPDATE schema_info SET min_writer = {}", ours + 1)).await;
    for refused in [store.migrate().await.err(), store.claim(&claim("fleet")).await.err()] {
        assert!(
            matches!(refused, Some(StoreError::SchemaTooNew { found, known }) if found == newer && known == ours),
            "{refused:?}"
        );
    }
    assert!(store.claimed().await.unwrap().is_some(), "reading is still allowed");

    database.raw(&format!("UPDATE schema_info SET min_reader = {}", ours + 1)).await;
    assert!(matches!(store.claimed().await, Err(StoreError::SchemaTooNew { .. })));
    assert!(matches!(store.migrate_down(0).await, Err(StoreError::SchemaTooNew { .. })));
}

async fn a_database_of_something_else_is_left_alone(database: Database) {
    let store = database.open(some_key()).await;
    database.raw("CREATE TABLE recipes (name TEXT)").await;
    let refused = store.migrate().await.unwrap_err().to_string();
    assert!(refused.contains("of its own"), "{refused}");
    assert_eq!(database.relations().await, 1);
}

async fn an_empty_database_cannot_be_claimed_and_nobody_has_claimed_it(database: Database) {
    let store = database.open(some_key()).await;
    assert!(store.claimed().await.unwrap().is_none());
    assert!(store.claim(&claim("fleet")).await.unwrap_err().to_string().contains("migrate"));
    store.migrate().await.unwrap();
    assert!(store.claimed().await.unwrap().is_none());
}

async fn the_same_name_claims_again_and_another_one_is_told_whose_it_is(database: Database) {
    let keys = some_key();
    let store = database.open(keys.clone()).await;
    store.migrate().await.unwrap();
    let fleet = store.claim(&claim("mine")).await.unwrap();
    store.close().await;

    let store = database.open(keys).await;
    store.migrate().await.unwrap();
    assert_eq!(store.claim(&claim("mine")).await.unwrap().id(), fleet.id());
    let (claimed, found) = store.claimed().await.unwrap().unwrap();
    assert_eq!((claimed, found.id()), (claim("mine"), fleet.id()));
    let conflict = store.claim(&claim("yours")).await.unwrap_err();
    assert!(matches!(&conflict, StoreError::Conflict { owner, claimant }
        if owner == "standalone/default/mine" && claimant == "standalone/default/yours"));
}

async fn of_two_claimants_at_once_one_wins(database: Database) {
    let keys = some_key();
    let (a, b) = (database.open(keys.clone()).await, database.open(keys).await);
    a.migrate().await.unwrap();
    let (mine, yours) = (claim("a"), claim("b"));
    let (a, b) = tokio::join!(a.claim(&mine), b.claim(&yours));
    assert_eq!(i32::from(a.is_ok()) + i32::from(b.is_ok()), 1);
    let lost = a.err().or(b.err()).unwrap();
    assert!(matches!(lost, StoreError::Conflict { .. }), "{lost}");
}

async fn a_wrong_key_is_found_at_the_claim_and_nothing_is_replaced(database: Database) {
    let (keys, wrong) = (some_key(), some_key());
    let wrong_id = wrong.primary_id().to_owned();
    let store = database.open(keys.clone()).await;
    store.migrate().await.unwrap();
    store.claim(&claim("fleet")).await.unwrap();

    let other = database.open(wrong).await;
    let refused = other.claim(&claim("fleet")).await.unwrap_err();
    assert!(matches!(&refused, StoreError::WrongKey { key_id } if *key_id == wrong_id));
    store.claim(&claim("fleet")).await.unwrap();
}

on_every_engine!(
    migrating_again_changes_nothing,
    a_migration_that_is_taken_back_leaves_an_empty_database_and_can_be_done_again,
    two_migrators_at_once_both_find_it_done,
    a_migration_that_fails_half_way_leaves_nothing_behind,
    a_newer_schema_is_refused_unless_it_says_that_we_may_write_it,
    a_database_of_something_else_is_left_alone,
    an_empty_database_cannot_be_claimed_and_nobody_has_claimed_it,
    the_same_name_claims_again_and_another_one_is_told_whose_it_is,
    of_two_claimants_at_once_one_wins,
    a_wrong_key_is_found_at_the_claim_and_nothing_is_replaced,
);

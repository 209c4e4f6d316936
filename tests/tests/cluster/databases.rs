//! What a fleet's database may be when it is looked at: missing, away, somebody else's, too new, too old, read-only, another one; and what heals it.

use std::time::Duration;

use crds::ProxyConfig;
use crds::conditions::ConditionType;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use testkit::postgres::Database;

use crate::fleet_stage::{HEALS, SOON, Stage};

const READY: &str = "True DatabaseReady";

#[test]
fn a_secret_that_appears_later_heals_and_its_wrong_key_is_named() {
    let mut stage = Stage::new();
    stage.declare("main", json!({"replicas": 0}));
    stage.start();
    let missing = stage.says(ConditionType::ResolvedRefs, "False SecretNotFound");
    assert!(missing.message.contains(&format!("{}/database", stage.namespace)), "{}", missing.message);
    stage.make_database_secret("database", "password", "canary");
    let wrong = stage.fleet_says("main", ConditionType::ResolvedRefs, "False SecretKeyMissing", HEALS);
    assert!(
        wrong.message.contains("url or uri") && !wrong.message.contains("canary"),
        "{}",
        wrong.message
    );
    stage.make_database_secret("database", "uri", "mysql://u:canary@nowhere/x");
    let refused = stage.fleet_says("main", ConditionType::DatabaseReady, "False DatabaseUnavailable", HEALS);
    assert!(!refused.message.contains("canary"), "{}", refused.message);
    stage.make_database_secret("database", "uri", &stage.database.url());
    stage.fleet_says("main", ConditionType::DatabaseReady, READY, HEALS);
    stage.says(ConditionType::Migrated, "True Migrated");
}

#[test]
fn a_database_belongs_to_one_fleet() {
    let stage = Stage::with_fleet(json!({"replicas": 0}));
    stage.says(ConditionType::DatabaseReady, READY);
    stage.declare("second", json!({"replicas": 1}));
    let conflict = stage.fleet_says("second", ConditionType::DatabaseReady, "False DatabaseConflict", SOON);
    assert!(conflict.message.contains(&format!("{}/main", stage.namespace)), "{}", conflict.message);
    stage.fleet_says("second", ConditionType::Stalled, "True DatabaseConflict", SOON);
    assert!(stage.get::<Deployment>("second").is_none());
    // Given one of its own, it goes on.
    let own = Database::create();
    stage.make_database_secret("own", "url", &own.url());
    stage.declare("second", json!({"replicas": 1, "database": {"postgres": {"secretRef": {"name": "own"}}}}));
    stage.fleet_says("second", ConditionType::DatabaseReady, READY, SOON);
    stage.wait_for::<Deployment>("second");
}

#[test]
fn a_fleet_that_is_made_again_claims_its_database_again() {
    let stage = Stage::with_fleet(json!({"replicas": 0}));
    stage.says(ConditionType::DatabaseReady, READY);
    stage.delete::<ProxyConfig>("main");
    stage.until("the management token is collected", SOON, || {
        stage.get::<Secret>("main-management").is_none().then_some(())
    });
    stage.declare("main", json!({"replicas": 0}));
    stage.says(ConditionType::DatabaseReady, READY);
}

#[test]
fn a_newer_schema_and_a_failed_migration_roll_no_pod() {
    let stage = Stage::new();
    stage.database.execute("CREATE TABLE somebody_elses (id BIGINT)");
    stage.make_database_secret("database", "url", &stage.database.url());
    stage.declare("main", json!({"replicas": 1}));
    let mut stage = stage;
    stage.start();
    stage.says(ConditionType::Migrated, "False MigrationFailed");
    assert!(stage.get::<Deployment>("main").is_none());
    stage.database.execute("DROP TABLE somebody_elses");
    stage.says(ConditionType::DatabaseReady, READY);
    stage.wait_for::<Deployment>("main");
    let image = stage.json::<Deployment>("main")["spec"]["template"]["spec"]["containers"][0]["image"].clone();

    stage.database.execute("UPDATE schema_info SET version = 1000, min_writer = 1000");
    stage.says(ConditionType::DatabaseReady, "False SchemaTooNew");
    stage.says(ConditionType::Migrated, "False SchemaTooNew");
    stage.declare("main", json!({"replicas": 1, "image": {"tag": "next"}}));
    stage.says(ConditionType::DatabaseReady, "False SchemaTooNew");
    assert_eq!(
        stage.json::<Deployment>("main")["spec"]["template"]["spec"]["containers"][0]["image"],
        image
    );
    stage.database.execute(&format!(
        "UPDATE schema_info SET version = {0}, min_writer = 1",
        store::SchemaInfo::NEWEST
    ));
    stage.fleet_says("main", ConditionType::DatabaseReady, READY, SOON);
    stage.until("the new image is rolled out", HEALS, || {
        let now = stage.json::<Deployment>("main")["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        (now != image).then_some(())
    });
}

#[test]
fn a_database_that_is_away_at_the_start_or_later_or_read_only_is_told_and_comes_back() {
    let mut stage = Stage::new();
    stage.make_database_secret("database", "url", &stage.database.url());
    stage.declare("main", json!({"replicas": 0}));
    stage.database.set_away(true);
    stage.start();
    stage.says(ConditionType::DatabaseReady, "False DatabaseUnavailable");
    assert!(stage.get::<Secret>("main-encryption").is_none(), "nobody knows yet whether one is needed");
    stage.database.set_away(false);
    stage.fleet_says("main", ConditionType::DatabaseReady, READY, Duration::from_secs(25));

    stage.database.set_away(true);
    stage.says(ConditionType::DatabaseReady, "False DatabaseUnavailable");
    stage.says(ConditionType::Programmed, "Unknown DatabaseUnavailable");
    stage.database.set_away(false);
    stage.fleet_says("main", ConditionType::DatabaseReady, READY, Duration::from_secs(15));

    stage.database.set_read_only(true);
    stage.says(ConditionType::DatabaseReady, "False DatabaseReadOnly");
    stage.database.set_read_only(false);
    stage.fleet_says("main", ConditionType::DatabaseReady, READY, Duration::from_secs(15));
    stage.until("both are told", SOON, || {
        let events = stage.kubectl(&["get", "events.events.k8s.io", "-o", "jsonpath={.items[*].reason}"]);
        (events.contains("DatabaseUnavailable") && events.contains("DatabaseRecovered")).then_some(())
    });
}

#[test]
fn another_url_is_another_database_and_replaces_the_pods() {
    let stage = Stage::with_fleet(json!({"replicas": 1}));
    stage.says(ConditionType::DatabaseReady, READY);
    stage.wait_for::<Deployment>("main");
    let before = stage.boot_hash();
    let next = Database::create();
    next.set_away(true);
    stage.make_database_secret("database", "url", &next.url());
    stage.says(ConditionType::DatabaseReady, "False DatabaseUnavailable");
    assert_eq!(stage.boot_hash(), before, "no pod is rolled onto a database that does not answer");
    next.set_away(false);
    stage.fleet_says("main", ConditionType::DatabaseReady, READY, Duration::from_secs(25));
    stage.until("the pods are replaced", HEALS, || (stage.boot_hash() != before).then_some(()));
    assert_eq!(next.number("SELECT count(*) FROM providers"), 1);
}

#[test]
fn a_database_that_was_created_anew_is_opened_again_and_replaces_the_pods() {
    let stage = Stage::with_fleet(json!({"replicas": 1}));
    stage.says(ConditionType::DatabaseReady, READY);
    stage.wait_for::<Deployment>("main");
    let before = stage.boot_hash();
    stage.database.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    stage.until("the pods are replaced", Duration::from_secs(25), || {
        (stage.boot_hash() != before).then_some(())
    });
    stage.fleet_says("main", ConditionType::DatabaseReady, READY, Duration::from_secs(25));
    assert_eq!(stage.database.number("SELECT count(*) FROM providers"), 1);
}

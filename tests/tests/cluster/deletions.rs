//! What `spec.deletionPolicy` promises: what is to stay stays and works, what is to go is gone from the database as well, seen or unseen.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crds::conditions::{ConditionType, find};
use crds::{Kind, LlmProject, ProxyConfig, WitheringToken};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use testkit::client::Request;
use testkit::postgres::Database;

use crate::fleet_stage::{SOON, Stage};
use crate::installation::{Installation, until};

/// Two complete LISTs 5 s apart, and what loads the machine.
const UNSEEN: Duration = Duration::from_secs(60);

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "llm-proxy.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn project(stage: &Stage, policy: &str) {
    let spec = json!({"proxyRef": {"name": "main"}, "providers": [{"name": "echo"}], "deletionPolicy": policy});
    stage.apply::<LlmProject>("shop", &object("LLMProject", "shop", spec));
}

fn token(stage: &Stage, policy: &str) {
    let spec = json!({"projectRef": {"name": "shop"}, "maxRequests": 5, "deletionPolicy": policy});
    stage.apply::<WitheringToken>("app", &object("WitheringToken", "app", spec));
    stage.until("the token is Ready, and what its deletion means is noted", SOON, || {
        let token = stage.get::<WitheringToken>("app")?;
        let status = token.status?;
        let ready = find(&status.conditions, ConditionType::Ready)?.status == "True";
        (ready && status.observed_generation == token.metadata.generation).then_some(())
    });
}

fn ask(key: &str) -> Request {
    let body = json!({"model": "echo", "messages": [{"role": "user", "content": "fox"}]});
    Request::post("/v1/chat/completions", &body).bearer(key)
}

fn rows(stage: &Stage, table: &str) -> i64 {
    stage.database.number(&format!("SELECT COUNT(*) FROM {table}"))
}

fn owners(stage: &Stage, secret: &str) -> usize {
    stage.wait_for::<Secret>(secret).owner_references().len()
}

#[test]
fn an_orphans_key_works_to_its_end_and_a_deleted_projects_rows_go_when_no_replica_serves_them() {
    let mut stage = Stage::with_fleet(json!({"replicas": 1}));
    let mut pod = stage.start_pod("main");
    pod.process.wait_until_ready();
    project(&stage, "Retain");
    token(&stage, "Revoke");
    assert_eq!(owners(&stage, "app"), 1);
    let key = stage.value("app", "token").unwrap();
    token(&stage, "Orphan");
    assert_eq!((owners(&stage, "app"), stage.value("app", "token").as_ref()), (0, Some(&key)));

    stage.delete::<WitheringToken>("app");
    project(&stage, "Delete");
    stage.until("the project says what its deletion means", SOON, || {
        (stage.database.number("SELECT COUNT(*) FROM projects WHERE deletion_policy = 'Delete'") == 1).then_some(())
    });
    // By now the token's deletion has been seen to; the garbage collector had as long.
    assert!(stage.get::<WitheringToken>("app").is_none() && stage.get::<Secret>("app").is_some());
    assert_eq!(pod.process.send(&ask(&key)).status, 200);
    assert_eq!(stage.database.number("SELECT COUNT(*) FROM tokens WHERE state = 'Active'"), 1);
    stage.until("its usage is booked", SOON, || (rows(&stage, "usage") == 1).then_some(()));

    // A paused replica has not let go of anything: the rows wait for it, and nobody else waits for them.
    let pid = pod.process.pid().to_string();
    let signal = |name: &str| assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    stage.delete::<LlmProject>("shop");
    stage.until("its tokens are revoked", SOON, || {
        (stage.database.number("SELECT COUNT(*) FROM projects WHERE state = 'Deleted'") == 1).then_some(())
    });
    // The orphan's Secret is nobody's, and no other token takes it.
    stage.delete::<Secret>("app");
    project(&stage, "Retain");
    token(&stage, "Revoke");
    assert_eq!(rows(&stage, "projects"), 2, "the old one and the new one of its name");
    signal("-CONT");
    stage.until("the old one's rows are gone", SOON, || {
        let left = ["projects", "tokens", "quotas", "token_revisions"].map(|table| rows(&stage, table));
        (left == [1, 1, 1, 1] && rows(&stage, "usage") == 0).then_some(())
    });
    assert_eq!(pod.process.send(&ask(&key)).status, 401);

    // Retained: the row stays, without a live key.
    stage.delete::<LlmProject>("shop");
    stage.until("it is deleted", SOON, || {
        (stage.database.number("SELECT COUNT(*) FROM projects WHERE state = 'Deleted'") == 1).then_some(())
    });
    stage.delete::<WitheringToken>("app");
    stage.stop();
    assert_eq!((rows(&stage, "projects"), rows(&stage, "tokens")), (1, 1));
}

#[test]
fn a_project_that_was_deleted_unseen_takes_its_rows_along_later() {
    let mut stage = Stage::with_fleet(json!({"replicas": 0}));
    project(&stage, "Delete");
    token(&stage, "Revoke");
    stage.stop();
    stage.delete::<WitheringToken>("app");
    stage.delete::<LlmProject>("shop");
    assert_eq!(rows(&stage, "projects"), 1);
    stage.start();
    stage.until("its rows are gone", UNSEEN, || {
        (["projects", "tokens", "quotas"].map(|table| rows(&stage, table)) == [0, 0, 0]).then_some(())
    });
    stage.stop();
}

/// Whether the fleet's row and its key's Secret say that they go with the fleet.
fn goes(stage: &Stage, wanted: bool) {
    let policy = if wanted { "Delete" } else { "Retain" };
    stage.says(ConditionType::DatabaseReady, "True DatabaseReady");
    stage.until("row and key say what the deletion means", SOON, || {
        let said = stage
            .database
            .number(&format!("SELECT COUNT(*) FROM fleets WHERE deletion_policy = '{policy}'"))
            == 1;
        (said && owners(stage, "main-encryption") == usize::from(wanted)).then_some(())
    });
}

#[test]
fn a_fleet_takes_key_and_rows_along_and_what_is_made_under_its_name_inherits_nothing() {
    let mut stage = Stage::with_fleet(json!({"replicas": 1, "deletionPolicy": "Delete"}));
    goes(&stage, true);
    // Thought better of, and back.
    stage.declare("main", json!({"replicas": 1}));
    goes(&stage, false);
    stage.declare("main", json!({"replicas": 1, "deletionPolicy": "Delete"}));
    goes(&stage, true);
    project(&stage, "Retain");
    token(&stage, "Revoke");
    let (key, sealed_with) = (stage.value("app", "token").unwrap(), stage.value("main-encryption", "key").unwrap());
    let mut pod = stage.start_pod("main");
    pod.process.wait_until_ready();
    assert_eq!(pod.process.send(&ask(&key)).status, 200);
    let former = stage.database.texts("SELECT id FROM fleets");

    // As long as a pod lives its rows do: the next fleet of this name waits.
    stage.delete::<ProxyConfig>("main");
    stage.until("the key is gone", SOON, || stage.get::<Secret>("main-encryption").is_none().then_some(()));
    stage.declare("main", json!({"replicas": 0}));
    let waits = stage.says(ConditionType::DatabaseReady, "Unknown Pending");
    assert!(waits.message.contains("former ProxyConfig"), "{}", waits.message);
    assert_eq!(
        (pod.process.send(&ask(&key)).status, stage.database.texts("SELECT id FROM fleets")),
        (200, former.clone())
    );
    pod.process.stop();
    stage.says(ConditionType::DatabaseReady, "True DatabaseReady");
    assert_ne!(stage.database.texts("SELECT id FROM fleets"), former);
    assert_ne!(stage.value("main-encryption", "key").unwrap(), sealed_with);
    assert_eq!((owners(&stage, "main-encryption"), rows(&stage, "usage")), (0, 0));
    // What is still declared has another key in the new fleet.
    stage.until("the token has another key", SOON, || {
        stage.value("app", "token").filter(|fresh| *fresh != key && rows(&stage, "tokens") == 1)
    });
    stage.stop();
}

#[test]
fn nothing_of_a_deleted_fleet_is_left_in_its_database_and_it_is_anybodys() {
    let mut stage = Stage::with_fleet(json!({"replicas": 0, "deletionPolicy": "Delete"}));
    goes(&stage, true);
    project(&stage, "Retain");
    stage.until("the project has a row", SOON, || (rows(&stage, "projects") == 1).then_some(()));
    stage.delete::<ProxyConfig>("main");
    stage.until("rows, claim and key are gone", SOON, || {
        let left = ["projects", "providers", "audit", "changes", "feed_head", "fleets"].map(|table| rows(&stage, table));
        (left == [0; 6] && stage.get::<Secret>("main-encryption").is_none()).then_some(())
    });
    stage.declare("other", json!({"replicas": 0, "deletionPolicy": "Delete"}));
    stage.fleet_says("other", ConditionType::DatabaseReady, "True DatabaseReady", SOON);

    // Deleted while no operator looked: nobody knows its database any more, until somebody of its name asks for it.
    stage.until("it is noted", SOON, || {
        (stage.database.number("SELECT COUNT(*) FROM fleets WHERE deletion_policy = 'Delete'") == 1).then_some(())
    });
    let former = stage.database.texts("SELECT id FROM fleets");
    stage.stop();
    stage.delete::<ProxyConfig>("other");
    stage.declare("other", json!({"replicas": 0}));
    stage.start();
    stage.fleet_says("other", ConditionType::DatabaseReady, "True DatabaseReady", SOON);
    assert_ne!(stage.database.texts("SELECT id FROM fleets"), former);
    stage.stop();
}

/// Lets an operator die after its `k`-th effect on an object, and another one finish. How many effects it got to: fewer than `k` if it came to
/// the end.
async fn dies_after(installation: &mut Installation, kind: Kind, name: &str, k: usize, is_done: impl AsyncFn(&Installation) -> bool) -> usize {
    let effects = Arc::new(AtomicUsize::new(0));
    let (seen, name) = (Arc::clone(&effects), name.to_owned());
    let mut mortal = installation.mortal(move |object, _| {
        let concerned = object.kind == kind && object.name == name;
        if concerned && seen.fetch_add(1, Ordering::SeqCst) + 1 == k {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    until("it is dead or done", UNSEEN, async || {
        mortal.dies(Duration::from_millis(50)).await || is_done(installation).await
    })
    .await;
    drop(mortal);
    let got_to = effects.load(Ordering::SeqCst);
    installation.start().await;
    until(&format!("done after {got_to} effects"), UNSEEN, async || is_done(installation).await).await;
    got_to
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projects_rows_go_though_an_operator_dies_after_every_effect() {
    let mut installation = Installation::running().await;
    for k in 1.. {
        let name = format!("p-{k}");
        let spec = json!({"proxyRef": {"name": "main"}, "providers": [{"name": "echo"}], "deletionPolicy": "Delete"});
        installation.apply(&object("LLMProject", &name, spec).to_string()).await;
        let rows = |further: &str| format!("SELECT count(*) FROM projects WHERE name = '{name}'{further}");
        let noted = rows(" AND deletion_policy = 'Delete'");
        until("its policy is noted", SOON, async || installation.number(&noted).await == 1).await;
        installation.stop().await;
        installation.delete::<LlmProject>(&name).await;
        let left = rows("");
        let got_to = dies_after(&mut installation, Kind::LlmProject, &name, k, async |now| now.number(&left).await == 0).await;
        if got_to < k {
            assert!(k > 2, "revoked, and removed");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_key_never_part_though_an_operator_dies_after_every_effect() {
    let mut installation = Installation::running().await;
    let said = async |installation: &Installation, policy: &str| {
        let row = format!("SELECT count(*) FROM fleets WHERE deletion_policy = '{policy}'");
        let key = installation.secret("main-encryption").await.expect("the key");
        let owners = key.metadata.owner_references.unwrap_or_default().len();
        let row = installation.number(&row).await == 1;
        // At no moment does the key go without the rows.
        assert!(owners == 0 || installation.number("SELECT count(*) FROM fleets WHERE deletion_policy = 'Delete'").await == 1);
        row && owners == usize::from(policy == "Delete")
    };
    for k in 1.. {
        let mut fewer = 0;
        for policy in ["Delete", "Retain"] {
            installation.stop().await;
            installation
                .patch::<ProxyConfig>("main", json!({"spec": {"deletionPolicy": policy}}))
                .await;
            let got_to = dies_after(&mut installation, Kind::ProxyConfig, "main", k, async |now| said(now, policy).await).await;
            fewer += usize::from(got_to < k);
        }
        if fewer > 0 {
            assert!(k > 2, "row and key");
            return;
        }
    }
}

/// Beside the fleet `main` another one on a database of its own, which is Ready.
fn another_fleet(stage: &Stage) -> Database {
    let database = Database::create();
    stage.make_database_secret("others", "url", &database.url());
    let theirs = json!({"postgres": {"secretRef": {"name": "others"}}});
    stage.declare("other", json!({"replicas": 0, "database": theirs}));
    stage.fleet_says("other", ConditionType::DatabaseReady, "True DatabaseReady", SOON);
    database
}

fn keys_are_dead(stage: &Stage, limit: Duration) {
    stage.until("the keys are dead", limit, || {
        (stage.database.number("SELECT COUNT(*) FROM tokens WHERE state = 'Active'") == 0).then_some(())
    });
}

#[test]
fn the_database_of_one_fleet_being_away_keeps_no_key_of_another_alive() {
    let mut stage = Stage::with_fleet(json!({"replicas": 0}));
    let other = another_fleet(&stage);
    project(&stage, "Retain");
    // More than are seen to at once.
    let names: Vec<String> = (0..12).map(|n| format!("app-{n}")).collect();
    for name in &names {
        let token = object("WitheringToken", name, json!({"projectRef": {"name": "shop"}}));
        stage.apply::<WitheringToken>(name, &token);
    }
    stage.until("every token has a row", SOON, || {
        (stage.database.number("SELECT COUNT(*) FROM tokens WHERE state = 'Active'") == 12).then_some(())
    });
    other.set_away(true);
    for name in &names {
        stage.delete::<WitheringToken>(name);
    }
    keys_are_dead(&stage, SOON);
    other.set_away(false);
    stage.stop();
}

#[test]
fn what_was_deleted_unseen_is_found_while_the_database_of_another_fleet_is_away() {
    let mut stage = Stage::with_fleet(json!({"replicas": 0}));
    let other = another_fleet(&stage);
    project(&stage, "Retain");
    token(&stage, "Revoke");
    stage.stop();
    stage.delete::<WitheringToken>("app");
    stage.database.set_away(true);
    let epoch = || other.number("SELECT MAX(epoch) FROM feed_head");
    let before = epoch();
    stage.start();
    stage.until("the other database is led anew", SOON, || (epoch() > before).then_some(()));
    stage.says(ConditionType::DatabaseReady, "False DatabaseUnavailable");
    other.set_away(true);
    stage.database.set_away(false);
    keys_are_dead(&stage, UNSEEN);
    other.set_away(false);
    stage.stop();
}

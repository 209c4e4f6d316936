//! What becomes of a WitheringToken on a real API server: issued, changed, renewed, switched off, tampered with, revoked, deleted.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crds::conditions::{ConditionType, find};
use crds::{LlmProject, WitheringToken};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use serde_json::json;
use testkit::cluster::User;
use testkit::cluster::faults::Fault;

use crate::installation::{HEALS, Installation, SOON, fleet, hex, project, token, token_of, until};

/// A minute in ms.
const MINUTE: i64 = 60_000;

/// State, who changed it, period, and how many keys are active and pending, of the newest row of a name.
async fn state(installation: &Installation, name: &str) -> String {
    let sql = format!(
        "SELECT concat_ws(' ', t.state, COALESCE(t.state_by, '-'), t.period,
             (SELECT count(*) FROM token_revisions r WHERE r.token_id = t.id AND r.state = 'Active'),
             (SELECT count(*) FROM token_revisions r WHERE r.token_id = t.id AND r.state = 'Pending')) AS state
         FROM tokens t WHERE t.name = '{name}' ORDER BY t.created_at DESC"
    );
    installation.texts(&sql).await.into_iter().flatten().next().unwrap_or_default()
}

fn message(token: &WitheringToken, about: ConditionType) -> String {
    let status = token.status.clone().unwrap_or_default();
    find(&status.conditions, about)
        .map(|condition| condition.message.clone())
        .unwrap_or_default()
}

/// Waits until a Secret holds a key that is another one than `before`.
async fn another_key(installation: &Installation, secret: &str, before: &store::TokenValue) -> store::TokenValue {
    let mut found = None;
    until("another key", SOON, async || {
        found = installation.key(secret).await.filter(|key| key != before);
        found.is_some()
    })
    .await;
    found.unwrap()
}

async fn has_event(installation: &Installation, reason: &str) {
    has_event_of(installation, "", reason).await;
}

/// Waits until an object, or any, has an event.
async fn has_event_of(installation: &Installation, name: &str, reason: &str) {
    let is_of = |event: &k8s_openapi::api::events::v1::Event| {
        let of = event.regarding.as_ref().and_then(|of| of.name.as_deref());
        event.reason.as_deref() == Some(reason) && (name.is_empty() || of == Some(name))
    };
    let events = installation.api::<k8s_openapi::api::events::v1::Event>();
    until(&format!("event {reason}"), SOON, async || {
        let list = events.list(&kube::api::ListParams::default()).await.unwrap();
        list.items.iter().any(is_of)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_issued_into_a_secret_that_belongs_to_it() {
    let installation = Installation::running().await;
    let token = installation.issued("web", "ttl: 1h").await;
    let secret = installation.secret("web").await.unwrap();
    let key = installation.key("web").await.unwrap();
    assert!(installation.serves(&key).await);
    assert_eq!(secret.type_.as_deref(), Some("llm-proxy.dev/token"));
    let (labels, annotations) = (secret.metadata.labels.unwrap(), secret.metadata.annotations.unwrap());
    assert_eq!(
        (labels["app.kubernetes.io/managed-by"].as_str(), labels["llm-proxy.dev/token"].as_str()),
        ("llm-proxy-operator", "web")
    );
    assert_eq!(Some(&annotations["llm-proxy.dev/uid"]), token.metadata.uid.as_ref());
    let owner = &secret.metadata.owner_references.unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.controller, owner.block_owner_deletion),
        ("WitheringToken", Some(true), Some(false))
    );
    let data = secret.data.unwrap();
    let keys: Vec<&str> = data.keys().map(String::as_str).collect();
    assert_eq!(keys, ["OPENAI_API_KEY", "OPENAI_BASE_URL", "token"]);
    assert_eq!(data["token"], data["OPENAI_API_KEY"]);
    let url = String::from_utf8(data["OPENAI_BASE_URL"].0.clone()).unwrap();
    assert_eq!(url, format!("http://main.{}.svc:8080/v1", installation.namespace));

    let status = token.status.unwrap();
    assert_eq!((status.revision, status.secret_name.as_deref()), (Some(1), Some("web")));
    assert_eq!(status.token_prefix.as_deref(), Some(key.prefix()));
    assert!(status.issued_time.is_some() && status.expiration_time.is_some() && status.renewal_time.is_some());
    let stored = installation
        .texts(&format!("SELECT state FROM token_revisions WHERE digest = '\\x{}'", hex(key.digest())))
        .await;
    assert_eq!(stored, [["Active"]]);
    has_event(&installation, "TokenIssued").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issuing_a_token_takes_two_writes_and_one_event() {
    let installation = Installation::running().await;
    // The fleet has its children by now. What it has still to tell about itself may come at any time.
    installation.issued("before", "ttl: 1h").await;
    has_event(&installation, "TokenIssued").await;
    let about_a_fleet = |entry: &testkit::cluster::audit::Entry| match entry.resource.as_str() {
        "events" => entry.name.starts_with("main."),
        resource => ["deployments", "proxyconfigs", "leases"].contains(&resource),
    };
    let mark = installation.cluster.audit_mark();
    installation.issued("web", "ttl: 1h").await;
    has_event_of(&installation, "web", "TokenIssued").await;
    let writes = installation.cluster.writes_since(User::Operator, mark);
    let here: Vec<String> = writes
        .iter()
        .filter(|entry| entry.namespace == installation.namespace && !about_a_fleet(entry))
        .map(|entry| format!("{} {}/{}", entry.verb, entry.resource, entry.subresource))
        .collect();
    let mut sorted = here.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["create events/", "create secrets/", "patch witheringtokens/status"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_formats_and_a_changed_name_keep_the_key() {
    let installation = Installation::running().await;
    installation.issued("web", "ttl: 1h").await;
    let key = installation.key("web").await.unwrap();
    installation
        .patch::<WitheringToken>("web", json!({"spec": {"secret": {"formats": ["Raw"]}}}))
        .await;
    until("only the raw key", SOON, async || {
        let data = installation.secret("web").await.unwrap().data.unwrap();
        data.keys().eq(["token"])
    })
    .await;
    assert_eq!(installation.key("web").await, Some(key.clone()));

    installation
        .patch::<WitheringToken>("web", json!({"spec": {"secret": {"name": "other", "formats": null}}}))
        .await;
    until("the Secret under its new name alone", SOON, async || {
        installation.key("other").await == Some(key.clone()) && installation.secret("web").await.is_none()
    })
    .await;
    let token = installation.token_is("web", "True Issued").await;
    assert_eq!(token.status.unwrap().secret_name.as_deref(), Some("other"));
    assert!(installation.serves(&key).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_life_holds_at_once_and_a_longer_one_from_the_next_key_on() {
    let installation = Installation::running().await;
    let before = installation.issued("web", "ttl: 2h").await.status.unwrap();
    let key = installation.key("web").await.unwrap();
    installation.patch::<WitheringToken>("web", json!({"spec": {"ttl": "1h"}})).await;
    let shorter = installation.token_is("web", "True Issued").await.status.unwrap();
    assert_eq!(
        before.expiration_time.unwrap().0.as_second() - shorter.expiration_time.as_ref().unwrap().0.as_second(),
        3_600
    );
    installation.patch::<WitheringToken>("web", json!({"spec": {"ttl": "3h"}})).await;
    let longer = installation.token_is("web", "True Issued").await.status.unwrap();
    assert_eq!(longer.expiration_time, shorter.expiration_time);
    assert_eq!(installation.key("web").await, Some(key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_when_two_thirds_of_its_life_are_over_and_both_keys_work_for_a_while() {
    let installation = Installation::running().await;
    installation.issued("web", "ttl: 30m").await;
    let old = installation.key("web").await.unwrap();
    installation.set_clock_ahead(25 * MINUTE).await;
    installation.nudge("web").await;
    let token = installation.token_is("web", "True Renewed").await;
    let new = installation.key("web").await.unwrap();
    assert!(new != old && installation.serves(&new).await && installation.serves(&old).await);
    let status = token.status.unwrap();
    assert_eq!(
        (status.revision, status.previous.as_ref().map(|previous| previous.revision)),
        (Some(2), Some(1))
    );
    assert_eq!(state(&installation, "web").await, "Active - 2 1 0", "a new period");
    has_event(&installation, "TokenRenewed").await;
    installation.set_clock_ahead(29 * MINUTE).await;
    assert!(!installation.serves(&old).await && installation.serves(&new).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_trigger_rotates_within_the_period() {
    let installation = Installation::running().await;
    installation.issued("web", "ttl: 1h\n  rotation: {trigger: one}").await;
    let old = installation.key("web").await.unwrap();
    installation
        .patch::<WitheringToken>("web", json!({"spec": {"rotation": {"trigger": "two", "overlap": "0s"}}}))
        .await;
    installation.token_is("web", "True Rotated").await;
    let new = installation.key("web").await.unwrap();
    assert!(new != old && installation.serves(&new).await);
    assert!(!installation.serves(&old).await, "without an overlap");
    assert_eq!(state(&installation, "web").await, "Active - 1 1 0", "the same period");
    has_event(&installation, "TokenRotated").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_token_keeps_its_key_and_works_again_with_it() {
    let installation = Installation::running().await;
    installation.issued("web", "ttl: 1h").await;
    let key = installation.key("web").await.unwrap();
    installation.patch::<WitheringToken>("web", json!({"spec": {"state": "Suspended"}})).await;
    installation.token_is("web", "False Suspended").await;
    assert!(!installation.serves(&key).await);
    assert_eq!(installation.key("web").await, Some(key.clone()));
    installation.patch::<WitheringToken>("web", json!({"spec": {"state": "Active"}})).await;
    installation.token_is("web", "True Issued").await;
    assert!(installation.serves(&key).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_loses_its_secret_for_ever() {
    let installation = Installation::running().await;
    installation.issued("web", "ttl: 1h").await;
    let key = installation.key("web").await.unwrap();
    installation.patch::<WitheringToken>("web", json!({"spec": {"state": "Revoked"}})).await;
    let token = installation.token_is("web", "False Revoked").await;
    assert!(installation.secret("web").await.is_none() && !installation.serves(&key).await);
    assert!(state(&installation, "web").await.starts_with("Revoked Spec "));
    let status = token.status.unwrap();
    assert!(find(&status.conditions, ConditionType::Stalled).is_some_and(|stalled| stalled.status == "True"));
    let patch = kube::api::Patch::Merge(json!({"spec": {"state": "Active"}}));
    let refused = installation
        .api::<WitheringToken>()
        .patch("web", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("Revoked"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_token_is_revoked_and_one_of_the_same_name_inherits_nothing() {
    let installation = Installation::running().await;
    installation.issued("web", "ttl: 1h").await;
    let key = installation.key("web").await.unwrap();
    installation.delete::<WitheringToken>("web").await;
    until("the row is revoked", Duration::from_secs(10), async || {
        state(&installation, "web").await.starts_with("Revoked Deletion ")
    })
    .await;
    assert!(!installation.serves(&key).await);
    until("the Secret is collected", SOON, async || installation.secret("web").await.is_none()).await;

    let again = installation.issued("web", "ttl: 1h").await;
    assert_eq!(again.status.unwrap().revision, Some(1));
    assert!(installation.key("web").await.unwrap() != key);
    assert_eq!(installation.number("SELECT count(*) FROM tokens WHERE name = 'web'").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_deleted_and_made_again_while_nobody_looks_is_another_one() {
    let mut installation = Installation::running().await;
    installation.issued("web", "ttl: 1h").await;
    let key = installation.key("web").await.unwrap();
    installation.stop().await;
    installation.delete::<WitheringToken>("web").await;
    until("the Secret is collected", SOON, async || installation.secret("web").await.is_none()).await;
    installation.apply(&token("web", "ttl: 1h")).await;
    assert!(installation.serves(&key).await, "nobody could see it");
    installation.start().await;
    installation.token_is("web", "True Issued").await;
    until("the old row is revoked", Duration::from_secs(15), async || {
        !installation.serves(&key).await
    })
    .await;
    assert!(installation.serves(&installation.key("web").await.unwrap()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_secret_comes_back_with_another_key() {
    let installation = Installation::running().await;
    installation.issued("web", "ttl: 1h").await;
    let key = installation.key("web").await.unwrap();
    installation.delete::<Secret>("web").await;
    let new = another_key(&installation, "web", &key).await;
    installation.token_is_within("web", "True Reissued", HEALS).await;
    assert!(
        installation.serves(&new).await && installation.serves(&key).await,
        "the old one for its overlap"
    );
    has_event(&installation, "SecretRecreated").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_and_an_emptied_secret_are_replaced_and_marks_of_others_stay() {
    let installation = Installation::running().await;
    installation.issued("web", "ttl: 1h").await;
    let key = installation.key("web").await.unwrap();
    installation
        .patch::<Secret>("web", json!({"metadata": {"labels": {"team": "shop"}, "annotations": {"note": "mine"}}}))
        .await;
    installation
        .patch::<Secret>("web", json!({"stringData": {"OPENAI_API_KEY": "sk-mine"}}))
        .await;
    installation.token_is("web", "True Reissued").await;
    let new = another_key(&installation, "web", &key).await;
    assert_ne!(new.expose(), "sk-mine");
    has_event(&installation, "SecretTampered").await;
    let metadata = installation.secret("web").await.unwrap().metadata;
    assert_eq!(metadata.labels.unwrap()["team"], "shop");
    assert_eq!(metadata.annotations.unwrap()["note"], "mine");

    installation.patch::<Secret>("web", json!({"data": null})).await;
    let third = another_key(&installation, "web", &new).await;
    until("the third key works", SOON, async || installation.serves(&third).await).await;
    until("status says so", SOON, async || {
        installation.token_is("web", "True Reissued").await.status.unwrap().revision == Some(3)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_secret_is_left_alone_until_it_is_gone() {
    let installation = Installation::running().await;
    let foreign = |type_: &str, annotations: BTreeMap<String, String>| Secret {
        metadata: kube::core::ObjectMeta {
            name: Some("web".to_owned()),
            annotations: Some(annotations),
            ..Default::default()
        },
        type_: Some(type_.to_owned()),
        data: Some(BTreeMap::from([("password".to_owned(), ByteString(b"theirs".to_vec()))])),
        ..Secret::default()
    };
    let secrets = installation.api::<Secret>();
    secrets.create(&Default::default(), &foreign("Opaque", BTreeMap::new())).await.unwrap();
    installation.apply(&token("web", "ttl: 1h")).await;
    let token = installation.token_is("web", "False SecretConflict").await;
    assert!(message(&token, ConditionType::Ready).contains("spec.secret.name"));
    assert_eq!(installation.number("SELECT count(*) FROM tokens").await, 0, "nothing was issued");
    assert_eq!(installation.secret("web").await.unwrap().data.unwrap().len(), 1);

    // Of our type and for this very token, but not of our making: the type of a Secret cannot be changed, so ours has to be.
    secrets.delete("web", &Default::default()).await.unwrap();
    installation.token_is_within("web", "True Issued", HEALS).await;
    let key = installation.key("web").await.unwrap();
    secrets.delete("web", &Default::default()).await.unwrap();
    let uid = token.metadata.uid.unwrap();
    let impostor = foreign("Opaque", BTreeMap::from([("llm-proxy.dev/uid".to_owned(), uid)]));
    if secrets.create(&Default::default(), &impostor).await.is_ok() {
        installation.token_is("web", "False SecretConflict").await;
        assert_eq!(installation.secret("web").await.unwrap().data.unwrap().len(), 1);
        assert!(installation.serves(&key).await, "what was issued lives on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_tokens_for_one_secret_the_older_gets_it_and_the_other_says_who() {
    let installation = Installation::running().await;
    installation.issued("first", "ttl: 1h\n  secret: {name: shared}").await;
    let key = installation.key("shared").await.unwrap();
    installation.apply(&token("second", "ttl: 1h\n  secret: {name: shared}")).await;
    let second = installation.token_is("second", "False SecretConflict").await;
    assert!(
        message(&second, ConditionType::Ready).contains("first"),
        "{}",
        message(&second, ConditionType::Ready)
    );
    installation.nudge("first").await;
    installation.token_is("first", "True Issued").await;
    assert_eq!(installation.key("shared").await, Some(key.clone()));
    installation.delete::<WitheringToken>("first").await;
    installation.token_is("second", "True Issued").await;
    assert!(installation.key("shared").await.unwrap() != key);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_that_appears_later_heals_and_one_that_goes_takes_its_keys_with_it() {
    let installation = Installation::running().await;
    installation.apply(&token_of("later", "web", "ttl: 1h")).await;
    installation.token_is("web", "False ProjectNotFound").await;
    installation.apply(&project("later", "main")).await;
    installation.token_is_within("web", "True Issued", HEALS).await;
    let key = installation.key("web").await.unwrap();

    installation.patch::<LlmProject>("later", json!({"spec": {"state": "Inactive"}})).await;
    installation.token_is("web", "False ProjectInactive").await;
    assert!(!installation.serves(&key).await);
    installation.patch::<LlmProject>("later", json!({"spec": {"state": "Active"}})).await;
    installation.token_is("web", "True Issued").await;
    assert!(installation.serves(&key).await, "the same key");

    installation.delete::<LlmProject>("later").await;
    installation.token_is("web", "False ProjectNotFound").await;
    until("its keys are dead", Duration::from_secs(10), async || !installation.serves(&key).await).await;
    assert_eq!(installation.key("web").await, Some(key.clone()), "the Secret stays with its token");
    installation.apply(&project("later", "main")).await;
    let again = another_key(&installation, "web", &key).await;
    installation.token_is("web", "True Reissued").await;
    assert!(installation.serves(&again).await && !installation.serves(&key).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_refuses_the_secret_is_told_in_its_own_words_and_heals() {
    let installation = Installation::running().await;
    installation
        .apply("apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: few}\nspec: {hard: {count/secrets: '0'}}")
        .await;
    // Nobody runs the controller that would fill it in.
    let quotas = installation.api::<ResourceQuota>();
    let status = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"},
        "status": {"hard": {"count/secrets": "0"}, "used": {"count/secrets": "0"}}});
    let params = kube::api::PatchParams::apply("tests").force();
    quotas.patch_status("few", &params, &kube::api::Patch::Apply(status)).await.unwrap();

    installation.apply(&token("web", "ttl: 1h")).await;
    let token = installation.token_is("web", "False DeliveryFailed").await;
    let said = message(&token, ConditionType::Delivered);
    assert!(said.contains("exceeded quota") && said.contains("web"), "{said}");
    assert!(
        installation.number("SELECT count(*) FROM token_revisions").await <= 2,
        "attempts pile no rows up"
    );
    installation.delete::<ResourceQuota>("few").await;
    installation.token_is("web", "True Issued").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_253_characters_work() {
    let installation = Installation::declared().await;
    let long = |begin: &str| {
        let name = format!("{begin}.{}", ["x".repeat(60), "y".repeat(60), "z".repeat(60), "w".repeat(60)].join("."));
        name[..253.min(name.len())].trim_end_matches('.').to_owned()
    };
    let mut installation = installation;
    let (the_project, the_token) = (long("project"), long("token"));
    assert!(the_project.len() > 240 && the_token.len() > 240);
    installation.start().await;
    installation.apply(&project(&the_project, "main")).await;
    installation.apply(&token_of(&the_project, &the_token, "ttl: 1h")).await;
    installation.token_is(&the_token, "True Issued").await;
    let secret = installation.secret(&the_token).await.unwrap();
    assert!(secret.metadata.labels.unwrap()["llm-proxy.dev/token"].len() <= 63);
    assert!(installation.serves(&installation.key(&the_token).await.unwrap()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_applied_at_once_in_any_order_becomes_ready() {
    let mut installation = Installation::empty().await;
    installation.start().await;
    installation.apply(&token("web", "ttl: 1h")).await;
    installation.apply(&project("shop", "main")).await;
    installation.apply(&fleet("main", "")).await;
    installation.token_is("web", "False ProxyNotReady").await;
    installation.project_is("shop", "False ProxyNotReady").await;
    installation.apply(&installation.database_secret()).await;
    installation.token_is_within("web", "True Issued", HEALS + HEALS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_operator_writes_nothing_about_what_is_as_it_should_be() {
    let mut installation = Installation::running().await;
    for name in ["one", "two", "three"] {
        installation.issued(name, "ttl: 1h").await;
    }
    has_event(&installation, "TokenIssued").await;
    installation.stop().await;
    let mark = installation.cluster.audit_mark();
    installation.start().await;
    // A token that comes later is issued after the others were looked at again.
    installation.issued("last", "ttl: 1h").await;
    let writes = installation.cluster.writes_since(User::Operator, mark);
    let others: Vec<String> = writes
        .iter()
        .filter(|entry| entry.namespace == installation.namespace && !["leases", "events"].contains(&entry.resource.as_str()))
        .filter(|entry| entry.name != "last" && entry.verb != "create")
        .map(testkit::cluster::audit::Entry::line)
        .collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_whose_write_was_not_answered_is_taken_as_it_stands() {
    let mut installation = Installation::running().await;
    installation.stop().await;
    let door = installation.cluster.door(User::Operator);
    let fault = door.inject("POST", "/secrets", Some(1), Fault::CutAfter);
    let _operator = installation.operator_through(door.client(), installation.options());
    installation.issued("web", "ttl: 1h").await;
    assert_eq!(fault.hits(), 1);
    assert!(installation.serves(&installation.key("web").await.unwrap()).await);
    assert_eq!(
        installation.number("SELECT count(*) FROM token_revisions").await,
        1,
        "the value in hand was the one that had landed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_of_ours_in_one_look_is_survived_and_the_others_go_on() {
    let installation = Installation::declared().await;
    let left = AtomicU32::new(2);
    let _operator = installation.mortal(move |object, _| {
        let broken = object.name == "bad" && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        assert!(!broken, "a fault that a test has put here");
        ControlFlow::Continue(())
    });
    installation.apply(&token("bad", "ttl: 1h")).await;
    installation.apply(&token("good", "ttl: 1h")).await;
    installation.token_is("good", "True Issued").await;
    installation.token_is("bad", "True Issued").await;
    assert!(installation.serves(&installation.key("bad").await.unwrap()).await);
}

//! What becomes of an LLMProject on a real API server: references that appear later, credentials, and fleets of other namespaces.

use std::collections::BTreeSet;
use std::time::Duration;

use crds::conditions::{ConditionType, find};
use crds::{LlmProject, ProxyConfig};
use k8s_openapi::api::core::v1::Secret;
use operator::cluster::{Options, Scope};
use serde_json::json;

use crate::installation::{HEALS, Installation, SOON, fleet, project, token, token_of, until};

/// A project on the provider that wants a key.
fn keyed(name: &str, key: &str) -> String {
    format!(
        "apiVersion: llm-proxy.dev/v1alpha1\nkind: LLMProject\nmetadata: {{name: {name}}}\nspec:\n  proxyRef: {{name: main}}\n  \
         providers: [{{name: openai, credentials: {{secretRef: {{name: provider{key}}}}}}}]\n"
    )
}

fn provider_secret(data: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: provider}}\nstringData: {{{data}}}")
}

fn said(project: &LlmProject, about: ConditionType) -> String {
    let status = project.status.clone().unwrap_or_default();
    find(&status.conditions, about).map_or_else(String::new, |found| format!("{} {}: {}", found.status, found.reason, found.message))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_appears_later_is_taken_up() {
    let mut installation = Installation::empty().await;
    installation.start().await;
    installation.apply(&project("shop", "main")).await;
    let waiting = installation.project_is("shop", "False ProxyNotFound").await;
    assert!(said(&waiting, ConditionType::ResolvedRefs).contains("create it"));
    installation.declare_fleet("main").await;
    installation.project_is_within("shop", "True Ready", HEALS + HEALS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_key_that_appears_later_is_taken_up_and_a_wrong_key_is_named() {
    let installation = Installation::running().await;
    installation.apply(&keyed("keyed", ", key: openai")).await;
    let missing = installation.project_is("keyed", "False SecretNotFound").await;
    assert!(said(&missing, ConditionType::ResolvedRefs).contains(&format!("{}/provider", installation.namespace)));
    installation.apply(&provider_secret("other: sk-canary-wrong")).await;
    let wrong = installation.project_is_within("keyed", "False SecretKeyMissing", HEALS).await;
    assert!(
        said(&wrong, ConditionType::ResolvedRefs).contains("\"openai\""),
        "{}",
        said(&wrong, ConditionType::ResolvedRefs)
    );
    installation.apply(&provider_secret("openai: ''")).await;
    installation.project_is("keyed", "False SecretKeyMissing").await;
    installation.apply(&provider_secret("openai: sk-canary-1")).await;
    let ready = installation.project_is_within("keyed", "True Ready", HEALS).await;
    assert!(!serde_json::to_string(&ready).unwrap().contains("canary"));

    let sealed = installation.texts("SELECT encode(sealed, 'hex') FROM credentials").await;
    installation.apply(&provider_secret("openai: sk-canary-2")).await;
    until("the changed key is sealed anew", SOON, async || {
        installation.texts("SELECT encode(sealed, 'hex') FROM credentials").await != sealed
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_provider_is_named_and_heals_when_the_fleet_gets_it() {
    let installation = Installation::running().await;
    installation
        .apply(
            "apiVersion: llm-proxy.dev/v1alpha1\nkind: LLMProject\nmetadata: {name: odd}\nspec:\n  proxyRef: {name: main}\n  \
             providers: [{name: local}]\n",
        )
        .await;
    let unknown = installation.project_is("odd", "False ProviderUnknown").await;
    assert!(said(&unknown, ConditionType::ResolvedRefs).contains("local"));
    assert_eq!(installation.number("SELECT count(*) FROM projects WHERE name = 'odd'").await, 0);
    let providers = json!([{"name": "echo", "api": "Echo"}, {"name": "local", "api": "Echo"}]);
    installation.patch::<ProxyConfig>("main", json!({"spec": {"providers": providers}})).await;
    installation.project_is_within("odd", "True Ready", HEALS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_project_is_ended_in_the_database() {
    let installation = Installation::running().await;
    installation.delete::<LlmProject>("shop").await;
    until("the row is ended", Duration::from_secs(10), async || {
        installation.living_rows().await == 0
    })
    .await;
}

/// A fleet in one namespace, a team in another, and an operator that looks at both, or at the whole cluster's labels as well.
async fn two_namespaces(consent: &str) -> (Installation, Installation) {
    let platform = Installation::empty().await;
    platform.apply(&platform.database_secret()).await;
    platform.apply(&fleet("main", consent)).await;
    let team = Installation::empty().await;
    (platform, team)
}

fn looking_at_both(platform: &Installation, team: &Installation) -> Options {
    let mut options = platform.options();
    options.scope = Scope::Namespaces(BTreeSet::from([platform.namespace.clone(), team.namespace.clone()]));
    options
}

fn shared(platform: &Installation) -> String {
    project("shop", "main").replace("{name: main}", &format!("{{name: main, namespace: {}}}", platform.namespace))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_of_another_namespace_needs_consent_and_withdrawn_consent_cuts_access_until_it_returns() {
    let (platform, team) = two_namespaces("").await;
    let _operator = platform.operator(looking_at_both(&platform, &team));
    team.apply(&shared(&platform)).await;
    team.apply(&token("web", "ttl: 1h")).await;
    let refused = team.project_is("shop", "False RefNotPermitted").await;
    assert!(said(&refused, ConditionType::Accepted).contains("spec.allowedProjects"));
    team.token_is("web", "False ProjectNotReady").await;
    until("the fleet has its database", SOON, async || {
        platform
            .api::<ProxyConfig>()
            .get("main")
            .await
            .unwrap()
            .status
            .unwrap_or_default()
            .conditions
            .iter()
            .any(|condition| condition.type_ == "DatabaseReady" && condition.status == "True")
    })
    .await;
    assert_eq!(platform.number("SELECT count(*) FROM projects").await, 0, "nothing in the database");

    platform
        .patch::<ProxyConfig>("main", json!({"spec": {"allowedProjects": {"from": "All"}}}))
        .await;
    team.project_is_within("shop", "True Ready", HEALS).await;
    team.token_is("web", "True Issued").await;
    let key = team.key("web").await.unwrap();
    assert!(platform.serves(&key).await);

    platform
        .patch::<ProxyConfig>("main", json!({"spec": {"allowedProjects": {"from": "Same"}}}))
        .await;
    until("access is cut", Duration::from_secs(10), async || !platform.serves(&key).await).await;
    team.project_is("shop", "False RefNotPermitted").await;
    team.token_is("web", "False ProjectNotReady").await;
    assert_eq!(team.key("web").await, Some(key.clone()), "nothing is revoked");

    platform
        .patch::<ProxyConfig>("main", json!({"spec": {"allowedProjects": {"from": "All"}}}))
        .await;
    team.token_is("web", "True Issued").await;
    assert!(platform.serves(&key).await, "the same key works again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selector_is_refused_where_labels_are_not_seen() {
    let consent = "  allowedProjects: {from: Selector, selector: {matchLabels: {llm: enabled}}}\n";
    let (platform, team) = two_namespaces(consent).await;
    let operator = platform.operator(looking_at_both(&platform, &team));
    team.apply(&shared(&platform)).await;
    let refused = team.project_is("shop", "False RefNotPermitted").await;
    assert!(said(&refused, ConditionType::Accepted).contains("--watch-namespace"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_namespaces_fleet_is_delivered_at_home() {
    let (platform, team) = two_namespaces("  allowedProjects: {from: All}\n").await;
    let _operator = platform.operator(looking_at_both(&platform, &team));
    team.apply(&shared(&platform)).await;
    team.apply(&token_of("shop", "web", "ttl: 1h")).await;
    team.token_is("web", "True Issued").await;
    let url = team.secret("web").await.unwrap().data.unwrap()["OPENAI_BASE_URL"].0.clone();
    assert_eq!(String::from_utf8(url).unwrap(), format!("http://main.{}.svc:8080/v1", platform.namespace));
    assert!(platform.api::<Secret>().get_opt("web").await.unwrap().is_none());
}

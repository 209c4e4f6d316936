//! Tokens and the codes of their refusals: each reason its own, none reaches the provider, none counts.

use std::time::Duration;

use testkit::client::{Request, Response};
use testkit::manifests::{self, Folder};
use testkit::provider::{Provider, wire};
use testkit::random::Random;
use testkit::stage::{PROVIDER_KEY, Stage};
use testkit::standalone::Setup;
use testkit::{database, token, wait};

#[track_caller]
fn refused(response: &Response, status: u16, code: &str) {
    assert_eq!((response.status, response.code().as_str()), (status, code), "{}", response.text());
    let error = &response.json()["error"];
    assert!(
        error["message"].as_str().is_some_and(|message| message.len() > 10) && error["type"].is_string(),
        "{error}"
    );
    assert!(response.header("x-request-id").is_some_and(|id| !id.is_empty()), "{:?}", response.headers);
}

#[test]
fn a_token_that_cannot_be_one_is_told_apart_from_one_that_is_not_known() {
    let stage = Stage::new("");
    let mut random = Random::announced("credentials");
    let with = |value: &str| stage.process.send(&Request::chat(false).bearer(value));
    refused(&stage.process.send(&Request::chat(false)), 401, "missing_token");
    refused(&with("sk-lp-short"), 401, "invalid_token");
    refused(&with(&token::with_bad_check(&stage.key)), 401, "invalid_token");
    refused(&with(&stage.key[..52]), 401, "invalid_token");
    refused(&with(&format!("{}x", stage.key)), 401, "invalid_token");
    refused(&with(&token::unknown(&mut random)), 401, "token_not_found");
    // A key of another issuer has no check: it passes to the look-up.
    refused(&with("sk-proj-0123456789abcdef"), 401, "token_not_found");
    refused(&stage.process.send(&Request::get("/v1/models")), 401, "missing_token");
    assert_eq!(stage.provider.heads(), 0);
}

#[test]
fn the_token_is_taken_from_either_header_and_never_goes_upstream() {
    let stage = Stage::new("");
    let response = stage.process.send(&Request::chat(false).header("x-api-key", &stage.key));
    assert_eq!(response.status, 200, "{}", response.text());
    let both = Request::chat(false).header("x-api-key", "sk-lp-nonsense").bearer(&stage.key);
    assert_eq!(stage.process.send(&both).status, 200);
    let wrong_first = Request::chat(false).header("x-api-key", &stage.key).bearer("sk-lp-nonsense");
    refused(&stage.process.send(&wrong_first), 401, "invalid_token");
    let exchanges = stage.provider.exchanges();
    assert_eq!(exchanges.len(), 2);
    for exchange in exchanges {
        assert_eq!(exchange.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
        assert_eq!(exchange.header("x-api-key"), None);
        assert!(!String::from_utf8_lossy(&exchange.head).contains(&stage.key));
    }
}

#[test]
fn the_base_url_works_with_and_without_its_v1() {
    let stage = Stage::new("");
    for target in ["/v1/models", "/models"] {
        let response = stage.send(Request::get(target));
        assert_eq!((response.status, response.json()["object"].as_str()), (200, Some("list")), "{target}");
        assert_eq!(stage.provider.last().target(), "/v1/models");
    }
}

#[test]
fn a_suspended_and_a_revoked_token_are_inactive_and_one_of_them_returns() {
    let stage = Stage::with_tokens(&[("app", ""), ("gone", "")]);
    let gone = stage.process.key("gone");
    let chat = |key: &str| stage.process.send(&Request::chat(false).bearer(key));
    assert_eq!((chat(&stage.key).status, chat(&gone).status), (200, 200));
    stage.folder.put("token-app.yaml", &manifests::token("app", "app", "  state: Suspended"));
    stage.folder.put("token-gone.yaml", &manifests::token("gone", "app", "  state: Revoked"));
    wait::until("the suspension", wait::SOON, || chat(&stage.key).status == 401);
    refused(&chat(&stage.key), 401, "token_inactive");
    wait::until("the revocation", wait::SOON, || chat(&gone).status == 401);
    refused(&chat(&gone), 401, "token_inactive");
    wait::until("the end of the revoked token's .env", wait::SOON, || {
        stage.process.setup().secret("gone").is_none()
    });
    stage.folder.put("token-app.yaml", &manifests::token("app", "app", "  state: Active"));
    wait::until("the return", wait::SOON, || chat(&stage.key).status == 200);
    assert_eq!(stage.process.key("app"), stage.key, "a suspension changes no value");
}

#[test]
fn an_inactive_project_refuses_all_its_tokens_until_it_is_active_again() {
    let stage = Stage::new("");
    let project = |state: &str| format!("{}---\n{}", manifests::project("app", state), manifests::key_secret("app", PROVIDER_KEY));
    assert_eq!(stage.send(Request::chat(false)).status, 200);
    stage.folder.put("project.yaml", &project("  state: Inactive"));
    wait::until("the project off", wait::SOON, || stage.send(Request::chat(false)).status != 200);
    refused(&stage.send(Request::chat(false)), 403, "project_inactive");
    stage.folder.put("project.yaml", &project("  state: Active"));
    wait::until("the project on", wait::SOON, || stage.send(Request::chat(false)).status == 200);
}

#[test]
fn an_expired_value_says_so_and_the_renewed_one_works() {
    let provider = Provider::start();
    let folder = Folder::with_tokens(&provider.base_url(), PROVIDER_KEY, &[("app", "  ttl: 1h")]);
    let setup = Setup::new(&folder);
    let mut first = setup.start();
    let old = first.key("app");
    first.stop();
    database::move_clock(setup.data(), 2 * 3600 * 1000);
    let second = setup.start();
    let new = wait::some("a renewed value", wait::SOON, || Some(second.key("app")).filter(|new| *new != old));
    refused(&second.send(&Request::chat(false).bearer(&old)), 401, "token_expired");
    assert_eq!(second.send(&Request::chat(false).bearer(&new)).status, 200);
    assert_eq!(provider.heads(), 1);
}

#[test]
fn a_changed_credential_is_used_at_once() {
    let stage = Stage::new("");
    assert_eq!(stage.send(Request::chat(false)).status, 200);
    stage.folder.put(
        "project.yaml",
        &format!(
            "{}---\n{}",
            manifests::project("app", ""),
            manifests::key_secret("app", "sk-the-next-key")
        ),
    );
    wait::until("the new credential", wait::SOON, || {
        assert_eq!(stage.send(Request::chat(false)).status, 200);
        stage.provider.last().header("authorization") == Some("Bearer sk-the-next-key")
    });
}

#[test]
fn a_browser_may_read_every_answer_refusals_included() {
    let stage = Stage::new("");
    let from = |request: Request| stage.process.send(&request.header("origin", "https://app.example.com"));
    let refusal = from(Request::chat(false));
    refused(&refusal, 401, "missing_token");
    let good = from(Request::chat(false).bearer(&stage.key));
    stage.provider.once(wire::error(500, "no", "server_error", serde_json::Value::Null));
    let broken = from(Request::chat(false).bearer(&stage.key));
    for response in [&refusal, &good, &broken] {
        let allowed = response.header("access-control-allow-origin");
        assert!(matches!(allowed, Some("*" | "https://app.example.com")), "{:?}", response.headers);
    }
    let preflight = from(
        Request::new("OPTIONS", "/v1/chat/completions")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type"),
    );
    assert!(matches!(preflight.status, 200 | 204), "{}", preflight.status);
    let methods = preflight.header("access-control-allow-methods").unwrap_or_default();
    assert!(methods.contains("POST") || methods == "*", "{:?}", preflight.headers);
}

#[test]
fn a_new_token_is_live_within_a_second_and_a_deleted_one_dead_within_two() {
    let stage = Stage::new("");
    let began = std::time::Instant::now();
    stage.folder.put("token-late.yaml", &manifests::token("late", "app", ""));
    let late = stage.process.key("late");
    wait::until("the new token", wait::SOON, || {
        stage.process.send(&Request::chat(false).bearer(&late)).status == 200
    });
    let live = began.elapsed();
    let began = std::time::Instant::now();
    stage.folder.remove("token-late.yaml");
    wait::until("its end", wait::SOON, || {
        stage.process.send(&Request::chat(false).bearer(&late)).status == 401
    });
    let dead = began.elapsed();
    eprintln!("an addition was live after {live:?}, a deletion after {dead:?}");
    // The contract says 1 s and 1.5 s; the rest is for a machine that also compiles.
    assert!(live < Duration::from_secs(2) && dead < Duration::from_secs(3), "{live:?}, {dead:?}");
}

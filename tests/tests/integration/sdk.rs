//! The official OpenAI Python SDK, unmodified and with its default retries, through us.

use serde_json::{Value, json};
use testkit::client::Request;
use testkit::manifests::{self, Folder};
use testkit::provider::wire;
use testkit::random::Random;
use testkit::sdk;
use testkit::stage::{PROVIDER_KEY, Stage};
use testkit::standalone::{Setup, Standalone};
use testkit::{token, wait};

fn base_url(process: &Standalone) -> String {
    format!("http://{}/v1", process.addr())
}

fn all(model: &str) -> Value {
    ["models", "chat", "chat_stream", "responses", "responses_stream", "embeddings"]
        .map(|call| json!({"call": call, "model": model}))
        .into_iter()
        .collect()
}

#[track_caller]
fn raised(outcome: &Value, class: &str, code: &str) {
    assert_eq!(
        (outcome["error"].as_str(), outcome["code"].as_str()),
        (Some(class), Some(code)),
        "{outcome}"
    );
}

#[test]
fn every_call_works_against_a_provider() {
    let stage = Stage::new("");
    let seen = sdk::calls(&base_url(&stage.process), &stage.key, &all("gpt-4o-mini"));
    assert_eq!(seen[0]["ok"], json!(["gpt-4o", "gpt-4o-mini", "text-embedding-3-small"]), "{}", seen[0]);
    let text = wire::WORDS.concat();
    for outcome in &seen[1..5] {
        let ok = &outcome["ok"];
        assert_eq!(
            (ok["text"].as_str(), ok["input"].as_u64(), ok["output"].as_u64()),
            (Some(text.as_str()), Some(wire::INPUT_TOKENS), Some(wire::OUTPUT_TOKENS)),
            "{outcome}"
        );
    }
    assert_eq!(seen[2]["ok"]["pieces"], wire::WORDS.len());
    assert_eq!(
        (seen[4]["ok"]["first"].as_str(), seen[4]["ok"]["last"].as_str()),
        (Some("response.created"), Some("response.completed"))
    );
    assert_eq!(seen[5]["ok"]["vector"], json!([0.25, -0.5, 0.75]), "{}", seen[5]);
    assert_eq!(stage.provider.heads(), 6, "nothing was sent twice");
}

#[test]
fn every_call_works_against_echo() {
    let folder = Folder::with_echo(&[("app", "")]);
    let process = Setup::new(&folder).start();
    let seen = sdk::calls(&base_url(&process), &process.key("app"), &all("echo"));
    assert!(
        seen[0]["ok"].as_array().is_some_and(|models| models.contains(&json!("echo"))),
        "{}",
        seen[0]
    );
    for outcome in &seen[1..5] {
        let ok = &outcome["ok"];
        assert_eq!((ok["text"].as_str(), ok["output"].as_u64()), (Some("Say the fox."), Some(3)), "{outcome}");
        assert!(ok["input"].as_u64().is_some_and(|tokens| tokens > 0), "{outcome}");
    }
    assert_eq!(seen[2]["ok"]["pieces"], 3, "one chunk per word: {}", seen[2]);
    assert_eq!(seen[5]["ok"]["vector"].as_array().map(Vec::len), Some(8), "{}", seen[5]);
}

#[test]
fn each_refusal_raises_the_class_that_it_should() {
    let stage = Stage::with_tokens(&[("app", ""), ("revoked", "")]);
    let mut random = Random::announced("sdk");
    let revoked = stage.process.key("revoked");
    stage
        .folder
        .put("token-revoked.yaml", &manifests::token("revoked", "app", "  state: Revoked"));
    wait::until("the revocation", wait::SOON, || {
        stage.process.send(&Request::get("/v1/models").bearer(&revoked)).status == 401
    });
    let calls = json!([
        {"call": "chat", "api_key": token::unknown(&mut random)},
        {"call": "chat", "api_key": token::with_bad_check(&stage.key)},
        {"call": "chat_stream", "api_key": revoked},
        {"call": "no_model"},
    ]);
    let seen = sdk::calls(&base_url(&stage.process), &stage.key, &calls);
    raised(&seen[0], "AuthenticationError", "token_not_found");
    raised(&seen[1], "AuthenticationError", "invalid_token");
    raised(&seen[2], "AuthenticationError", "token_inactive");
    raised(&seen[3], "BadRequestError", "missing_required_parameter");

    stage.folder.put(
        "project.yaml",
        &format!(
            "{}---\n{}",
            manifests::project("app", "  state: Inactive"),
            manifests::key_secret("app", PROVIDER_KEY)
        ),
    );
    wait::until("the project off", wait::SOON, || stage.send(Request::get("/v1/models")).status == 403);
    raised(
        &sdk::calls(&base_url(&stage.process), &stage.key, &json!([{"call": "chat"}]))[0],
        "PermissionDeniedError",
        "project_inactive",
    );
    let chats = stage
        .provider
        .exchanges()
        .into_iter()
        .filter(|exchange| exchange.method() == "POST")
        .count();
    assert_eq!(chats, 0, "no refused call reached the provider");
}

#[test]
fn at_the_lifetime_limit_the_error_comes_at_once_and_is_not_tried_again() {
    let stage = Stage::new(&manifests::max_requests(2));
    let calls = json!([{"call": "chat"}, {"call": "chat_stream"}, {"call": "chat"}, {"call": "chat_stream"}]);
    let seen = sdk::calls(&base_url(&stage.process), &stage.key, &calls);
    assert!(seen[0]["ok"].is_object() && seen[1]["ok"].is_object(), "{seen:?}");
    for outcome in &seen[2..] {
        raised(outcome, "RateLimitError", "rate_limit_exceeded");
        assert!(outcome["seconds"].as_f64().is_some_and(|seconds| seconds < 1.0), "{outcome}");
    }
    assert_eq!(stage.provider.heads(), 2, "the provider saw no retry");
    let refused = || {
        let metrics = stage.process.send(&Request::get("/metrics")).text();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("llm_proxy_refusals_total") && line.contains("rate_limit_exceeded"))
            .map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    assert_eq!(refused(), Some(2.0), "neither did the proxy");
    wait::until("the count", wait::SOON, || {
        stage
            .process
            .setup()
            .status()
            .quota("app")
            .is_some_and(|quota| quota.used == 2 && quota.reserved == 0)
    });
}

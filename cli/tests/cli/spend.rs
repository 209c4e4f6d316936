//! `llm-proxy openai spend` against a scripted server.

use std::process::Command;

use crate::process::{Ended, llm_proxy};
use crate::scripted::{Answer, Scripted, answer, json};

const LIMIT: &str = r#"{"error":{"message":"the token has made 2 of 2 requests","code":"rate_limit_exceeded"}}"#;

fn spend(server: &Scripted, args: &[&str]) -> Command {
    let mut command = llm_proxy(["openai", "spend"]);
    command
        .args(args)
        .env("OPENAI_API_KEY", "sk-canary")
        .env("OPENAI_BASE_URL", format!("{}/v1", server.url));
    command
}

fn whole() -> Answer {
    json(200, r#"{"choices":[{"message":{"role":"assistant","content":"spend"}}]}"#)
}

#[test]
fn so_many_answers_and_then_the_expected_refusal_are_a_success() {
    let later = answer(429, "content-type: application/json\r\nretry-after: 1\r\n", LIMIT);
    let server = Scripted::start([whole(), later, whole(), json(429, LIMIT)]);
    let ended: Ended = spend(&server, &["--requests=2"]).output().unwrap().into();
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (Some(0), "answered: 2, then refused: rate_limit_exceeded\n", "")
    );
    let asked = server.asked();
    assert_eq!(asked.line, "POST /v1/chat/completions");
    assert!(asked.headers.contains("authorization: Bearer sk-canary\r\n"), "{}", asked.headers);
}

#[test]
fn a_refusal_too_early_or_a_wrong_or_missing_one_is_one_line() {
    let revoked = r#"{"error":{"message":"the token is revoked","code":"token_inactive"}}"#;
    let cases = [
        (vec![whole(), json(429, LIMIT)], 1, "error: request 2 of 2 was not answered: HTTP 429"),
        (
            vec![whole(), whole(), json(401, revoked)],
            3,
            "error: the request after 2 was not refused with rate_limit_exceeded: HTTP 401",
        ),
        (
            vec![whole(), whole(), whole()],
            1,
            "error: the request after 2 was answered, and should have been refused",
        ),
    ];
    for (answers, code, line) in cases {
        let server = Scripted::start(answers);
        let ended: Ended = spend(&server, &["--requests=2"]).output().unwrap().into();
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.stderr.starts_with(line) && ended.stderr.lines().count() == 1, "{ended:?}");
        assert!(!ended.stderr.contains("canary") && ended.stdout.is_empty(), "{ended:?}");
    }
    let ended: Ended = llm_proxy(["openai", "spend", "--requests=1"]).output().unwrap().into();
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(3), "error: no token: set OPENAI_API_KEY, or give --token\n")
    );
}

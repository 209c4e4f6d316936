//! `llm-proxy openai chat` against a scripted server: in a pipe, as one message, and as a session.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::process::{Ended, llm_proxy};
use crate::scripted::{Answer, Scripted, answer, events, json};
use crate::terminal::Terminal;

const HELLO: [&str; 5] = [
    r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"content":"Hello, "},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{"content":"world"},"finish_reason":null}]}"#,
    r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    "[DONE]",
];

fn chat(server: &Scripted, args: &[&str]) -> Command {
    let mut command = llm_proxy(["openai", "chat"]);
    command.args(args).env("PROXY_TOKEN", "sk-canary").env("PROXY_URL", &server.url);
    command
}

fn failed(ended: &Ended, code: i32) -> &str {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    assert!(ended.stderr.starts_with("error: ") && ended.stderr.lines().count() == 1, "{ended:?}");
    assert!(!ended.stderr.contains("canary"), "{ended:?}");
    ended.stderr.trim_end()
}

#[test]
fn one_message_is_streamed_with_the_settings_that_were_given() {
    let server = Scripted::start([events(&HELLO)]);
    let args = [
        "--model",
        "gpt-4o",
        "--system",
        "Be brief",
        "--max-tokens",
        "5",
        "--temperature",
        "0.5",
        "Say",
        "hello",
    ];
    let ended: Ended = chat(&server, &args).output().unwrap().into();
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (Some(0), "Hello, world\n", "")
    );
    let asked = server.asked();
    assert_eq!(asked.line, "POST /v1/chat/completions");
    assert!(asked.headers.contains("authorization: Bearer sk-canary\r\n"), "{}", asked.headers);
    let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    let expected = serde_json::json!({
        "model": "gpt-4o", "stream": true, "max_tokens": 5, "temperature": 0.5,
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Say hello"}],
    });
    assert_eq!(body, expected);
}

#[test]
fn what_is_piped_in_is_one_message_and_the_address_may_end_with_v1() {
    let server = Scripted::start([events(&HELLO)]);
    let mut command = chat(&server, &["--base-url", &format!("{}/llm/v1/", server.url)]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"line one\nline two\n").unwrap();
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (Some(0), "Hello, world\n", "")
    );
    let asked = server.asked();
    assert_eq!(asked.line, "POST /llm/v1/chat/completions");
    assert!(
        asked.body.contains(r#""content":"line one\nline two""#) && asked.body.contains(r#""model":"gpt-4""#),
        "{}",
        asked.body
    );
}

#[test]
fn an_answer_may_come_whole_whether_or_not_that_was_asked_for() {
    let whole = r#"{"choices":[{"message":{"role":"assistant","content":"Hello"}}]}"#;
    for args in [&["--no-stream", "hi"][..], &["hi"]] {
        let server = Scripted::start([json(200, whole)]);
        let ended: Ended = chat(&server, args).output().unwrap().into();
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "Hello\n", ""));
    }
    let server = Scripted::start([json(200, "{}")]);
    let ended: Ended = chat(&server, &["hi"]).output().unwrap().into();
    assert!(failed(&ended, 1).contains("no chat completion"), "{ended:?}");
}

#[test]
fn errors_have_one_line_and_their_exit_code() {
    let with = |answer: Answer, more: &[&str]| -> Ended {
        let server = Scripted::start([answer]);
        chat(&server, &[more, &["hi"]].concat()).output().unwrap().into()
    };
    let error = |code: &str| format!(r#"{{"error":{{"message":"what happened","type":"t","param":null,"code":"{code}"}}}}"#);
    let cases = [
        (
            401,
            "token_expired",
            3,
            "no answer: HTTP 401: what happened (token_expired): check --token (PROXY_TOKEN)",
        ),
        (403, "project_inactive", 3, "HTTP 403"),
        (404, "model_not_found", 4, "HTTP 404"),
        (429, "rate_limit_exceeded", 1, "HTTP 429"),
        (503, "database_unavailable", 1, "HTTP 503"),
        (504, "timeout", 5, "HTTP 504"),
    ];
    for (status, code, exit, expected) in cases {
        let ended = with(json(status, &error(code)), &[]);
        assert!(failed(&ended, exit).contains(expected), "{ended:?}");
    }
    let page = answer(200, "content-type: text/html\r\n", "<html>");
    assert!(failed(&with(page, &[]), 1).contains("a web page instead of JSON"));
    assert!(failed(&with(Answer::Stall(String::new()), &["--timeout", "300ms"]), 5).contains("within 300ms"));

    let broken = with(events(&[HELLO[1], &error("timeout")]), &[]);
    assert_eq!(broken.stdout, "Hello, \n");
    assert!(failed(&broken, 5).contains("the answer broke off: what happened (timeout)"), "{broken:?}");
    let cut = with(events(&HELLO[..2]), &[]);
    assert_eq!(cut.stdout, "Hello, \n");
    assert!(failed(&cut, 2).contains("ended before the answer did"), "{cut:?}");
    let Answer::Bytes(begun) = events(&HELLO[..2]) else { unreachable!() };
    let stalled = with(Answer::Stall(begun), &["--timeout", "300ms"]);
    assert_eq!(stalled.stdout, "Hello, \n");
    assert!(failed(&stalled, 5).contains("within 300ms"), "{stalled:?}");
}

#[test]
fn without_a_token_or_a_message_nothing_is_sent() {
    let ended: Ended = llm_proxy(["openai", "chat", "hi"]).output().unwrap().into();
    assert!(failed(&ended, 3).contains("PROXY_TOKEN"), "{ended:?}");
    let server = Scripted::start([]);
    let ended: Ended = chat(&server, &[]).output().unwrap().into();
    assert!(failed(&ended, 1).contains("the message is empty"), "{ended:?}");
    for wrong in [&["--temperature", "3", "hi"][..], &["--max-tokens", "0", "hi"]] {
        let ended: Ended = chat(&server, wrong).output().unwrap().into();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    }
}

#[test]
fn a_session_remembers_what_was_said_and_ctrl_c_ends_an_answer_only() {
    let Answer::Bytes(begun) = events(&HELLO[..2]) else { unreachable!() };
    let busy = json(503, r#"{"error":{"message":"busy","code":"overloaded"}}"#);
    let server = Scripted::start([events(&HELLO), busy, Answer::Stall(begun), events(&HELLO)]);
    let mut terminal = Terminal::run(&chat(&server, &[]));
    terminal.expect("gpt-4: Ctrl-C ends an answer");
    terminal.answer("> ", "first");
    terminal.expect("Hello, world");
    terminal.answer("> ", "second");
    terminal.expect("HTTP 503: busy (overloaded)");
    terminal.answer("> ", "third");
    terminal.expect("Hello, ");
    terminal.keys("\u{3}");
    terminal.expect("(ended)");
    terminal.answer("> ", "fourth");
    terminal.expect("Hello, world");
    terminal.expect("> ");
    terminal.keys("\u{4}");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    let asked: Vec<_> = (0..4).map(|_| server.asked()).collect();
    let messages: serde_json::Value = serde_json::from_str(&asked[3].body).unwrap();
    let said: Vec<_> = messages["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["content"].as_str().unwrap())
        .collect();
    assert_eq!(said, ["first", "Hello, world", "third", "Hello, ", "fourth"]);
}

#[test]
fn a_session_ends_when_its_token_is_refused() {
    let server = Scripted::start([json(401, r#"{"error":{"message":"expired","code":"token_expired"}}"#)]);
    let mut terminal = Terminal::run(&chat(&server, &[]));
    terminal.answer("> ", "hello");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(3), "{shown}");
    assert!(shown.contains("token_expired"), "{shown}");
}

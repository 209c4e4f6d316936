//! Providers that fail in every way there is: what the application sees, and that its next request works.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::client::{Connection, End, Request};
use testkit::dead_end::DeadEnd;
use testkit::manifests::{self, Folder};
use testkit::provider::{Reply, Step, wire};
use testkit::stage::{PROVIDER_KEY, Stage};
use testkit::standalone::Setup;
use testkit::wait;

fn one_event() -> Reply {
    let events = wire::chat_events("m", &["The"], false);
    Reply::event_stream().chunks(&events[..2], Duration::ZERO)
}

/// The last event of a stream, as JSON.
fn last_event(text: &str) -> Value {
    let data = text.trim_end().rsplit("data: ").next().unwrap_or_default();
    serde_json::from_str(data).unwrap_or_default()
}

#[test]
fn one_that_refuses_connections_is_a_502_and_counts_nothing() {
    let nobody = DeadEnd::refusing();
    let process = Setup::new(&Folder::with_tokens(
        &nobody.base_url(),
        PROVIDER_KEY,
        &[("app", &manifests::max_requests(2))],
    ))
    .start();
    let key = process.key("app");
    for _ in 0..3 {
        let response = process.send(&Request::chat(false).bearer(&key));
        assert_eq!(
            (response.status, response.code().as_str()),
            (502, "upstream_unreachable"),
            "{}",
            response.text()
        );
    }
    wait::until("a settled quota", wait::SOON, || {
        process
            .setup()
            .status()
            .quota("app")
            .is_some_and(|quota| quota.used == 0 && quota.forfeited == 0)
    });
}

#[test]
fn one_that_never_accepts_is_given_up_after_the_connect_deadline() {
    let nobody = DeadEnd::unanswering();
    let process = Setup::new(&Folder::with_tokens(&nobody.base_url(), PROVIDER_KEY, &[("app", "")])).start();
    let key = process.key("app");
    let began = std::time::Instant::now();
    let response = process.send(&Request::chat(false).bearer(&key));
    assert!(matches!(response.status, 502 | 504), "{}", response.text());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn one_that_falls_silent_holds_up_nobody_else() {
    let stage = Stage::new("");
    stage.provider.once(Reply::silent());
    stage.provider.once(one_event().then(Step::Silence));
    let mut silent = Connection::open(stage.process.addr()).unwrap();
    silent.write(&Request::chat(true).bearer(&stage.key).bytes(stage.process.addr())).unwrap();
    let first = stage.provider.request(0);
    let mut stalled = Connection::open(stage.process.addr()).unwrap();
    stalled
        .write(&Request::chat(true).bearer(&stage.key).bytes(stage.process.addr()))
        .unwrap();
    let second = stage.provider.request(1);
    let response = stalled
        .response_while(|arrival| !String::from_utf8_lossy(&arrival.bytes).contains("The"))
        .unwrap();
    assert_eq!(response.status, 200, "what came before the stall is there at once");
    for _ in 0..20 {
        assert_eq!(stage.send(Request::chat(false)).status, 200);
    }
    assert_eq!((first.ending(), second.ending()), (None, None));
    let _ = (silent.hang_up(), stalled.hang_up());
    wait::until("both given up", wait::SOON, || {
        first.peer_closed().is_some() && second.peer_closed().is_some()
    });
}

#[test]
fn one_that_breaks_off_before_its_answer_is_a_502_and_counts() {
    let stage = Stage::new(&manifests::max_requests(10));
    let garbage = Reply::raw("no HTTP at all\r\n\r\n").then(Step::Close);
    for reply in [
        Reply::reset(),
        Reply::closed(),
        garbage,
        Reply::raw("HTTP/1.1 200 OK\r\ncontent-").then(Step::Close),
    ] {
        stage.provider.once(reply);
        let response = stage.send(Request::chat(false));
        assert_eq!(
            (response.status, response.code().as_str()),
            (502, "upstream_error"),
            "{}",
            response.text()
        );
    }
    assert_eq!(stage.provider.heads(), 4, "a POST is not sent twice");
    wait::until("four requests counted", wait::SOON, || {
        stage.process.setup().status().quota("app").is_some_and(|quota| quota.used == 4)
    });
}

#[test]
fn a_stream_that_is_reset_ends_with_an_error_event() {
    let stage = Stage::new("");
    let garbled = one_event().write("zz\r\nnot a chunk\r\n").then(Step::Close);
    for reply in [one_event().then(Step::Reset), one_event().then(Step::Close), garbled] {
        stage.provider.once(reply);
        let response = stage.send(Request::chat(true));
        assert_eq!((response.status, response.end), (200, End::Complete), "{}", response.text());
        assert!(response.text().contains("\"The\""), "{}", response.text());
        let last = last_event(&response.text());
        assert_eq!(last["error"]["code"], "upstream_error", "{}", response.text());
        assert!(!response.text().contains("[DONE]"));
    }
    assert_eq!(stage.send(Request::chat(false)).status, 200);
}

#[test]
fn a_whole_answer_that_is_cut_never_looks_complete() {
    let stage = Stage::new("");
    let cut = Reply::raw("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"id\":");
    for reply in [cut.clone().then(Step::Close), cut.wait(Duration::from_millis(20)).then(Step::Reset)] {
        stage.provider.once(reply);
        let mut connection = Connection::open(stage.process.addr()).unwrap();
        let response = connection.send(&Request::chat(false).bearer(&stage.key));
        assert!(response.is_err() || response.is_ok_and(|response| response.end == End::Cut || response.status == 502));
    }
    assert_eq!(stage.send(Request::chat(false)).status, 200);
}

#[test]
fn a_refused_credential_is_the_projects_fault_not_the_applications() {
    let stage = Stage::new("");
    let quoting = format!("Incorrect API key provided: {PROVIDER_KEY}. You can find your API key at your account.");
    stage
        .provider
        .once(wire::error(401, &quoting, "invalid_request_error", json!("invalid_api_key")));
    let response = stage.send(Request::chat(false));
    assert_eq!(
        (response.status, response.code().as_str()),
        (502, "upstream_auth_error"),
        "{}",
        response.text()
    );
    assert_eq!(response.header("x-should-retry"), Some("false"));
    assert!(!response.text().contains(PROVIDER_KEY));
}

#[test]
fn its_own_refusals_pass_through_with_what_a_client_needs_to_wait() {
    let stage = Stage::new("");
    let headers = "retry-after: 7\r\nx-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 6m0s\r\n";
    let body = json!({"error": {"message": "Rate limit reached", "type": "requests", "param": null, "code": "rate_limit_exceeded"}});
    stage.provider.once(Reply::json_with(429, headers, &body));
    let response = stage.send(Request::chat(false));
    assert_eq!((response.status, response.json()), (429, body));
    assert_eq!(response.header("retry-after"), Some("7"));
    assert_eq!(response.header("x-ratelimit-reset-requests"), Some("6m0s"));
    assert_eq!(response.header("x-should-retry"), None, "this one may be tried again");

    stage
        .provider
        .once(wire::error(500, "The server had an error", "server_error", Value::Null));
    assert_eq!(stage.send(Request::chat(false)).json()["error"]["message"], "The server had an error");
    stage
        .provider
        .once(wire::error(400, "Unsupported value", "invalid_request_error", json!("unsupported_value")));
    let response = stage.send(Request::chat(true));
    assert_eq!((response.status, response.code().as_str()), (400, "unsupported_value"));
    let html = "<html><body><h1>502 Bad Gateway</h1></body></html>";
    stage.provider.once(Reply::whole(502, "", "text/html", html));
    let response = stage.send(Request::chat(true));
    assert_eq!(
        (response.status, response.header("content-type"), response.text().as_str()),
        (502, Some("text/html"), html)
    );
    assert_eq!(stage.provider.heads(), 4, "nothing is tried again on our side");
}

#[test]
fn an_event_of_ten_megabytes_arrives_whole() {
    let stage = Stage::new("");
    let words = ["x".repeat(10 << 20)];
    let events = wire::chat_events("m", &[&words[0]], true);
    stage.provider.once(Reply::events(&events, Duration::ZERO));
    let response = stage.send(Request::chat(true));
    assert_eq!((response.status, response.end), (200, End::Complete));
    assert!(response.body() == events.concat().as_bytes(), "the client received other bytes");
    wait::until("its usage", wait::SOON, || {
        stage.process.setup().status().used("app", "outputTokens") == wire::OUTPUT_TOKENS
    });
}

#[test]
fn an_answer_keeps_its_bytes_and_loses_its_hop_headers() {
    let stage = Stage::new("");
    let body = "{ \"id\" : 1.0e2,\n\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}, \"ü\":\"\\u00fc\" }";
    let headers = "connection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nx-kept: yes\r\nset-cookie: a=b\r\n";
    stage.provider.once(Reply::whole(200, headers, "application/json", body));
    let response = stage.send(Request::chat(false));
    assert_eq!((response.status, response.text().as_str()), (200, body));
    assert_eq!(
        (response.header("x-hop"), response.header("keep-alive"), response.header("x-kept")),
        (None, None, Some("yes"))
    );
}

#[test]
fn a_provider_that_closes_idle_connections_is_not_noticed() {
    let stage = Stage::new("");
    stage.provider.always(Reply::json(200, &wire::chat("m")).then(Step::Finish));
    for number in 0..50 {
        let response = stage.send(Request::chat(false));
        assert_eq!(response.status, 200, "request {number}: {}", response.text());
        // The connection was idle in the pool: its end is seen there without a request.
        let exchange = stage.provider.request(number);
        wait::until("the pooled connection to go", wait::SOON, || exchange.peer_closed().is_some());
    }
    assert_eq!(stage.provider.heads(), 50);
}

//! What is booked: the provider's own figures, whole and streamed; an estimate where it gives none; nothing for what it never saw.

use serde_json::json;
use testkit::client::{Connection, Request};
use testkit::provider::{Reply, Step, wire};
use testkit::stage::Stage;
use testkit::wait;

#[test]
fn whole_and_streamed_answers_are_booked_by_the_providers_figures() {
    let stage = Stage::new("");
    let model = "gpt-4o-mini";
    let requests = [
        Request::chat(false),
        Request::chat(true),
        Request::post("/v1/responses", &json!({"model": model, "input": "fox"})),
        Request::post("/v1/responses", &json!({"model": model, "input": "fox", "stream": true})),
    ];
    let count = requests.len() as u64;
    for request in requests {
        assert_eq!(stage.send(request).status, 200);
    }
    let setup = stage.process.setup();
    wait::until("four bookings", wait::SOON, || setup.status().used("app", "requests") == count);
    let status = setup.status();
    assert_eq!(status.used("app", "inputTokens"), count * wire::INPUT_TOKENS);
    assert_eq!(status.used("app", "cachedTokens"), count * wire::CACHED_TOKENS);
    assert_eq!(status.used("app", "outputTokens"), count * wire::OUTPUT_TOKENS);
    assert_eq!(status.used("app", "estimated"), 0);
    let rows = status.usage("app");
    assert_eq!(rows.len(), 1, "one model at one provider: {rows:?}");
    assert_eq!((rows[0]["model"].as_str(), rows[0]["provider"].as_str()), (Some(model), Some("upstream")));
    assert_eq!(status.exit_code, Some(0), "{}", status.document);
}

#[test]
fn a_stream_without_usage_is_booked_by_estimate() {
    let stage = Stage::new("");
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "fox"}]});
    let bytes = body.to_string().len() as u64;
    let response = stage.send(Request::post("/v1/chat/completions", &body));
    assert!(!response.text().contains("usage"), "what the application did not ask for does not come");
    wait::until("the booking", wait::SOON, || stage.process.setup().status().used("app", "requests") == 1);
    let status = stage.process.setup().status();
    assert_eq!(status.used("app", "estimated"), 1);
    assert_eq!(status.used("app", "inputTokens"), bytes.div_ceil(4));
    let output = status.used("app", "outputTokens");
    assert!(
        (wire::OUTPUT_TOKENS..=wire::OUTPUT_TOKENS + 2).contains(&output),
        "one per delta chunk: {output}"
    );
}

#[test]
fn a_stream_that_the_client_leaves_is_booked_as_far_as_it_came() {
    let stage = Stage::new("");
    let events = wire::chat_events("m", &["The", " fox"], true);
    stage
        .provider
        .once(Reply::event_stream().chunks(&events[..3], std::time::Duration::ZERO).then(Step::Silence));
    let mut connection = Connection::open(stage.process.addr()).unwrap();
    connection
        .write(&Request::chat(true).bearer(&stage.key).bytes(stage.process.addr()))
        .unwrap();
    let response = connection
        .response_while(|arrival| !String::from_utf8_lossy(&arrival.bytes).contains(" fox"))
        .unwrap();
    assert_eq!(response.status, 200);
    let _ = connection.hang_up();
    wait::until("the booking", wait::SOON, || stage.process.setup().status().used("app", "estimated") == 1);
    let status = stage.process.setup().status();
    assert!(
        status.used("app", "inputTokens") > 0 && status.used("app", "outputTokens") >= 2,
        "{}",
        status.document
    );
}

#[test]
fn each_token_and_model_has_its_own_row_and_a_refusal_none() {
    let stage = Stage::with_tokens(&[("app", ""), ("other", "")]);
    let other = stage.process.key("other");
    for model in ["a", "b", "b"] {
        let body = json!({"model": model, "messages": []});
        assert_eq!(stage.send(Request::post("/v1/chat/completions", &body)).status, 200);
        assert_eq!(stage.process.send(&Request::post("/v1/embeddings", &body).bearer(&other)).status, 200);
    }
    assert_eq!(stage.process.send(&Request::chat(false)).status, 401);
    let setup = stage.process.setup();
    wait::until("six bookings", wait::SOON, || {
        let status = setup.status();
        status.used("app", "requests") + status.used("other", "requests") == 6
    });
    let status = setup.status();
    for token in ["app", "other"] {
        let mut rows: Vec<_> = status
            .usage(token)
            .iter()
            .map(|row| (row["model"].as_str().unwrap(), row["requests"].as_u64().unwrap()))
            .collect();
        rows.sort_unstable();
        assert_eq!(rows, [("a", 1), ("b", 2)], "{token}");
    }
}

#[test]
fn nothing_is_lost_over_an_orderly_restart() {
    let mut stage = Stage::new(&testkit::manifests::max_requests(10));
    for _ in 0..3 {
        assert_eq!(stage.send(Request::chat(false)).status, 200);
    }
    stage.process.stop();
    let status = stage.process.setup().status();
    assert_eq!(status.used("app", "requests"), 3, "{}", status.document);
    assert_eq!(
        status.quota("app"),
        Some(testkit::status::Quota {
            used: 3,
            reserved: 0,
            forfeited: 0
        })
    );
    stage.process = stage.process.setup().start();
    assert_eq!(stage.process.key("app"), stage.key, "the value outlives a restart");
    for _ in 0..7 {
        assert_eq!(stage.send(Request::chat(false)).status, 200);
    }
    assert_eq!(stage.send(Request::chat(false)).status, 429);
    assert_eq!(stage.provider.heads(), 10);
}

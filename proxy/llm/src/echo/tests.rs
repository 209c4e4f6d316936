//! Echo's answers as golden files, and what must hold for any text. The bodies were checked against the models of the official Python SDK (openai
//! 3.54, strict).

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{Observed, Usage, UsageObserver, endpoint, peek};

fn ask(path: &str, body: &str) -> EchoAnswer {
    let endpoint = endpoint::find(path).unwrap();
    let peeked = if body.is_empty() {
        Peek::default()
    } else {
        peek::peek(body.as_bytes()).unwrap()
    };
    answer(endpoint, path, &peeked, body.as_bytes())
}

fn json_of(answer: EchoAnswer) -> Value {
    match answer {
        EchoAnswer::Whole { status: 200, body } => serde_json::from_slice(&body).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn chunks_of(answer: EchoAnswer) -> (Vec<String>, u32) {
    match answer {
        EchoAnswer::Stream { chunks, pause_ms } => (
            chunks.into_iter().map(|chunk| String::from_utf8(chunk.to_vec()).unwrap()).collect(),
            pause_ms,
        ),
        other => panic!("{other:?}"),
    }
}

fn refusal(path: &str, body: &str) -> (u16, &'static str, Option<&'static str>) {
    match ask(path, body) {
        EchoAnswer::Error(error) => (error.status.as_u16(), error.code, error.param),
        other => panic!("{other:?}"),
    }
}

/// The answer as it goes over the wire.
fn wire(path: &str, body: &str) -> String {
    match ask(path, body) {
        EchoAnswer::Whole { body, .. } => String::from_utf8(body.to_vec()).unwrap(),
        stream @ EchoAnswer::Stream { .. } => chunks_of(stream).0.concat(),
        EchoAnswer::Error(error) => format!("{} {}", error.status.as_u16(), String::from_utf8(error.to_body().to_vec()).unwrap()),
    }
}

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";

#[test]
fn a_chat_completion_whole() {
    insta::assert_snapshot!(wire(
        CHAT,
        r#"{"model":"echo","messages":[{"role":"system","content":"be nice"},{"role":"user","content":" hello  big\nworld "}]}"#
    ));
}

#[test]
fn a_chat_completion_streamed() {
    insta::assert_snapshot!(wire(
        CHAT,
        r#"{"model":"echo","stream":true,"messages":[{"role":"user","content":"hello world"}]}"#
    ));
}

#[test]
fn a_chat_completion_streamed_with_usage() {
    let body = r#"{"model":"echo","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hello world"}]}"#;
    insta::assert_snapshot!(wire(CHAT, body));
}

#[test]
fn a_text_completion_whole_and_streamed() {
    let body = r#"{"model":"echo","prompt":["one two","three"],"stream":false}"#;
    insta::assert_snapshot!([wire("/v1/completions", body), wire("/v1/completions", &body.replace("false", "true"))].join("\n\n"));
}

#[test]
fn a_response_whole() {
    insta::assert_snapshot!(wire(RESPONSES, r#"{"model":"echo","input":"hello world","instructions":"be nice"}"#));
}

#[test]
fn a_response_streamed() {
    insta::assert_snapshot!(wire(RESPONSES, r#"{"model":"echo","input":"hello world","stream":true}"#));
}

#[test]
fn a_response_cut_short_and_streamed() {
    insta::assert_snapshot!(wire(
        RESPONSES,
        r#"{"model":"echo","input":"hello world","stream":true,"max_output_tokens":1}"#
    ));
}

#[test]
fn embeddings_in_both_encodings() {
    let floats = r#"{"model":"echo","input":["hello world","x"],"encoding_format":"float"}"#;
    insta::assert_snapshot!([wire("/v1/embeddings", floats), wire("/v1/embeddings", &floats.replace("float", "base64"))].join("\n"));
}

#[test]
fn models_listed_and_retrieved() {
    insta::assert_snapshot!(
        [
            wire("/v1/models", ""),
            wire("/v1/models/echo", ""),
            wire("/models/echo-5ms", ""),
            wire("/v1/models/gpt-4o", "")
        ]
        .join("\n")
    );
}

#[test]
fn the_last_user_text_is_answered_in_any_form_of_content() {
    let cases = [
        (
            r#"[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c d"},{"role":"tool","content":"e"}]"#,
            "c d",
            5,
        ),
        (
            r#"[{"role":"user","content":[{"type":"text","text":"a b"},{"type":"image_url","image_url":{"url":"x y"}},{"type":"text","text":"c"}]}]"#,
            "a b c",
            3,
        ),
        (
            r#"[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"id":"x"}]},{"role":"tool","content":"b"}]"#,
            "a",
            2,
        ),
        (r#"[{"role":"user","content":"tab\there \u00fcber \ud83d\ude00"}]"#, "tab here über 😀", 4),
        (r#"[{"role":"system","content":"a b"}]"#, "", 2),
        (r#"[{"role":"user"}]"#, "", 0),
        ("[]", "", 0),
    ];
    for (messages, expected, prompt_tokens) in cases {
        let answer = json_of(ask(CHAT, &format!(r#"{{"model":"echo","messages":{messages}}}"#)));
        assert_eq!(answer["choices"][0]["message"]["content"], expected);
        assert_eq!(answer["usage"]["prompt_tokens"], prompt_tokens, "{messages}");
    }
}

#[test]
fn input_items_of_responses_are_read_like_messages() {
    let body = r#"{"model":"echo","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"a b"}]},
        {"type":"function_call_output","call_id":"x","output":"y"},{"role":"developer","content":"c"}]}"#;
    let answer = json_of(ask(RESPONSES, body));
    assert_eq!(answer["output"][0]["content"][0]["text"], "a b");
    assert_eq!(answer["usage"]["input_tokens"], 3);
}

#[test]
fn max_tokens_cuts_the_answer_and_says_so() {
    for (most, content, reason) in [
        (0, "", "length"),
        (2, "one two", "length"),
        (3, "one two three", "stop"),
        (4, "one two three", "stop"),
    ] {
        let body = format!(r#"{{"model":"echo","max_tokens":{most},"messages":[{{"role":"user","content":"one two three"}}]}}"#);
        let answer = json_of(ask(CHAT, &body));
        assert_eq!(answer["choices"][0]["message"]["content"], content);
        assert_eq!(answer["choices"][0]["finish_reason"], reason);
        assert_eq!(answer["usage"]["completion_tokens"], content.split_whitespace().count());
    }
}

#[test]
fn an_answer_has_an_end() {
    let text = "a ".repeat(100_000);
    let (chunks, _) = chunks_of(ask(
        CHAT,
        &format!(r#"{{"model":"echo","stream":true,"messages":[{{"role":"user","content":"{text}"}}]}}"#),
    ));
    assert_eq!(chunks.len(), 16_384 + 2);
    assert!(chunks.last().unwrap().contains(r#""finish_reason":"length""#));
    let prompts = vec![format!("\"{text}\""); 3].join(",");
    let (chunks, _) = chunks_of(ask(
        "/v1/completions",
        &format!(r#"{{"model":"echo","stream":true,"prompt":[{prompts}]}}"#),
    ));
    assert_eq!(chunks.len(), 16_384 + 3);
}

#[test]
fn the_models_name_sets_the_pause() {
    let pause = |model: &str| chunks_of(ask(CHAT, &format!(r#"{{"model":"{model}","stream":true,"messages":[]}}"#))).1;
    assert_eq!(
        [pause("echo"), pause("echo-20ms"), pause("echo-0ms"), pause("echo-60000ms")],
        [0, 20, 0, 60_000]
    );
}

#[test]
fn other_models_are_not_found() {
    for model in [
        "gpt-4o",
        "Echo",
        "echo-",
        "echo-ms",
        "echo-+5ms",
        "echo--5ms",
        "echo-5",
        "echo-60001ms",
        "echo-99999999999ms",
        "echoes",
    ] {
        let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
        assert_eq!(refusal(CHAT, &body), (404, "model_not_found", Some("model")), "{model}");
    }
    assert_eq!(refusal("/v1/models/gpt-4o", ""), (404, "model_not_found", Some("model")));
}

#[test]
fn a_strange_model_name_is_shown_short_and_escaped() {
    let EchoAnswer::Error(error) = ask(CHAT, &format!(r#"{{"model":"\u0000\n{}"}}"#, "x".repeat(1_000_000))) else {
        panic!()
    };
    assert!(
        error.message.len() < 300 && !error.message.contains(char::is_control),
        "{}",
        error.message
    );
}

#[test]
fn what_echo_has_not_is_not_found() {
    for path in ["/v1/moderations", "/v1/files", "/v1/audio/speech", "/v1/responses/resp_1", "/v1/batches"] {
        assert_eq!(refusal(path, ""), (404, "endpoint_not_found", None), "{path}");
    }
}

#[test]
fn bad_requests_name_their_parameter() {
    let cases = [
        (CHAT, r#"{"model":"echo"}"#, "missing_required_parameter", Some("messages")),
        (
            CHAT,
            r#"{"model":"echo","messages":null}"#,
            "missing_required_parameter",
            Some("messages"),
        ),
        (CHAT, r#"{"model":"echo","messages":"hi"}"#, "invalid_type", Some("messages")),
        (
            CHAT,
            r#"{"model":"echo","messages":[{"role":"user","content":5}]}"#,
            "invalid_type",
            Some("messages"),
        ),
        (CHAT, r#"{"model":"echo","messages":[{"role":5}]}"#, "invalid_type", Some("messages")),
        (CHAT, r#"{"messages":[]}"#, "missing_required_parameter", Some("model")),
        (CHAT, r#"{"model":"echo","messages":[01]}"#, "invalid_json", None),
        ("/v1/completions", r#"{"model":"echo"}"#, "missing_required_parameter", Some("prompt")),
        ("/v1/completions", r#"{"model":"echo","prompt":{}}"#, "invalid_type", Some("prompt")),
        (RESPONSES, r#"{"model":"echo"}"#, "missing_required_parameter", Some("input")),
        (
            RESPONSES,
            r#"{"prompt":{"id":"p"},"input":"x"}"#,
            "missing_required_parameter",
            Some("model"),
        ),
        ("/v1/embeddings", r#"{"model":"echo","input":[]}"#, "invalid_value", Some("input")),
        ("/v1/embeddings", r#"{"model":"echo","input":["a",""]}"#, "invalid_value", Some("input")),
        ("/v1/embeddings", r#"{"model":"echo","input":["a",1]}"#, "invalid_type", Some("input")),
        (
            "/v1/embeddings",
            r#"{"model":"echo","input":"a","encoding_format":"hex"}"#,
            "invalid_value",
            Some("encoding_format"),
        ),
        (
            "/v1/embeddings",
            r#"{"model":"echo","input":"a","dimensions":3}"#,
            "invalid_value",
            Some("dimensions"),
        ),
    ];
    for (path, body, code, param) in cases {
        assert_eq!(refusal(path, body), (400, code, param), "{body}");
    }
    let many = format!(r#"{{"model":"echo","input":[{}]}}"#, vec!["\"a\""; 2049].join(","));
    assert_eq!(refusal("/v1/embeddings", &many), (400, "invalid_value", Some("input")));
}

#[test]
fn token_ids_are_taken_as_words() {
    let embed = |input: &str| json_of(ask("/v1/embeddings", &format!(r#"{{"model":"echo","input":{input}}}"#)));
    let (ids, lists) = (embed("[1,2,3]"), embed("[[1,2,3],[4]]"));
    assert_eq!(
        (ids["data"].as_array().map(Vec::len), ids["usage"]["prompt_tokens"].as_u64()),
        (Some(1), Some(3))
    );
    assert_eq!(
        (lists["data"].as_array().map(Vec::len), lists["usage"]["prompt_tokens"].as_u64()),
        (Some(2), Some(4))
    );
    assert_eq!(ids["data"][0]["embedding"], lists["data"][0]["embedding"]);
}

#[test]
fn both_encodings_hold_the_same_unit_vector() {
    let embed = |format: &str| {
        json_of(ask(
            "/v1/embeddings",
            &format!(r#"{{"model":"echo","input":"x","encoding_format":"{format}"}}"#),
        ))["data"][0]["embedding"]
            .take()
    };
    let floats: Vec<f32> = serde_json::from_value(embed("float")).unwrap();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, embed("base64").as_str().unwrap()).unwrap();
    let decoded: Vec<f32> = bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!(floats, decoded);
    let length: f32 = floats.iter().map(|number| number * number).sum();
    assert!((length - 1.0).abs() < 1e-5);
}

#[test]
fn equal_requests_get_equal_answers_and_others_get_other_ids() {
    let id = |text: &str| {
        json_of(ask(
            CHAT,
            &format!(r#"{{"model":"echo","messages":[{{"role":"user","content":"{text}"}}]}}"#),
        ))["id"]
            .to_string()
    };
    assert_eq!(id("a"), id("a"));
    assert_ne!(id("a"), id("b"));
}

fn observed(kind: EndpointKind, chunks: &[String]) -> Observed {
    let mut observer = UsageObserver::stream(kind);
    chunks.iter().for_each(|chunk| observer.observe(chunk.as_bytes()));
    observer.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whole_and_streamed_answers_say_the_same_and_count_the_same(text in any::<String>(), most in prop::option::of(0u64..8)) {
        let messages = serde_json::json!([{"role": "user", "content": text}]);
        let mut request = serde_json::json!({"model": "echo", "stream_options": {"include_usage": true}, "messages": messages});
        if let Some(most) = most {
            request["max_completion_tokens"] = most.into();
        }
        let whole = json_of(ask(CHAT, &request.to_string()));
        request["stream"] = true.into();
        let (chunks, _) = chunks_of(ask(CHAT, &request.to_string()));
        let said: String = chunks.iter().filter_map(|chunk| {
            let event: Value = serde_json::from_str(chunk.lines().next()?.strip_prefix("data: ")?).ok()?;
            Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned())
        }).collect();
        prop_assert_eq!(whole["choices"][0]["message"]["content"].as_str(), Some(&said[..]));
        let tokens = |name: &str| whole["usage"][name].as_u64().unwrap();
        let usage = Usage { input: tokens("prompt_tokens"), cached: 0, output: tokens("completion_tokens"), reasoning: 0 };
        let expected = Observed { usage: Some(usage), delta_chunks: usage.output, events: chunks.len() as u64 + 1, done: true };
        prop_assert_eq!(observed(EndpointKind::ChatCompletions, &chunks), expected);
    }

    #[test]
    fn responses_stream_what_they_say_whole(text in any::<String>(), most in prop::option::of(0u64..8)) {
        let mut request = serde_json::json!({"model": "echo", "input": text});
        if let Some(most) = most {
            request["max_output_tokens"] = most.into();
        }
        let whole = json_of(ask(RESPONSES, &request.to_string()));
        request["stream"] = true.into();
        let (chunks, _) = chunks_of(ask(RESPONSES, &request.to_string()));
        let last: Value = serde_json::from_str(chunks.last().unwrap().lines().nth(1).unwrap().strip_prefix("data: ").unwrap()).unwrap();
        prop_assert_eq!(&last["response"]["output"][0]["content"], &whole["output"][0]["content"]);
        prop_assert_eq!(&last["response"]["usage"], &whole["usage"]);
        let seen = observed(EndpointKind::Responses, &chunks);
        let tokens = |name: &str| whole["usage"][name].as_u64().unwrap();
        prop_assert_eq!(seen.usage.map(|usage| (usage.input, usage.output)), Some((tokens("input_tokens"), tokens("output_tokens"))));
        prop_assert_eq!((seen.delta_chunks, seen.events, seen.done), (tokens("output_tokens"), chunks.len() as u64, true));
    }

    #[test]
    fn no_body_that_passes_the_peek_makes_echo_panic(input in "[\\[\\]{}\",:0-9a-c ntrue]{0,40}", stream in any::<bool>()) {
        for path in [CHAT, "/v1/completions", RESPONSES, "/v1/embeddings"] {
            for name in ["messages", "prompt", "input"] {
                let body = format!(r#"{{"model":"echo","stream":{stream},"{name}":{input}}}"#);
                if let Ok(peeked) = peek::peek(body.as_bytes()) {
                    let _ = answer(endpoint::find(path).unwrap(), path, &peeked, body.as_bytes());
                }
            }
        }
    }
}

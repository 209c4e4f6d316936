//! The observer on recorded shapes, against a slow reader that parses everything, and under any split.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use EndpointKind::{ChatCompletions, Completions, Embeddings, Images, Responses};

fn watch<'c>(mut observer: UsageObserver, chunks: impl IntoIterator<Item = &'c [u8]>) -> Observed {
    chunks.into_iter().for_each(|chunk| observer.observe(chunk));
    observer.finish()
}

fn streamed(kind: EndpointKind, stream: &str) -> Observed {
    let whole = watch(UsageObserver::stream(kind), [stream.as_bytes()]);
    for size in [1, 2, 3, 7, 64, 1460] {
        assert_eq!(
            watch(UsageObserver::stream(kind), stream.as_bytes().chunks(size)),
            whole,
            "in chunks of {size}"
        );
    }
    whole
}

fn whole(body: &str) -> Observed {
    let observed = watch(UsageObserver::whole(), [body.as_bytes()]);
    let mut at_once = UsageObserver::whole();
    at_once.observe_last(body.as_bytes());
    assert_eq!(at_once.finish(), observed, "in one piece that is known to be all");
    for size in [1, 2, 3, 7, 64, 1460] {
        assert_eq!(
            watch(UsageObserver::whole(), body.as_bytes().chunks(size)),
            observed,
            "in chunks of {size}"
        );
    }
    observed
}

fn usage(input: u64, cached: u64, output: u64, reasoning: u64) -> Option<Usage> {
    Some(Usage {
        input,
        cached,
        output,
        reasoning,
    })
}

const CHAT: &str = include_str!("fixtures/chat.sse");
const CHAT_USAGE: &str = include_str!("fixtures/chat-usage.sse");

#[test]
fn a_chat_stream_with_usage_is_counted_by_the_provider() {
    let stream = format!("{CHAT}{CHAT_USAGE}data: [DONE]\n\n");
    assert_eq!(
        streamed(ChatCompletions, &stream),
        Observed {
            usage: usage(19, 8, 10, 4),
            delta_chunks: 3,
            events: 7,
            done: true
        }
    );
}

#[test]
fn a_chat_stream_without_usage_is_counted_by_its_deltas() {
    let stream = format!("{CHAT}data: [DONE]\n\n").replace(r#","usage":null"#, "");
    assert_eq!(
        streamed(ChatCompletions, &stream),
        Observed {
            usage: None,
            delta_chunks: 3,
            events: 6,
            done: true
        }
    );
}

#[test]
fn a_stream_that_breaks_off_has_what_passed() {
    let stream = &CHAT[..CHAT.find(" it").unwrap()];
    assert_eq!(
        streamed(ChatCompletions, stream),
        Observed {
            usage: None,
            delta_chunks: 1,
            events: 2,
            done: false
        }
    );
}

#[test]
fn the_last_event_counts_without_the_empty_line_behind_it() {
    let stream = format!("{CHAT}{}", CHAT_USAGE.trim_end());
    assert_eq!(streamed(ChatCompletions, &stream).usage, usage(19, 8, 10, 4));
    assert!(streamed(ChatCompletions, "data: [DONE]").done);
}

#[test]
fn of_several_reports_the_last_counts() {
    let stream =
        "data: {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\ndata: {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
    assert_eq!(streamed(ChatCompletions, stream).usage, usage(1, 0, 2, 0));
    let then_absurd = format!("{stream}data: {{\"usage\":{{\"prompt_tokens\":-1,\"completion_tokens\":3}}}}\n\n");
    assert_eq!(streamed(ChatCompletions, &then_absurd).usage, usage(1, 0, 2, 0));
}

#[test]
fn usage_below_the_top_level_is_not_the_answers() {
    let stream = r#"data: {"choices":[{"delta":{"content":"a"},"usage":{"prompt_tokens":1,"completion_tokens":2}}]}

"#;
    assert_eq!(
        streamed(ChatCompletions, stream),
        Observed {
            usage: None,
            delta_chunks: 1,
            events: 1,
            done: false
        }
    );
}

#[test]
fn carriage_returns_comments_spaces_and_split_data_change_nothing() {
    let stream = format!(": ping\n\n{CHAT}{CHAT_USAGE}data: [DONE]\n\n");
    let expected = streamed(ChatCompletions, &stream);
    assert_eq!(streamed(ChatCompletions, &stream.replace('\n', "\r\n")), expected);
    assert_eq!(streamed(ChatCompletions, &stream.replace('\n', "\r")), expected);
    assert_eq!(streamed(ChatCompletions, &stream.replace("data: ", "data:")), expected);
    assert_eq!(streamed(ChatCompletions, &stream.replace(",\"object\"", "\ndata: ,\"object\"")), expected);
    assert_eq!(
        streamed(ChatCompletions, &stream.replace("\":", "\" : ").replace("null", " null")),
        expected
    );
}

#[test]
fn text_completions_are_counted_by_their_texts() {
    let stream = r#"data: {"choices":[{"text":"Hi","index":0,"logprobs":{"text_offset":[1]},"finish_reason":null}]}

data: {"choices":[{"text":"","index":0,"finish_reason":"stop"}]}

data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}

data: [DONE]

"#;
    assert_eq!(
        streamed(Completions, stream),
        Observed {
            usage: usage(1, 0, 1, 0),
            delta_chunks: 1,
            events: 4,
            done: true
        }
    );
}

const RESPONSES: &str = include_str!("fixtures/responses.sse");

#[test]
fn a_responses_stream_is_counted_by_its_final_event() {
    let expected = Observed {
        usage: usage(36, 1, 87, 2),
        delta_chunks: 2,
        events: 5,
        done: true,
    };
    assert_eq!(streamed(Responses, RESPONSES), expected);
    let unnamed: String = RESPONSES
        .lines()
        .filter(|line| !line.starts_with("event:"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(streamed(Responses, &unnamed), expected);
    for last in ["response.incomplete", "response.failed"] {
        assert_eq!(streamed(Responses, &RESPONSES.replace("response.completed", last)), expected);
    }
}

#[test]
fn a_ten_megabyte_event_is_searched_as_it_passes() {
    let image = "A".repeat(10_000_000);
    let stream = RESPONSES.replace(r#""output":["#, &format!(r#""output":[{{"result":"{image}"}},"#));
    let observed = watch(UsageObserver::stream(Responses), stream.as_bytes().chunks(16_384));
    assert_eq!(
        observed,
        Observed {
            usage: usage(36, 1, 87, 2),
            delta_chunks: 2,
            events: 5,
            done: true
        }
    );
    let delta = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{image}\"}}}}]}}\n\n{CHAT_USAGE}");
    let observed = watch(UsageObserver::stream(ChatCompletions), delta.as_bytes().chunks(16_384));
    assert_eq!(
        observed,
        Observed {
            usage: usage(19, 8, 10, 4),
            delta_chunks: 1,
            events: 2,
            done: false
        }
    );
}

#[test]
fn images_and_audio_report_usage_at_the_top_of_their_final_event() {
    let stream = r#"event: image_generation.partial_image
data: {"type":"image_generation.partial_image","b64_json":"AAAA"}

event: image_generation.completed
data: {"type":"image_generation.completed","b64_json":"AAAA","usage":{"total_tokens":100,"input_tokens":50,"output_tokens":50}}

"#;
    assert_eq!(
        streamed(Images, stream),
        Observed {
            usage: usage(50, 0, 50, 0),
            delta_chunks: 0,
            events: 2,
            done: true
        }
    );
}

#[test]
fn a_whole_answer_is_read_at_its_top_level_only() {
    let body = r#"{"id":"chatcmpl-1","choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":5}","usage":{"prompt_tokens":6}}}],
        "usage" : {"prompt_tokens":19,"completion_tokens":10,"x":{"usage":{}}},"x":{"usage":{"prompt_tokens":1,"completion_tokens":2}}}"#;
    assert_eq!(
        whole(body),
        Observed {
            usage: usage(19, 0, 10, 0),
            done: true,
            ..Observed::default()
        }
    );
}

#[test]
fn a_whole_answer_may_say_usage_twice_or_null_or_nothing() {
    assert_eq!(
        whole(r#"{"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":2}}"#).usage,
        usage(2, 0, 0, 0)
    );
    assert_eq!(whole(r#"{"usage":{"prompt_tokens":1},"usage":null}"#).usage, usage(1, 0, 0, 0));
    assert_eq!(whole(r#"{"usage":null,"a":{"prompt_tokens":1}}"#).usage, None);
    assert_eq!(whole(r#"{"usage":[{"prompt_tokens":1}]}"#).usage, None);
    assert_eq!(
        whole("{}"),
        Observed {
            done: true,
            ..Observed::default()
        }
    );
}

#[test]
fn objects_behind_the_response_are_not_the_response() {
    let stream = r#"data: {"a":{"usage":{"input_tokens":1}},"response":{"usage":{"input_tokens":2}},
data: "b":{"usage":{"input_tokens":3}},"usage":{"input_tokens":4}}

"#;
    assert_eq!(streamed(Responses, stream).usage, usage(2, 0, 0, 0));
}

#[test]
fn a_name_with_escapes_is_another_name() {
    for name in [r"\busage", r"usage\b", r"us\bage", r"usag\e", r#"\"usage"#, "usages", "usag", ""] {
        assert_eq!(whole(&format!(r#"{{"{name}":{{"prompt_tokens":1}}}}"#)).usage, None, "{name}");
    }
}

#[test]
fn what_is_no_json_has_no_usage() {
    for body in [
        "",
        "<html>\"usage\":{\"prompt_tokens\":1}</html>",
        "[{\"usage\":{\"prompt_tokens\":1}}]",
        "usage",
        "\u{0}",
        "{]]]]}}}}\"usage\":{\"prompt_tokens\":1}",
    ] {
        assert_eq!(whole(body).usage, None, "{body}");
    }
}

#[test]
fn a_usage_object_beyond_its_bound_is_absent() {
    let padding = "x".repeat(64 * 1024);
    assert_eq!(whole(&format!(r#"{{"usage":{{"prompt_tokens":1,"x":"{padding}"}}}}"#)).usage, None);
    assert_eq!(
        whole(&format!(r#"{{"x":"{padding}","usage":{{"prompt_tokens":1}}}}"#)).usage,
        usage(1, 0, 0, 0)
    );
}

#[test]
fn deep_nesting_is_no_matter() {
    let deep = "[".repeat(1_000_000);
    assert_eq!(whole(&format!(r#"{{"usage":{{"prompt_tokens":1}},"a":{deep}"#)).usage, usage(1, 0, 0, 0));
}

#[test]
fn an_embeddings_answer_has_no_output() {
    let body = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-0.2]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    assert_eq!(whole(body).usage, usage(8, 0, 0, 0));
    assert_eq!(streamed(Embeddings, "").usage, None);
}

/// What a reader says that parses every event whole.
fn by_the_book(kind: EndpointKind, events: &[Value]) -> Observed {
    let mut expected = Observed::default();
    for event in events {
        expected.events += 1;
        let at = if kind == Responses {
            event.pointer("/response/usage")
        } else {
            event.get("usage")
        };
        let usage = at
            .filter(|usage| usage.is_object())
            .and_then(|usage| Usage::read(usage.to_string().as_bytes()));
        expected.usage = usage.or(expected.usage);
        let kind_name = event.get("type").and_then(Value::as_str).unwrap_or_default();
        expected.delta_chunks += u64::from(match kind {
            ChatCompletions => event.pointer("/choices/0/delta").and_then(Value::as_object).is_some_and(|delta| {
                delta
                    .iter()
                    .any(|(name, value)| name != "role" && !matches!(value.to_string().as_str(), "null" | "\"\"" | "[]" | "{}"))
            }),
            _ => kind_name.ends_with(".delta"),
        });
        expected.done |= kind == Responses && matches!(kind_name, "response.completed" | "response.incomplete" | "response.failed");
    }
    expected
}

fn count() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => (0u64..1000).prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!("7")),
    ]
}

fn report() -> impl Strategy<Value = Value> {
    let object = prop::collection::vec(
        (
            prop::sample::select(vec![
                "prompt_tokens",
                "completion_tokens",
                "input_tokens",
                "output_tokens",
                "total_tokens",
                "usage",
                "\"}{",
            ]),
            count(),
        ),
        0..5,
    )
    .prop_map(|members| Value::Object(members.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()));
    prop_oneof![4 => object, 2 => Just(Value::Null), 1 => Just(json!([{"prompt_tokens": 1}])), 1 => Just(json!("usage"))]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        Just("\"usage\":{\"prompt_tokens\":1}".to_owned()),
        Just(String::new()),
        Just("\\\"usage\\\"".to_owned())
    ]
}

fn chat_event() -> impl Strategy<Value = Value> {
    (text(), report(), report(), 0u8..5).prop_map(|(text, top, nested, way)| {
        let delta = match way {
            0 => json!({"role": "assistant", "content": ""}),
            1 => json!({}),
            2 => json!({"tool_calls": [{"function": {"arguments": text}}]}),
            _ => json!({"content": text}),
        };
        json!({"choices": [{"delta": delta, "index": 0, "usage": nested}], "id": "x", "usage": top})
    })
}

fn responses_event() -> impl Strategy<Value = Value> {
    let kinds = vec![
        "response.created",
        "response.output_text.delta",
        "response.output_text.done",
        "response.completed",
        "response.failed",
    ];
    (prop::sample::select(kinds), text(), report(), report()).prop_map(
        |(kind, text, inner, top)| json!({"delta": text, "response": {"a": [{"usage": top.clone()}], "usage": inner}, "type": kind, "usage": top}),
    )
}

fn written(events: &[Value], pretty: bool, end: &str) -> Vec<u8> {
    let mut stream = Vec::new();
    for event in events {
        let data = if pretty {
            serde_json::to_vec_pretty(event)
        } else {
            serde_json::to_vec(event)
        };
        crate::sse::write_event(&mut stream, None, &data.unwrap());
    }
    String::from_utf8(stream).unwrap().replace('\n', end).into_bytes()
}

fn cut<'b>(bytes: &'b [u8], cuts: &[prop::sample::Index]) -> Vec<&'b [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..12)
}

fn chat() -> UsageObserver {
    UsageObserver::stream(ChatCompletions)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chat_streams_split_anywhere_are_read_as_a_full_parse_reads_them(events in prop::collection::vec(chat_event(), 0..6), pretty in any::<bool>(),
        end in prop::sample::select(vec!["\n", "\r\n", "\r"]), cuts in cuts()) {
        let stream = written(&events, pretty, end);
        let observed = watch(UsageObserver::stream(ChatCompletions), cut(&stream, &cuts));
        prop_assert_eq!(observed, by_the_book(ChatCompletions, &events));
    }

    #[test]
    fn responses_streams_split_anywhere_are_read_as_a_full_parse_reads_them(events in prop::collection::vec(responses_event(), 0..6),
        pretty in any::<bool>(), cuts in cuts()) {
        let stream = written(&events, pretty, "\n");
        let observed = watch(UsageObserver::stream(Responses), cut(&stream, &cuts));
        prop_assert_eq!(observed, by_the_book(Responses, &events));
    }

    #[test]
    fn whole_answers_split_anywhere_are_read_as_a_full_parse_reads_them(answer in chat_event(), pretty in any::<bool>(), cuts in cuts()) {
        let body = if pretty { serde_json::to_vec_pretty(&answer) } else { serde_json::to_vec(&answer) }.unwrap();
        let observed = watch(UsageObserver::whole(), cut(&body, &cuts));
        prop_assert_eq!(observed.usage, by_the_book(Embeddings, &[answer]).usage);
        prop_assert!(observed.done);
    }

    #[test]
    fn garbage_split_anywhere_is_read_the_same_and_never_panics(bytes in prop::collection::vec(prop_oneof![
        any::<u8>(), prop::sample::select(b"{}[]\",:\\\n\rdata: usage".to_vec())], 0..200), cuts in cuts()) {
        for observer in [UsageObserver::whole, chat, || UsageObserver::stream(Responses), || UsageObserver::stream(Completions)] {
            prop_assert_eq!(watch(observer(), cut(&bytes, &cuts)), watch(observer(), [&bytes[..]]));
        }
    }

    #[test]
    fn tokens_of_json_split_anywhere_are_read_the_same(tokens in prop::collection::vec(prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"usage\"", "\"usage\":{\"prompt_tokens\":1}", "\"response\"",
        "\"delta\"", "\"delta\":{\"a\":1}", "\"", "\\", "1", "\n\n", "data: ", "data: {"]), 0..30), cuts in cuts()) {
        let bytes = tokens.concat().into_bytes();
        for observer in [UsageObserver::whole, chat, || UsageObserver::stream(Responses)] {
            prop_assert_eq!(watch(observer(), cut(&bytes, &cuts)), watch(observer(), [&bytes[..]]));
        }
    }
}

//! OpenAI's wire formats as its API sends them: whole answers, event streams, error objects. Values only; no I/O.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Exchange, Reply};

/// What every completion says, one streamed chunk per word.
pub const WORDS: [&str; 6] = ["The", " quick", " brown", " fox", " jumps", "."];

/// Prompt tokens of every answer.
pub const INPUT_TOKENS: u64 = 19;

/// Of them, read from the provider's cache.
pub const CACHED_TOKENS: u64 = 3;

/// Completion tokens of every answer.
pub const OUTPUT_TOKENS: u64 = WORDS.len() as u64;

const CREATED: u64 = 1_741_569_952;

/// The answer that OpenAI would give to this request.
#[must_use]
pub fn answer(request: &Exchange) -> Reply {
    let body = request.json();
    let path = request.target().split('?').next().unwrap_or_default();
    let model = body["model"].as_str().unwrap_or("gpt-4o-mini");
    let stream = body["stream"] == true;
    let tail = path.strip_prefix("/v1/").unwrap_or_default();
    match (request.method(), tail) {
        ("GET", "models") => ok(&models()),
        ("GET", model) if model.starts_with("models/") => ok(&a_model(&model["models/".len()..])),
        ("POST", "chat/completions") if stream => {
            let usage = body["stream_options"]["include_usage"] == true;
            Reply::events(&chat_events(model, &WORDS, usage), Duration::ZERO)
        }
        ("POST", "chat/completions") => ok(&chat(model)),
        ("POST", "responses") if stream => Reply::events(&response_events(model), Duration::ZERO),
        ("POST", "responses") => ok(&response(model, "completed", true)),
        ("POST", "completions") => ok(&completion(model)),
        ("POST", "embeddings") => ok(&embeddings(model, body["encoding_format"] == "base64")),
        _ => error(
            404,
            &format!("Invalid URL ({} {path})", request.method()),
            "invalid_request_error",
            Value::Null,
        ),
    }
}

fn ok(body: &Value) -> Reply {
    Reply::json_with(200, "x-request-id: req_provider\r\nopenai-processing-ms: 12\r\n", body)
}

/// OpenAI's error object.
#[must_use]
pub fn error(status: u16, message: &str, kind: &str, code: Value) -> Reply {
    Reply::json(status, &json!({"error": {"message": message, "type": kind, "param": null, "code": code}}))
}

/// `usage` of chat completions.
#[must_use]
pub fn chat_usage() -> Value {
    json!({
        "prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    })
}

/// A whole chat completion.
#[must_use]
pub fn chat(model: &str) -> Value {
    let message = json!({"role": "assistant", "content": WORDS.concat(), "refusal": null, "annotations": []});
    json!({
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion", "created": CREATED, "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}],
        "usage": chat_usage(), "service_tier": "default", "system_fingerprint": "fp_44709d6fcb",
    })
}

/// The events of a streamed chat completion, `[DONE]` included. With `usage` every chunk carries the field and one more chunk its figures.
#[must_use]
pub fn chat_events(model: &str, words: &[&str], usage: bool) -> Vec<String> {
    let chunk = |choices: Value, figures: Value| {
        let mut chunk = json!({
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion.chunk", "created": CREATED, "model": model,
            "service_tier": "default", "system_fingerprint": "fp_44709d6fcb", "choices": choices,
        });
        if usage {
            chunk["usage"] = figures;
        }
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, finish: Value| {
        let choices = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        chunk(choices, Value::Null)
    };
    let mut events = vec![delta(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null)];
    events.extend(words.iter().map(|word| delta(json!({"content": word}), Value::Null)));
    events.push(delta(json!({}), json!("stop")));
    if usage {
        events.push(chunk(json!([]), chat_usage()));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// A whole legacy completion.
#[must_use]
pub fn completion(model: &str) -> Value {
    json!({
        "id": "cmpl-uqkvlQyYK7bGYrRHQ0eXlWi7", "object": "text_completion", "created": CREATED, "model": model,
        "choices": [{"text": WORDS.concat(), "index": 0, "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS},
    })
}

fn response_item(complete: bool) -> Value {
    let content = if complete {
        json!([{"type": "output_text", "text": WORDS.concat(), "annotations": [], "logprobs": []}])
    } else {
        json!([])
    };
    let status = if complete { "completed" } else { "in_progress" };
    json!({"id": "msg_67ccd2bf17f0819081ff3bb2cf6508e6", "type": "message", "status": status, "role": "assistant", "content": content})
}

/// A response object of /v1/responses, with its output and usage if `complete`.
#[must_use]
pub fn response(model: &str, status: &str, complete: bool) -> Value {
    let usage = json!({
        "input_tokens": INPUT_TOKENS, "input_tokens_details": {"cached_tokens": CACHED_TOKENS},
        "output_tokens": OUTPUT_TOKENS, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    });
    json!({
        "id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b", "object": "response", "created_at": CREATED, "status": status,
        "error": null, "incomplete_details": null, "instructions": null, "max_output_tokens": null, "model": model,
        "output": if complete { json!([response_item(true)]) } else { json!([]) },
        "parallel_tool_calls": true, "previous_response_id": null, "reasoning": {"effort": null, "summary": null}, "store": true,
        "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled",
        "usage": if complete { usage } else { Value::Null }, "user": null, "metadata": {},
    })
}

/// The events of a streamed response: typed, numbered, without `[DONE]`.
#[must_use]
pub fn response_events(model: &str) -> Vec<String> {
    let item = "msg_67ccd2bf17f0819081ff3bb2cf6508e6";
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
    let at = |kind: &str, mut more: Value| {
        more["type"] = json!(kind);
        more["item_id"] = json!(item);
        more["output_index"] = json!(0);
        more["content_index"] = json!(0);
        more
    };
    let mut payloads = vec![
        json!({"type": "response.created", "response": response(model, "in_progress", false)}),
        json!({"type": "response.in_progress", "response": response(model, "in_progress", false)}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": response_item(false)}),
        at("response.content_part.added", json!({"part": part("")})),
    ];
    payloads.extend(
        WORDS
            .iter()
            .map(|word| at("response.output_text.delta", json!({"delta": word, "logprobs": []}))),
    );
    payloads.push(at("response.output_text.done", json!({"text": WORDS.concat(), "logprobs": []})));
    payloads.push(at("response.content_part.done", json!({"part": part(&WORDS.concat())})));
    payloads.push(json!({"type": "response.output_item.done", "output_index": 0, "item": response_item(true)}));
    payloads.push(json!({"type": "response.completed", "response": response(model, "completed", true)}));
    let numbered = payloads.into_iter().enumerate().map(|(number, mut payload)| {
        payload["sequence_number"] = json!(number);
        format!("event: {}\ndata: {payload}\n\n", payload["type"].as_str().unwrap_or_default())
    });
    numbered.collect()
}

/// An answer of /v1/embeddings: one vector of three floats, as numbers or as base64 of little-endian floats.
#[must_use]
pub fn embeddings(model: &str, as_base64: bool) -> Value {
    let vector = [0.25_f32, -0.5, 0.75];
    let bytes: Vec<u8> = vector.iter().flat_map(|float| float.to_le_bytes()).collect();
    let embedding = if as_base64 { json!(STANDARD.encode(bytes)) } else { json!(vector) };
    json!({
        "object": "list", "data": [{"object": "embedding", "index": 0, "embedding": embedding}], "model": model,
        "usage": {"prompt_tokens": INPUT_TOKENS, "total_tokens": INPUT_TOKENS},
    })
}

fn a_model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": CREATED, "owned_by": "system"})
}

/// The answer of /v1/models.
#[must_use]
pub fn models() -> Value {
    json!({"object": "list", "data": [a_model("gpt-4o"), a_model("gpt-4o-mini"), a_model("text-embedding-3-small")]})
}

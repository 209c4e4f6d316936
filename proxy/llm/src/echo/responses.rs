//! Echo's responses: the last user text, whole or as the sequence of events that OpenAI sends for one message.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::request::{Conversation, read, required};
use super::script::Script;
use super::words::{Answer, count};
use super::{Call, EchoAnswer, whole};
use crate::ApiError;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(default)]
    instructions: Option<String>,
}

/// The response object. Fields that Echo has no use for carry the API's defaults: strict clients want them.
#[derive(Clone, Serialize)]
struct Response<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    background: bool,
    error: Option<()>,
    incomplete_details: Option<IncompleteDetails>,
    instructions: Option<&'a str>,
    max_output_tokens: Option<u64>,
    model: &'a str,
    output: &'a [Item<'a>],
    parallel_tool_calls: bool,
    previous_response_id: Option<()>,
    reasoning: Reasoning,
    store: bool,
    temperature: f32,
    text: TextConfig,
    tool_choice: &'static str,
    tools: [(); 0],
    top_p: f32,
    truncation: &'static str,
    usage: Option<Usage>,
    user: Option<()>,
    metadata: Metadata,
}

#[derive(Clone, Copy, Serialize)]
struct IncompleteDetails {
    reason: &'static str,
}

#[derive(Clone, Copy, Serialize)]
struct Reasoning {
    effort: Option<()>,
    summary: Option<()>,
}

#[derive(Clone, Copy, Serialize)]
struct TextConfig {
    format: Format,
}

#[derive(Clone, Copy, Serialize)]
struct Format {
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Clone, Copy, Serialize)]
struct Metadata {}

#[derive(Clone, Copy, Serialize)]
struct Usage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct InputDetails {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

/// A message of the assistant.
#[derive(Clone, Copy, Serialize)]
struct Item<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    role: &'static str,
    content: &'a [Part<'a>],
}

#[derive(Clone, Copy, Serialize)]
struct Part<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    annotations: [(); 0],
    logprobs: [(); 0],
    text: &'a str,
}

/// An event; the fields differ by type.
#[derive(Default, Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    sequence_number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'a Response<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<Item<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<Part<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<[(); 0]>,
}

pub(super) fn reply(call: &Call<'_>) -> Result<EchoAnswer, ApiError> {
    let request: Request<'_> = read(call.body)?;
    let conversation = conversation(required(request.input, "input")?)?;
    let answer = Answer::new(&conversation.last_user_text, call.peeked);
    let input_tokens = conversation.tokens + request.instructions.as_deref().map_or(0, count);
    let usage = Usage {
        input_tokens,
        input_tokens_details: InputDetails {
            cached_tokens: 0,
            cache_write_tokens: 0,
        },
        output_tokens: answer.tokens(),
        output_tokens_details: OutputDetails { reasoning_tokens: 0 },
        total_tokens: input_tokens + answer.tokens(),
    };
    let id = format!("resp_{}", call.id);
    let item_id = format!("msg_{}", call.id);
    let text = answer.text();
    let part = Part {
        kind: "output_text",
        annotations: [],
        logprobs: [],
        text: &text,
    };
    let status = if answer.cut { "incomplete" } else { "completed" };
    let item = Item {
        id: &item_id,
        kind: "message",
        status,
        role: "assistant",
        content: &[part],
    };
    let begun = Response::begun(call, &id, request.instructions.as_deref());
    let ended = Response {
        status,
        incomplete_details: answer.cut.then_some(IncompleteDetails { reason: "max_output_tokens" }),
        output: &[item],
        usage: Some(usage),
        ..begun.clone()
    };
    if call.peeked.stream {
        Ok(stream(call, &answer, &begun, &ended, item, part))
    } else {
        Ok(whole(&ended))
    }
}

/// `input` is a text of the user, or a list of items.
fn conversation(input: &RawValue) -> Result<Conversation, ApiError> {
    match serde_json::from_str::<String>(input.get()) {
        Ok(text) => Ok(Conversation {
            tokens: count(&text),
            last_user_text: text,
        }),
        Err(_) => Conversation::read(input, "input"),
    }
}

impl<'a> Response<'a> {
    fn begun(call: &Call<'a>, id: &'a str, instructions: Option<&'a str>) -> Self {
        Self {
            id,
            object: "response",
            created_at: 0,
            status: "in_progress",
            background: false,
            error: None,
            incomplete_details: None,
            instructions,
            max_output_tokens: call.peeked.max_tokens,
            model: call.model,
            output: &[],
            parallel_tool_calls: true,
            previous_response_id: None,
            reasoning: Reasoning { effort: None, summary: None },
            store: false,
            temperature: 1.0,
            text: TextConfig {
                format: Format { kind: "text" },
            },
            tool_choice: "auto",
            tools: [],
            top_p: 1.0,
            truncation: "disabled",
            usage: None,
            user: None,
            metadata: Metadata {},
        }
    }
}

fn stream(call: &Call<'_>, answer: &Answer<'_>, begun: &Response<'_>, ended: &Response<'_>, item: Item<'_>, part: Part<'_>) -> EchoAnswer {
    let mut script = Script::default();
    let mut sequence_number = 0;
    let mut say = |event: Event<'_>| {
        script.event(event.kind, &Event { sequence_number, ..event });
        sequence_number += 1;
    };
    let whole = |kind, response| Event {
        kind,
        response: Some(response),
        ..Event::default()
    };
    let of_item = |kind, item| Event {
        kind,
        output_index: Some(0),
        item: Some(item),
        ..Event::default()
    };
    let of_part = |kind| Event {
        kind,
        item_id: Some(item.id),
        output_index: Some(0),
        content_index: Some(0),
        ..Event::default()
    };

    say(whole("response.created", begun));
    say(whole("response.in_progress", begun));
    say(of_item(
        "response.output_item.added",
        Item {
            status: "in_progress",
            content: &[],
            ..item
        },
    ));
    say(Event {
        part: Some(Part { text: "", ..part }),
        ..of_part("response.content_part.added")
    });
    for piece in answer.pieces() {
        say(Event {
            delta: Some(&piece),
            logprobs: Some([]),
            ..of_part("response.output_text.delta")
        });
    }
    say(Event {
        text: Some(part.text),
        logprobs: Some([]),
        ..of_part("response.output_text.done")
    });
    say(Event {
        part: Some(part),
        ..of_part("response.content_part.done")
    });
    say(of_item("response.output_item.done", item));
    say(whole(if answer.cut { "response.incomplete" } else { "response.completed" }, ended));
    script.play(call)
}

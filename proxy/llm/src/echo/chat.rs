//! Echo's chat completions: the last user text, whole or one chunk per word.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::request::{Conversation, read, required};
use super::script::Script;
use super::words::Answer;
use super::{Call, EchoAnswer, whole};
use crate::ApiError;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
}

/// `usage` of chat and text completions.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Clone, Copy, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

#[derive(Serialize)]
struct Completion<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: Option<&'static str>,
    choices: &'a [C],
    /// Left out, null or there: chunks have it only if the client asked for usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct Choice {
    index: u32,
    message: Message,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: String,
    refusal: Option<()>,
    annotations: [(); 0],
}

#[derive(Serialize)]
struct DeltaChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

impl Usage {
    pub(super) fn new(prompt: u64, completion: u64) -> Self {
        Self {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt + completion,
            prompt_tokens_details: PromptDetails { cached_tokens: 0 },
            completion_tokens_details: CompletionDetails { reasoning_tokens: 0 },
        }
    }
}

pub(super) fn reply(call: &Call<'_>) -> Result<EchoAnswer, ApiError> {
    let request: Request<'_> = read(call.body)?;
    let conversation = Conversation::read(required(request.messages, "messages")?, "messages")?;
    let answer = Answer::new(&conversation.last_user_text, call.peeked);
    let usage = Usage::new(conversation.tokens, answer.tokens());
    let id = format!("chatcmpl-{}", call.id);
    if call.peeked.stream {
        return Ok(stream(call, &id, &answer, usage));
    }
    let message = Message {
        role: "assistant",
        content: answer.text(),
        refusal: None,
        annotations: [],
    };
    let choice = Choice {
        index: 0,
        message,
        logprobs: None,
        finish_reason: answer.finish_reason(),
    };
    Ok(whole(&Completion {
        id: &id,
        object: "chat.completion",
        created: 0,
        model: call.model,
        system_fingerprint: None,
        choices: &[choice],
        usage: Some(Some(usage)),
    }))
}

fn stream(call: &Call<'_>, id: &str, answer: &Answer<'_>, usage: Usage) -> EchoAnswer {
    let asked = call.peeked.include_usage;
    let mut script = Script::default();
    let mut chunk = |choices: &[DeltaChoice<'_>], usage: Option<Usage>| {
        let usage = asked.then_some(usage);
        script.data(&Completion {
            id,
            object: "chat.completion.chunk",
            created: 0,
            model: call.model,
            system_fingerprint: None,
            choices,
            usage,
        });
    };
    chunk(
        &choice(
            Delta {
                role: Some("assistant"),
                content: Some(""),
            },
            None,
        ),
        None,
    );
    for piece in answer.pieces() {
        chunk(
            &choice(
                Delta {
                    role: None,
                    content: Some(&piece),
                },
                None,
            ),
            None,
        );
    }
    chunk(&choice(Delta::default(), Some(answer.finish_reason())), None);
    if asked {
        chunk(&[], Some(usage));
    }
    script.done();
    script.play(call)
}

fn choice<'a>(delta: Delta<'a>, finish_reason: Option<&'static str>) -> [DeltaChoice<'a>; 1] {
    [DeltaChoice {
        index: 0,
        delta,
        logprobs: None,
        finish_reason,
    }]
}

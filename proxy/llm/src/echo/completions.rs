//! Echo's text completions: each prompt itself, whole or one chunk per word.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::chat::Usage;
use super::request::{Text, read, required};
use super::script::Script;
use super::words::{Answer, count, most};
use super::{Call, EchoAnswer, whole};
use crate::ApiError;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, default)]
    prompt: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice],
    /// Left out, null or there: chunks have it only if the client asked for usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct Choice {
    text: String,
    index: usize,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

pub(super) fn reply(call: &Call<'_>) -> Result<EchoAnswer, ApiError> {
    let request: Request<'_> = read(call.body)?;
    let prompts = Text::read_all(required(request.prompt, "prompt")?, "prompt")?;
    // The bound holds for each prompt, and for all of them together.
    let mut left = most(&super::Peek::default());
    let answers: Vec<Answer<'_>> = prompts
        .iter()
        .map(|Text(prompt)| {
            let answer = Answer::within(prompt, left.min(most(call.peeked)));
            left -= answer.len();
            answer
        })
        .collect();
    let usage = Usage::new(
        prompts.iter().map(|Text(prompt)| count(prompt)).sum(),
        answers.iter().map(Answer::tokens).sum(),
    );
    let id = format!("cmpl-{}", call.id);
    if call.peeked.stream {
        return Ok(stream(call, &id, &answers, usage));
    }
    let choices: Vec<Choice> = answers
        .iter()
        .enumerate()
        .map(|(index, answer)| Choice {
            text: answer.text(),
            index,
            logprobs: None,
            finish_reason: Some(answer.finish_reason()),
        })
        .collect();
    Ok(whole(&Completion {
        id: &id,
        object: "text_completion",
        created: 0,
        model: call.model,
        choices: &choices,
        usage: Some(Some(usage)),
    }))
}

fn stream(call: &Call<'_>, id: &str, answers: &[Answer<'_>], usage: Usage) -> EchoAnswer {
    let asked = call.peeked.include_usage;
    let mut script = Script::default();
    let mut chunk = |choices: &[Choice], usage: Option<Usage>| {
        let usage = asked.then_some(usage);
        script.data(&Completion {
            id,
            object: "text_completion",
            created: 0,
            model: call.model,
            choices,
            usage,
        });
    };
    for (index, answer) in answers.iter().enumerate() {
        for text in answer.pieces() {
            chunk(
                &[Choice {
                    text,
                    index,
                    logprobs: None,
                    finish_reason: None,
                }],
                None,
            );
        }
        chunk(
            &[Choice {
                text: String::new(),
                index,
                logprobs: None,
                finish_reason: Some(answer.finish_reason()),
            }],
            None,
        );
    }
    if asked {
        chunk(&[], Some(usage));
    }
    script.done();
    script.play(call)
}

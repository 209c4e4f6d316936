//! The conversation so far, and one turn of it over `/v1/chat/completions`.

use std::io::{self, IsTerminal};

use http::Method;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::stream::{self, Delta};
use crate::args::ChatArgs;
use crate::client::{Call, Client, ClientError};
use crate::console;
use crate::exit::Failure;

const ACT: &str = "no answer";
const TARGET: &str = "/v1/chat/completions";

/// Everything that has been said, and to whom.
pub(super) struct Conversation {
    client: Client,
    /// The request without its messages.
    request: Value,
    messages: Vec<Value>,
    streams: bool,
    /// Whether somebody looks at the answer: then nothing in it may move the cursor.
    to_terminal: bool,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The model had said everything.
    Whole,
    /// Somebody had heard enough.
    Interrupted,
}

impl Conversation {
    pub(super) fn new(client: Client, args: &ChatArgs) -> Self {
        let mut request = json!({"model": args.model});
        if let Some(max) = args.max_tokens {
            request["max_tokens"] = json!(max);
        }
        if let Some(temperature) = args.temperature {
            request["temperature"] = json!(temperature);
        }
        if !args.no_stream {
            request["stream"] = Value::Bool(true);
        }
        let system = args.system.as_ref().map(|text| json!({"role": "system", "content": text}));
        Self {
            client,
            request,
            messages: system.into_iter().collect(),
            streams: !args.no_stream,
            to_terminal: io::stdout().is_terminal(),
        }
    }

    /// Says `message`, prints the answer, and remembers both; of an answer that broke off or was interrupted, what came of it.
    pub(super) async fn say(&mut self, message: &str, interrupted: impl Future<Output = ()>) -> Result<Ended, Failure> {
        self.messages.push(json!({"role": "user", "content": message}));
        let mut answer = String::new();
        let ended = tokio::select! {
            ended = self.answer(&mut answer) => ended.map(|()| Ended::Whole),
            () = interrupted => Ok(Ended::Interrupted),
        };
        if !answer.is_empty() && !answer.ends_with('\n') {
            console::print("\n")?;
        }
        if answer.is_empty() {
            // What got no answer is not a part of the conversation: asked again it would stand there twice.
            self.messages.pop();
        } else {
            self.messages.push(json!({"role": "assistant", "content": answer}));
        }
        ended
    }

    async fn answer(&self, answer: &mut String) -> Result<(), Failure> {
        let mut request = self.request.clone();
        request["messages"] = Value::Array(self.messages.clone());
        let mut call = Call::new(Method::POST, TARGET).with_body(&request);
        if !self.streams {
            let document = self.client.send(&call).await.map_err(|error| self.failed(&error))?;
            return self.whole(document.text(), answer);
        }
        call.accept = "text/event-stream, application/json";
        let response = self.client.open(&call).await.map_err(|error| self.failed(&error))?;
        let media_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if !media_type.starts_with("text/event-stream") {
            let document = self.client.finish(response).await.map_err(|error| self.failed(&error))?;
            return self.whole(document.text(), answer);
        }
        let mut deltas = stream::Deltas::new(response.into_body());
        loop {
            let next = tokio::time::timeout(self.client.timeout(), deltas.next());
            match next.await.map_err(|_| self.failed(&self.client.slow()))? {
                Delta::Text(text) => self.print(&text, answer)?,
                Delta::End => return Ok(()),
                Delta::Error { message, code } => return Err(stream::failure(&message, code.as_deref())),
                Delta::Cut => return Err(self.failed(&self.client.cut())),
            }
        }
    }

    /// An answer that came as one document.
    fn whole(&self, document: &str, answer: &mut String) -> Result<(), Failure> {
        let document: Value = serde_json::from_str(document).unwrap_or_default();
        match stream::text_of(&document["choices"][0]["message"]) {
            Some(text) => self.print(text, answer),
            None => Err(Failure::new(format_args!(
                "{ACT}: what {} answered is no chat completion: check {}",
                self.client.base(),
                self.client.remedies().address
            ))),
        }
    }

    fn print(&self, text: &str, answer: &mut String) -> Result<(), Failure> {
        answer.push_str(text);
        if self.to_terminal {
            let harmless = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
            console::print(&text.chars().filter(harmless).collect::<String>())
        } else {
            console::print(text)
        }
    }

    fn failed(&self, error: &ClientError) -> Failure {
        error.failure(ACT, self.client.remedies())
    }
}

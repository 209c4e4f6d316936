//! Reads what Echo needs of a request: the words in it. It builds no value of what it does not need.

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::words;
use crate::ApiError;

/// The most inputs or prompts in one request, as with OpenAI's embeddings.
const MOST_TEXTS: usize = 2048;

/// A conversation as far as Echo follows it.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// The last text of the user.
    pub(super) last_user_text: String,
    /// Words in all texts.
    pub(super) tokens: u64,
}

/// A text input, or token ids written out as words.
#[derive(Debug)]
pub(super) struct Text(pub(super) String);

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    role: Option<String>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
}

/// Reads the body into a request's fields.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!(
            "Echo cannot read the request body: it breaks at line {}, column {}.",
            error.line(),
            error.column()
        );
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message)
    })
}

/// The parameter's value, which must be there.
pub(super) fn required<'a>(value: Option<&'a RawValue>, name: &'static str) -> Result<&'a RawValue, ApiError> {
    value.filter(|value| value.get() != "null").ok_or_else(|| {
        let message = format!("The parameter \"{name}\" is missing: add it to the body.");
        ApiError::bad_request("missing_required_parameter", name, message)
    })
}

impl Conversation {
    /// Reads `messages` of chat completions or an array of `input` items of responses; items that are no messages are passed over.
    pub(super) fn read(messages: &RawValue, name: &'static str) -> Result<Self, ApiError> {
        let wrong = || {
            ApiError::bad_request(
                "invalid_type",
                name,
                format!("The parameter \"{name}\" must be an array of messages with role and content."),
            )
        };
        let messages: Vec<Message<'_>> = serde_json::from_str(messages.get()).map_err(|_| wrong())?;
        let mut conversation = Self::default();
        for message in messages {
            let text = match message.content {
                Some(content) => content_text(content).ok_or_else(wrong)?,
                None => String::new(),
            };
            conversation.tokens += words::count(&text);
            if message.role.as_deref() == Some("user") {
                conversation.last_user_text = text;
            }
        }
        Ok(conversation)
    }
}

/// The text of a content: a string, or the texts among its parts, with a space between two.
fn content_text(content: &RawValue) -> Option<String> {
    match content.get().as_bytes().first()? {
        b'"' => serde_json::from_str(content.get()).ok(),
        b'[' => {
            let parts: Vec<Part> = serde_json::from_str(content.get()).ok()?;
            Some(parts.into_iter().filter_map(|part| part.text).collect::<Vec<_>>().join(" "))
        }
        b'n' => Some(String::new()),
        _ => None,
    }
}

impl Text {
    /// Reads what embeddings take as `input` and completions as `prompt`: a string, strings, token ids, or lists of token ids.
    pub(super) fn read_all(value: &RawValue, name: &'static str) -> Result<Vec<Self>, ApiError> {
        let text = value.get();
        let ids = |ids: Vec<u64>| Self(ids.iter().map(u64::to_string).collect::<Vec<_>>().join(" "));
        let texts: Vec<Self> = if let Ok(one) = serde_json::from_str(text) {
            vec![Self(one)]
        } else if let Ok(many) = serde_json::from_str::<Vec<String>>(text) {
            many.into_iter().map(Self).collect()
        } else if let Ok(one) = serde_json::from_str::<Vec<u64>>(text) {
            vec![ids(one)]
        } else if let Ok(many) = serde_json::from_str::<Vec<Vec<u64>>>(text) {
            many.into_iter().map(ids).collect()
        } else {
            let message = format!("The parameter \"{name}\" must be a string, an array of strings, or arrays of token ids.");
            return Err(ApiError::bad_request("invalid_type", name, message));
        };
        if texts.is_empty() || texts.len() > MOST_TEXTS {
            let message = format!("The parameter \"{name}\" must hold 1 to {MOST_TEXTS} texts.");
            return Err(ApiError::bad_request("invalid_value", name, message));
        }
        Ok(texts)
    }
}

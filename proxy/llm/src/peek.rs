//! The body peek: what the proxy must know of a JSON request, read from its raw bytes in one walk (contracts.md §8).
//! It refuses to know the endpoint, and it judges no value that it does not need: those are the provider's affair.

use std::borrow::Cow;
use std::ops::Range;

use crate::ApiError;
use crate::scan::{Cursor, Fault, MAX_DEPTH, unescape};

/// What the proxy must know of a request's body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek<'a> {
    /// `model`; absent if it is null. Borrowed from the body unless it is written with escapes.
    pub model: Option<Cow<'a, str>>,
    /// `stream`; absent and null are false.
    pub stream: bool,
    /// The largest of `max_tokens`, `max_completion_tokens` and `max_output_tokens`, in tokens: a fraction is rounded up, what exceeds `u64`
    /// becomes its maximum. Absent if negative, which some servers read as "no limit".
    pub max_tokens: Option<u64>,
    /// Whether `stream_options.include_usage` is true.
    pub include_usage: bool,
    /// Whether there is a `prompt` that is not null.
    pub has_prompt: bool,
    /// Where the body could be edited.
    pub splice: Splice,
}

/// Byte offsets at which `stream_options.include_usage` can be set without touching anything else of the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splice {
    /// The offset behind the body's opening brace.
    pub open: usize,
    /// Where the value of `stream_options` lies: an object or null.
    pub stream_options: Option<Range<usize>>,
    /// Where the value of `include_usage` lies in it.
    pub include_usage: Option<Range<usize>>,
}

/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeekError {
    /// The body is not UTF-8.
    NotUtf8,
    /// The body is not JSON.
    NotJson {
        /// The byte at which it stops being JSON.
        offset: usize,
    },
    /// The body is JSON perhaps, but no object.
    NotAnObject,
    /// The body nests deeper than 128 levels.
    TooDeep,
    /// A watched parameter stands twice: proxy and provider might each believe another one.
    Duplicate {
        /// The parameter.
        name: &'static str,
    },
    /// A watched parameter has a value of the wrong type.
    WrongType {
        /// The parameter.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

impl Peek<'_> {
    /// The same, borrowing nothing from the body.
    #[must_use]
    pub fn into_owned(self) -> Peek<'static> {
        Peek {
            model: self.model.map(|model| Cow::Owned(model.into_owned())),
            ..self
        }
    }
}

impl PeekError {
    /// The error object's `code`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotUtf8 | Self::NotJson { .. } | Self::NotAnObject | Self::TooDeep => "invalid_json",
            Self::Duplicate { .. } => "duplicate_parameter",
            Self::WrongType { .. } => "invalid_type",
        }
    }

    /// The parameter that is to blame.
    #[must_use]
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Self::NotUtf8 | Self::NotJson { .. } | Self::NotAnObject | Self::TooDeep => None,
            Self::Duplicate { name } | Self::WrongType { name, .. } => Some(name),
        }
    }

    /// What is wrong and what to do. Nothing of the body is repeated.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::NotUtf8 => "The request body is not UTF-8: send JSON in UTF-8.".into(),
            Self::NotJson { offset } => format!("The request body is not valid JSON: it breaks at byte {offset}."),
            Self::NotAnObject => "The request body is not a JSON object: send the parameters as one object.".into(),
            Self::TooDeep => format!("The request body nests deeper than {MAX_DEPTH} levels: flatten it."),
            Self::Duplicate { name } => format!("The parameter \"{name}\" stands in the body more than once: send it once."),
            Self::WrongType { name, expected } => format!("The parameter \"{name}\" must be {expected}."),
        }
    }

    /// The refusal as a 400.
    #[must_use]
    pub fn to_api_error(&self) -> ApiError {
        ApiError {
            param: self.param(),
            ..ApiError::new(http::StatusCode::BAD_REQUEST, self.code(), self.message())
        }
    }
}

impl std::fmt::Display for PeekError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for PeekError {}

impl From<Fault> for PeekError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Syntax(offset) => Self::NotJson { offset },
            Fault::TooDeep => Self::TooDeep,
        }
    }
}

/// The parameters that are read, in the order of the bits that note which have been seen.
const WATCHED: [&str; 7] = [
    "model",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "stream_options",
    "prompt",
];
const PROMPT: &str = "prompt";
const INCLUDE_USAGE: &str = "stream_options.include_usage";

/// Reads a request's body.
///
/// Checked: UTF-8, exactly one object with nothing but white space around it, members well formed, strings and brackets balanced, nesting ≤ 128
/// levels. Not checked: numbers, literals, escapes and commas inside values. Names are compared at the top level only, after unescaping and
/// without regard to ASCII case.
///
/// # Errors
/// A [`PeekError`]; the first one met counts.
pub fn peek(body: &[u8]) -> Result<Peek<'_>, PeekError> {
    let text = str::from_utf8(body).map_err(|_| PeekError::NotUtf8)?;
    let mut cursor = Cursor::new(text);
    match cursor.next_token() {
        Some(b'{') => {}
        Some(b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => return Err(PeekError::NotAnObject),
        _ => return Err(cursor.fault().into()),
    }
    let mut peek = Peek {
        splice: Splice {
            open: cursor.offset() + 1,
            ..Splice::default()
        },
        ..Peek::default()
    };
    let mut seen = 0u8;
    cursor.object(|cursor, key| {
        let Some(index) = watched(&key.name()?) else {
            cursor.value(1)?;
            return Ok(());
        };
        let name = WATCHED[index];
        // A second `prompt` decides nothing here, so it is the provider's affair.
        if seen & 1 << index != 0 && name != PROMPT {
            return Err(PeekError::Duplicate { name });
        }
        seen |= 1 << index;
        read(&mut peek, name, cursor)
    })?;
    match cursor.next_token() {
        None => Ok(peek),
        Some(_) => Err(cursor.fault().into()),
    }
}

fn watched(name: &str) -> Option<usize> {
    WATCHED.iter().position(|watched| watched.eq_ignore_ascii_case(name))
}

/// Reads the value of a watched parameter; the cursor stands on it.
fn read<'a>(peek: &mut Peek<'a>, name: &'static str, cursor: &mut Cursor<'a>) -> Result<(), PeekError> {
    if name == "stream_options" && cursor.next_token() == Some(b'{') {
        let start = cursor.offset();
        read_stream_options(peek, cursor)?;
        peek.splice.stream_options = Some(start..cursor.offset());
        return Ok(());
    }
    let range = cursor.value(1)?;
    let value = cursor.slice(&range);
    if value == "null" {
        if name == "stream_options" {
            peek.splice.stream_options = Some(range);
        }
        return Ok(());
    }
    let wrong = |expected| PeekError::WrongType { name, expected };
    match name {
        "model" => {
            let raw = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .ok_or(wrong("a string"))?;
            peek.model = Some(unescape(raw, range.start + 1)?);
        }
        "stream" => peek.stream = value.parse().map_err(|_| wrong("a boolean"))?,
        "stream_options" => return Err(wrong("an object")),
        PROMPT => peek.has_prompt = true,
        _ => peek.max_tokens = peek.max_tokens.max(count(value).map_err(|NotANumber| wrong("an integer"))?),
    }
    Ok(())
}

/// Of the members of `stream_options` only `include_usage` is watched, like the names around it; the others are the provider's affair.
fn read_stream_options<'a>(peek: &mut Peek<'a>, cursor: &mut Cursor<'a>) -> Result<(), PeekError> {
    cursor.object(|cursor, key| {
        let is_include_usage = key.name()?.eq_ignore_ascii_case("include_usage");
        let range = cursor.value(2)?;
        if is_include_usage {
            if peek.splice.include_usage.is_some() {
                return Err(PeekError::Duplicate { name: INCLUDE_USAGE });
            }
            peek.include_usage = cursor.slice(&range) == "true";
            peek.splice.include_usage = Some(range);
        }
        Ok(())
    })
}

struct NotANumber;

fn count(value: &str) -> Result<Option<u64>, NotANumber> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(NotANumber);
    }
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Some(value.parse().unwrap_or(u64::MAX)));
    }
    let number: f64 = value.parse().map_err(|_| NotANumber)?;
    Ok((number >= 0.0).then_some(number.ceil() as u64)) // `as` saturates
}

#[cfg(test)]
mod tests;

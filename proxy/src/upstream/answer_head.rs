//! The head of a provider's answer, from its bytes: status, the headers that travel on, and how the body is framed. What would let two readers
//! disagree on where an answer ends is refused (RFC 9112 §6.3, §11.1).

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use httparse::{Header, ParserConfig, Response, Status};
use memchr::memchr;

use super::answer_body::Framing;
use super::chunked::Chunked;
use crate::headers::{Hop, X_REQUEST_ID, X_UPSTREAM_REQUEST_ID, travels_to_client};

/// The largest head, in bytes.
pub(super) const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 128;

/// The head of an answer, interim or final.
#[derive(Debug)]
pub(super) struct AnswerHead {
    pub(super) status: StatusCode,
    /// Fit for the client. The provider's request id has made room for ours.
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    /// The connection can carry another request once the body has been read.
    pub(super) persistent: bool,
}

/// Why it is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("the answer is not HTTP/1: {0}")]
    NotHttp(httparse::Error),
    #[error("the answer's head ends before its lines do")]
    Cut,
    #[error("the answer's head is larger than {MAX_HEAD} bytes")]
    TooLarge,
    #[error("the answer's status is none")]
    NoStatus,
    #[error("the answer has a header that is none")]
    NoHeader,
    #[error("the answer says twice how long it is")]
    TwoLengths,
    #[error("the answer's length is no number")]
    NoLength,
    #[error("the answer's transfer coding is not chunked")]
    Coding,
}

/// Finds the end of a head that comes in pieces, and looks at each byte once.
#[derive(Default)]
pub(super) struct HeadEnd {
    /// Where the line begins that is not complete yet.
    line: usize,
}

impl HeadEnd {
    /// The length of the head that `input` begins with, its empty line included.
    pub(super) fn find(&mut self, input: &[u8]) -> Result<Option<usize>, BadHead> {
        let mut found = None;
        while let Some(length) = memchr(b'\n', &input[self.line..]) {
            let line = &input[self.line..self.line + length];
            self.line += length + 1;
            if matches!(line, b"" | b"\r") {
                found = Some(self.line);
                break;
            }
        }
        if found.unwrap_or(input.len()) > MAX_HEAD {
            return Err(BadHead::TooLarge);
        }
        Ok(found)
    }
}

impl AnswerHead {
    /// Takes the head of `length` bytes off `input`. The answer is one to a request with this method.
    pub(super) fn take(input: &mut BytesMut, length: usize, asked: &Method) -> Result<Self, BadHead> {
        Self::parse(&input.split_to(length).freeze(), asked)
    }

    fn parse(head: &Bytes, asked: &Method) -> Result<Self, BadHead> {
        let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_HEADERS];
        let mut parsed = Response::new(&mut []);
        match ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head, &mut slots) {
            Ok(Status::Complete(length)) if length == head.len() => {}
            Ok(Status::Complete(_) | Status::Partial) => return Err(BadHead::Cut),
            Err(error) => return Err(BadHead::NotHttp(error)),
        }
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(BadHead::NoStatus)?;
        let is_latest = parsed.version == Some(1);
        let hop = Hop::of(values(parsed.headers, "connection"));
        Ok(Self {
            status,
            framing: framing(parsed.headers, status, asked, is_latest)?,
            persistent: is_latest && !hop.closes(),
            headers: headers_of(parsed.headers, &hop, head)?,
        })
    }
}

fn values<'h>(headers: &'h [Header<'_>], name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

/// What travels on, as slices of the head.
fn headers_of(parsed: &[Header<'_>], hop: &Hop<'_>, head: &Bytes) -> Result<HeaderMap, BadHead> {
    let mut headers = HeaderMap::with_capacity(parsed.len() + 2); // ours: the request id, and the server's date
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| BadHead::NoHeader)?;
        if !travels_to_client(name.as_str()) || hop.names(&name) {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(head.slice_ref(header.value)).map_err(|_| BadHead::NoHeader)?;
        if name == X_REQUEST_ID {
            headers.insert(X_UPSTREAM_REQUEST_ID, value);
        } else {
            headers.append(name, value);
        }
    }
    Ok(headers)
}

/// RFC 9112 §6.3, and stricter: a length beside a coding, two lengths and codings below the chunked one are refused.
fn framing(headers: &[Header<'_>], status: StatusCode, asked: &Method, is_latest: bool) -> Result<Framing, BadHead> {
    let (mut lengths, mut codings) = (values(headers, "content-length"), values(headers, "transfer-encoding"));
    let (length, coding) = (lengths.next(), codings.next());
    if lengths.next().is_some() || (length.is_some() && coding.is_some()) {
        return Err(BadHead::TwoLengths);
    }
    let framing = match (length, coding) {
        (_, Some(coding)) if is_latest && codings.next().is_none() && coding.trim_ascii().eq_ignore_ascii_case(b"chunked") => {
            Framing::Chunked(Chunked::new())
        }
        (_, Some(_)) => return Err(BadHead::Coding),
        (Some(length), None) => Framing::Length(number(length.trim_ascii())?),
        (None, None) => Framing::UntilClose,
    };
    let has_no_body = *asked == Method::HEAD || status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(if has_no_body { Framing::Length(0) } else { framing })
}

fn number(digits: &[u8]) -> Result<u64, BadHead> {
    if digits.is_empty() {
        return Err(BadHead::NoLength);
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0')).ok_or(BadHead::NoLength)?;
        number
            .checked_mul(10)
            .and_then(|number| number.checked_add(digit))
            .ok_or(BadHead::NoLength)
    })
}

#[cfg(test)]
mod tests;

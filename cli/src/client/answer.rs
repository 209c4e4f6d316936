//! The whole answer to a call: bounded, and either what was asked for or an error that says what came instead.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::address::BaseUrl;
use super::error::ClientError;

/// The largest answer that is read.
const MAX_MIB: usize = 32;
/// The longest text of a server that is shown.
const MAX_MESSAGE: usize = 500;

/// An answer that is read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// Reads the body.
    pub(super) async fn read(response: Response<Incoming>, base: &BaseUrl) -> Result<Self, ClientError> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_MIB << 20).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                let base = base.to_string();
                return ClientError::TooLarge { base, limit_mib: MAX_MIB };
            }
            ClientError::cut(base, &*error)
        })?;
        Ok(Self {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    /// Itself if it is a success that the API could have given: JSON, or nothing.
    pub(super) fn checked(self, base: &BaseUrl) -> Result<Self, ClientError> {
        if !self.status.is_success() {
            return Err(self.refusal(base));
        }
        if !self.body.is_empty() && serde_json::from_slice::<serde::de::IgnoredAny>(&self.body).is_err() {
            return Err(self.foreign(base));
        }
        Ok(self)
    }

    /// What an answer that is no success says.
    pub(super) fn refusal(&self, base: &BaseUrl) -> ClientError {
        if self.status.is_redirection() {
            let to = self.header(&LOCATION).map_or_else(|| "another place".to_owned(), printable);
            let base = base.to_string();
            return ClientError::Redirected { base, to };
        }
        let (message, code) = match serde_json::from_slice::<Value>(&self.body) {
            Ok(body) => match message_of(&body) {
                Some(found) => found,
                None => return self.foreign(base),
            },
            // A bare status, or the ancestor's plain texts.
            Err(_) if self.body.is_empty() => (self.status.canonical_reason().unwrap_or("no reason given").to_lowercase(), None),
            Err(_) if self.media_type() == "text/plain" => (printable(&String::from_utf8_lossy(&self.body)), None),
            Err(_) => return self.foreign(base),
        };
        ClientError::Refused {
            status: self.status,
            message,
            code,
            retry_after: self.header(&RETRY_AFTER).and_then(|seconds| seconds.trim().parse().ok()),
        }
    }

    fn foreign(&self, base: &BaseUrl) -> ClientError {
        let what = match self.media_type() {
            "text/html" => "a web page".to_owned(),
            "" => "something".to_owned(),
            "application/json" => "broken or unknown JSON".to_owned(),
            other => printable(other),
        };
        ClientError::Foreign {
            base: base.to_string(),
            status: self.status,
            what,
        }
    }

    fn media_type(&self) -> &str {
        let value = self.header(&CONTENT_TYPE).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim()
    }

    /// A header's text.
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The document as the server wrote it; empty if there is none.
    pub(crate) fn text(&self) -> &str {
        // What was checked to be JSON is UTF-8.
        std::str::from_utf8(&self.body).unwrap_or_default()
    }
}

/// Message and code of an error body: `{"error": text, "code": text}` on `/manage`, `{"error": {"message", "code"}}` on `/v1`.
pub(crate) fn message_of(body: &Value) -> Option<(String, Option<String>)> {
    let error = body.get("error")?;
    let (message, code) = match error {
        Value::String(message) => (message.as_str(), body.get("code")),
        Value::Object(error) => (error.get("message")?.as_str()?, error.get("code")),
        _ => return None,
    };
    let code = code.and_then(Value::as_str).filter(|code| !code.is_empty()).map(printable);
    Some((printable(message), code))
}

/// A server's text on one line, without what would move a terminal's cursor, and not endless.
pub(crate) fn printable(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = line.char_indices().nth(MAX_MESSAGE) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Kind;
    use serde_json::json;

    fn answer(status: u16, content_type: &'static str, body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
        }
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn line(answer: Answer) -> (String, Kind) {
        let base = BaseUrl::parse("http://localhost:8080").unwrap();
        let remedies = super::super::Remedies {
            address: "--base-url (PROXY_URL)",
            credential: "--token (PROXY_TOKEN)",
        };
        let error = answer.checked(&base).unwrap_err();
        (error.failure("cannot do it", remedies).report(), error.kind())
    }

    #[test]
    fn errors_of_both_apis_and_of_the_ancestor_are_told_in_one_line() {
        let json = "application/json";
        let cases = [
            (
                answer(404, json, r#"{"error":"project not found.","code":"project_not_found"}"#),
                "HTTP 404: project not found (project_not_found)",
                Kind::NotFound,
            ),
            (
                answer(429, json, r#"{"error":{"message":"spent","type":"x","code":"rate_limit_exceeded"}}"#),
                "HTTP 429: spent (rate_limit_exceeded)",
                Kind::Other,
            ),
            (
                answer(401, "text/plain; charset=utf-8", "{\"error\":\"invalid management token\"}\n"),
                "HTTP 401: invalid management token: check --token (PROXY_TOKEN)",
                Kind::Authentication,
            ),
            (
                answer(405, "text/plain", "method not allowed\n"),
                "HTTP 405: method not allowed",
                Kind::Other,
            ),
            (answer(503, "", ""), "HTTP 503: service unavailable", Kind::Other),
            (
                answer(500, json, r#"{"error":"boom"}"#),
                "HTTP 500: boom: see the server's log",
                Kind::Other,
            ),
            (answer(504, json, r#"{"error":"slow"}"#), "HTTP 504: slow", Kind::Timeout),
        ];
        for (answer, expected, kind) in cases {
            assert_eq!(line(answer), (format!("error: cannot do it: {expected}\n"), kind));
        }
    }

    #[test]
    fn when_to_try_again_is_said_once() {
        let with = |message: &str| {
            let mut answer = answer(429, "application/json", &format!(r#"{{"error":"{message}"}}"#));
            answer.headers.insert(RETRY_AFTER, http::HeaderValue::from_static("7"));
            line(answer).0
        };
        assert_eq!(with("too many"), "error: cannot do it: HTTP 429: too many: try again in 7 s\n");
        assert_eq!(
            with("Too many: try again in 7 s."),
            "error: cannot do it: HTTP 429: Too many: try again in 7 s\n"
        );
    }

    #[test]
    fn what_is_no_answer_of_the_api_is_told_as_such() {
        let page = "http://localhost:8080 answered 200 with a web page instead of JSON: check --base-url (PROXY_URL)";
        assert_eq!(
            line(answer(200, "text/html; charset=utf-8", "<html>")),
            (format!("error: cannot do it: {page}\n"), Kind::Other)
        );
        assert_eq!(line(answer(404, "text/html", "<html>")).1, Kind::Other);
        assert_eq!(line(answer(403, "text/html", "<html>")).1, Kind::Authentication);
        assert!(line(answer(200, "application/json", "{\"a\":")).0.contains("broken or unknown JSON"));
        assert!(line(answer(500, "application/json", "[]")).0.contains("broken or unknown JSON"));
        assert!(line(answer(302, "", "")).0.contains("redirects to another place"));
    }

    #[test]
    fn a_servers_text_cannot_move_the_cursor_or_fill_the_screen() {
        let (message, _) = message_of(&json!({"error": "a\u{1b}[2Jb\r\nc"})).unwrap();
        assert_eq!(message, "a [2Jb c");
        assert_eq!(printable(&"x".repeat(9999)).chars().count(), MAX_MESSAGE + 1);
    }
}

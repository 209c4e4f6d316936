//! Calls of the management API: one document, or a list page by page. It refuses to know what the documents say.

use std::collections::HashSet;

use http::Method;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::client::{Answer, Call, Client, ClientError, segment};
use crate::exit::Failure;

/// How many pages a list may have before it is taken for endless.
const MAX_PAGES: usize = 10_000;

/// The management API of one server.
pub(super) struct Api {
    client: Client,
}

impl Api {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// One call; `act` is what it is for, such as `cannot create the project`.
    pub(super) async fn call(&self, method: Method, target: &str, body: Option<&Value>, act: &str) -> Result<Answer, Failure> {
        self.try_call(method, target, body).await.map_err(|error| self.failed(&error, act))
    }

    /// The same for who wants to look at the error first.
    pub(super) async fn try_call(&self, method: Method, target: &str, body: Option<&Value>) -> Result<Answer, ClientError> {
        let call = Call::new(method, target);
        let call = match body {
            Some(body) => call.with_body(body),
            None => call,
        };
        self.client.send(&call).await
    }

    /// The line for an error.
    pub(super) fn failed(&self, error: &ClientError, act: &str) -> Failure {
        error.failure(act, self.client.remedies())
    }

    /// All documents of a list, each as the server wrote it, following `X-Next-Cursor` or a `Link` with rel=next.
    pub(super) async fn list(&self, path: &str, query: &[(&str, String)], act: &str) -> Result<Vec<String>, Failure> {
        let mut documents = Vec::new();
        let mut seen = HashSet::new();
        let first = with_query(path, query.iter().map(|(name, value)| (*name, value.as_str())));
        let mut next = Some(first);
        while let Some(target) = next {
            if seen.len() >= MAX_PAGES || !seen.insert(target.clone()) {
                return Err(Failure::new(format_args!(
                    "{act}: the pages of the list go in a circle: what answers at {} is not the management API",
                    self.client.base()
                )));
            }
            let answer = self.call(Method::GET, &target, None, act).await?;
            let page: Vec<&RawValue> = serde_json::from_str(answer.text()).map_err(|_| {
                Failure::new(format_args!(
                    "{act}: {} answered with something else than a list: check {}",
                    self.client.base(),
                    self.client.remedies().address
                ))
            })?;
            documents.extend(page.iter().map(|document| document.get().to_owned()));
            next = self.next(&answer, path, query, act)?;
        }
        Ok(documents)
    }

    fn next(&self, answer: &Answer, path: &str, query: &[(&str, String)], act: &str) -> Result<Option<String>, Failure> {
        if let Some(cursor) = answer.header("x-next-cursor").filter(|cursor| !cursor.is_empty()) {
            let query = query.iter().map(|(name, value)| (*name, value.as_str()));
            return Ok(Some(with_query(path, query.chain([("cursor", cursor)]))));
        }
        let Some(link) = answer.header("link").and_then(next_link) else {
            return Ok(None);
        };
        // The management token goes to the server that it was given for, and to no other.
        self.client.base().target_of(link).map(Some).ok_or_else(|| {
            Failure::new(format_args!(
                "{act}: the list of {} goes on at another server: not followed",
                self.client.base()
            ))
        })
    }
}

/// A path with a query whose values are escaped.
pub(super) fn with_query<'a>(path: &str, query: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> = query.map(|(name, value)| format!("{name}={}", segment(value))).collect();
    if pairs.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", pairs.join("&"))
    }
}

/// The target of rel=next (RFC 8288).
fn next_link(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let Some((name, value)) = parameter.split_once('=') else {
                return false;
            };
            name.trim().eq_ignore_ascii_case("rel")
                && value
                    .trim()
                    .trim_matches('"')
                    .split_whitespace()
                    .any(|rel| rel.eq_ignore_ascii_case("next"))
        });
        is_next.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_other_links() {
        assert_eq!(next_link(r#"</a?x=1>; rel="prev", </b?cursor=2>; rel="next""#), Some("/b?cursor=2"));
        assert_eq!(next_link("</b>; REL=next"), Some("/b"));
        assert_eq!(next_link(r#"</b>; rel="nextish""#), None);
        assert_eq!(next_link("nonsense"), None);
    }

    #[test]
    fn values_of_a_query_are_escaped() {
        assert_eq!(with_query("/p", [("a", "x&y"), ("b", "1")].into_iter()), "/p?a=x%26y&b=1");
        assert_eq!(with_query("/p", [].into_iter()), "/p");
    }
}

//! Pages of lists: how many items, after which one, and where the next page is.

use api::MAX_PAGE;
use axum::response::Response;
use http::header::LINK;
use http::{HeaderName, HeaderValue, Uri};
use serde::Serialize;

use super::act::show;
use super::problem::Problem;
use super::query::Query;

const X_NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");

/// How many items are wanted.
pub(super) fn limit(query: &Query) -> Result<u64, Problem> {
    Ok(query.number("limit", 1, MAX_PAGE)?.unwrap_or(MAX_PAGE))
}

/// A list that was read with one item more than wanted: that one says whether there is another page. `cursor` names the last item shown.
pub(super) fn list<T: Serialize>(uri: &Uri, limit: u64, mut items: Vec<T>, cursor: impl Fn(&T) -> String) -> Response {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let mut response = show(None, &items);
    if let Some(last) = items.last().filter(|_| more) {
        let cursor = cursor(last);
        let rest = uri
            .query()
            .unwrap_or("")
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
        let query: Vec<_> = rest.map(str::to_owned).chain([format!("cursor={cursor}")]).collect();
        let link = format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"));
        for (name, value) in [(LINK, link), (X_NEXT_CURSOR, cursor)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_not_the_last_links_to_the_next_with_the_same_filters() {
        let uri: Uri = "/manage/tokens?cursor=old&limit=2&active_only=true".parse().unwrap();
        let response = list(&uri, 2, vec!["a", "b", "c"], |item| format!("id-{item}"));
        assert_eq!(
            response.headers()[LINK],
            "</manage/tokens?limit=2&active_only=true&cursor=id-b>; rel=\"next\""
        );
        assert_eq!(response.headers()[X_NEXT_CURSOR], "id-b");
        let response = list(&uri, 3, vec!["a", "b", "c"], |item| (*item).to_owned());
        assert!(!response.headers().contains_key(LINK) && !response.headers().contains_key(X_NEXT_CURSOR));
    }
}

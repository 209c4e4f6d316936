//! Which path and method goes to which handler, and what each is called in logs and in the audit.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{Method, Uri};

use super::act::Context;
use super::problem::Problem;
use super::{audit, openapi, projects, tokens, usage};

/// The only path that is open to everybody.
pub(super) const OPENAPI: &str = "/manage/openapi.json";

pub(super) fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route(OPENAPI, get(openapi::get))
        .route("/manage/projects", get(projects::list).post(projects::create))
        .route("/manage/projects/{id}", get(projects::get).patch(projects::update))
        .route("/manage/projects/{id}/tokens/revoke", post(projects::revoke_tokens))
        .route("/manage/tokens", get(tokens::list).post(tokens::create))
        .route("/manage/tokens/{id}", get(tokens::get).patch(tokens::update).delete(tokens::revoke))
        .route("/manage/usage", get(usage::list))
        .route("/manage/audit", get(audit::list))
        .route("/manage/audit/verify", get(audit::verify))
        .route("/manage/audit/{id}", get(audit::get))
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(wrong_method)
        .with_state(context)
}

/// The router adds what the path takes.
async fn wrong_method(method: Method, uri: Uri) -> Response {
    if method == Method::DELETE && template(uri.path()) == "/manage/projects/{id}" {
        projects::deletion_not_permitted()
    } else {
        Problem::method_not_allowed().into_response()
    }
}

/// A path as logs may show it: an id in it may be a token's value.
pub(super) fn template(path: &str) -> &'static str {
    let segments: Vec<_> = path.split('/').skip(2).collect();
    match segments.as_slice() {
        ["openapi.json"] => OPENAPI,
        ["projects"] => "/manage/projects",
        ["projects", _] => "/manage/projects/{id}",
        ["projects", _, "tokens", "revoke"] => "/manage/projects/{id}/tokens/revoke",
        ["tokens"] => "/manage/tokens",
        ["tokens", _] => "/manage/tokens/{id}",
        ["usage"] => "/manage/usage",
        ["audit"] => "/manage/audit",
        ["audit", "verify"] => "/manage/audit/verify",
        ["audit", _] => "/manage/audit/{id}",
        _ => "/manage",
    }
}

/// What a write is called in the audit; reads have no name.
pub(super) fn action(method: &Method, template: &str) -> Option<&'static str> {
    match (method.as_str(), template) {
        ("POST", "/manage/projects") => Some("project.create"),
        ("PATCH", "/manage/projects/{id}") => Some("project.update"),
        ("DELETE", "/manage/projects/{id}") => Some("project.delete"),
        ("POST", "/manage/projects/{id}/tokens/revoke") => Some("token.revoke_batch"),
        ("POST", "/manage/tokens") => Some("token.create"),
        ("PATCH", "/manage/tokens/{id}") => Some("token.update"),
        ("DELETE", "/manage/tokens/{id}") => Some("token.revoke"),
        _ => None,
    }
}

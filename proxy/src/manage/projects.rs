//! The handlers of projects.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use secrecy::SecretString;
use serde_json::json;
use store::{NewProject, ProjectPatch};

use super::act::{Context, answer, respond, show};
use super::fields::{Fields, invalid, is_key, is_name, is_provider, required};
use super::inbound::Inbound;
use super::problem::{Code, Problem};
use super::{page, wire};

pub(super) const NAME_FORM: &str = "without control characters and without white space at its ends";
const KEY_FORM: &str = "visible ASCII and not a masked key (no *, no ...)";

pub(super) async fn list(State(context): State<Arc<Context>>, inbound: Inbound) -> Result<Response, Problem> {
    let limit = page::limit(&inbound.query)?;
    let after = inbound.query.uuid("cursor")?.map(Into::into);
    let rows = context.fleet.managed_projects(after, limit + 1).await?;
    let projects: Vec<_> = rows.iter().map(wire::project).collect();
    Ok(page::list(&inbound.uri, limit, projects, |project| project.id.to_string()))
}

pub(super) async fn get(State(context): State<Arc<Context>>, inbound: Inbound) -> Result<Response, Problem> {
    let project = context.fleet.managed_project(inbound.project()?).await?;
    Ok(show(Some(project.version), &wire::project(&project)))
}

pub(super) async fn create(State(context): State<Arc<Context>>, inbound: Inbound) -> Result<Response, Problem> {
    let fields = inbound.fields()?;
    let new = NewProject {
        name: required("name", name(&fields)?)?.to_owned(),
        key: Some(required("api_key", key(&fields)?)?),
        provider: fields
            .text("provider", api::MAX_PROVIDER, "lower case letters, digits and inner hyphens", is_provider)?
            .map(str::to_owned),
    };
    let (act, _busy) = context.repeatable("project.create", &inbound)?;
    if let Some(kept) = context.fleet.kept_answer(&act).await? {
        return Ok(respond(&kept));
    }
    let created = context.fleet.create_project(&act, &new, |project| {
        answer(StatusCode::CREATED, Some(project.version), &wire::project(project))
    });
    Ok(respond(&created.await?))
}

pub(super) async fn update(State(context): State<Arc<Context>>, inbound: Inbound) -> Result<Response, Problem> {
    let id = inbound.project()?;
    let fields = inbound.fields()?;
    let active = fields.flag("is_active")?;
    let revoke_tokens = fields.flag("revoke_tokens")?;
    if revoke_tokens.is_some() && active != Some(false) {
        return Err(Problem::bad_request(
            "invalid_field",
            "`revoke_tokens` requires `is_active`: false in the same request.",
        ));
    }
    let patch = ProjectPatch {
        name: name(&fields)?.map(str::to_owned),
        key: key(&fields)?,
        active,
        revoke_tokens: revoke_tokens.unwrap_or(false),
    };
    let act = context.act("project.update", &inbound)?;
    let (project, changed) = context.fleet.change_project(&act, id, &patch).await?;
    if changed.is_none() {
        context.nothing_to_do("project.update", &inbound.caller);
    }
    Ok(show(Some(project.version), &wire::project(&project)))
}

pub(super) async fn revoke_tokens(State(context): State<Arc<Context>>, inbound: Inbound) -> Result<Response, Problem> {
    let id = inbound.project()?;
    let (act, _busy) = context.repeatable("token.revoke_batch", &inbound)?;
    if let Some(kept) = context.fleet.kept_answer(&act).await? {
        return Ok(respond(&kept));
    }
    let revoked = context.fleet.revoke_tokens_of(&act, id, |counts| {
        let body = api::RevokedTokens {
            revoked_count: counts.revoked,
            already_revoked_count: counts.already_revoked,
            total_tokens: counts.revoked + counts.already_revoked,
        };
        answer(StatusCode::OK, None, &body)
    });
    Ok(respond(&revoked.await?))
}

/// Projects are not deleted: what was booked on them stays readable. The body is what older clients know.
pub(super) fn deletion_not_permitted() -> Response {
    let body = json!({
        "error": "method not allowed",
        "message": "project deletion is not permitted",
        "code": "method_not_allowed",
    });
    let headers = [
        (ALLOW, HeaderValue::from_static("GET, PATCH")),
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
    ];
    let mut response = (StatusCode::METHOD_NOT_ALLOWED, headers, body.to_string()).into_response();
    response.extensions_mut().insert(Code("method_not_allowed"));
    response
}

fn name(fields: &Fields) -> Result<Option<&str>, Problem> {
    fields.text("name", api::MAX_NAME, NAME_FORM, is_name)
}

/// The provider's key, under either of its names.
fn key(fields: &Fields) -> Result<Option<SecretString>, Problem> {
    if fields.has("api_key") && fields.has("openai_api_key") {
        return Err(invalid("openai_api_key", "absent if `api_key` is there: it is its older name"));
    }
    let key = fields.text("api_key", api::MAX_PROVIDER_KEY, KEY_FORM, is_key)?;
    let key = match key {
        None => fields.text("openai_api_key", api::MAX_PROVIDER_KEY, KEY_FORM, is_key)?,
        key => key,
    };
    Ok(key.map(SecretString::from))
}

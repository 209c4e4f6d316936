//! The handlers of tokens.

use std::sync::Arc;

use api::{MAX_COUNT, MAX_DURATION_MINUTES};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use store::{NewToken, TokenFilter, TokenPatch, TokenValue};

use super::act::{Context, answer, respond, show};
use super::fields::{Fields, is_name, required};
use super::inbound::Inbound;
use super::problem::Problem;
use super::projects::NAME_FORM;
use super::query::Query;
use super::{page, wire};

const MINUTE_MS: i64 = 60_000;

pub(super) async fn list(State(context): State<Arc<Context>>, inbound: Inbound) -> Result<Response, Problem> {
    let limit = page::limit(&inbound.query)?;
    let (camel, snake) = (inbound.query.flag("activeOnly")?, inbound.query.flag("active_only")?);
    let filter = TokenFilter {
        projects: projects(&inbound.query)?,
        active_only: camel == Some(true) || snake == Some(true),
        after: inbound.query.uuid("cursor")?.map(Into::into),
    };
    let rows = context.fleet.managed_tokens(&filter, limit + 1).await?;
    let tokens: Vec<_> = rows.iter().map(wire::token).collect();
    Ok(page::list(&inbound.uri, limit, tokens, |token| token.id.to_string()))
}

/// The project filter under both of its names; if both are there, both must match.
pub(super) fn projects(query: &Query) -> Result<Vec<store::ProjectId>, Problem> {
    let mut projects = Vec::new();
    for name in ["projectId", "project_id"] {
        projects.extend(query.uuid(name)?.map(store::ProjectId::from));
    }
    Ok(projects)
}

pub(super) async fn get(State(context): State<Arc<Context>>, inbound: Inbound) -> Result<Response, Problem> {
    let token = context.fleet.managed_token(inbound.token(&context).await?).await?;
    Ok(show(Some(token.version), &wire::token(&token)))
}

pub(super) async fn create(State(context): State<Arc<Context>>, inbound: Inbound) -> Result<Response, Problem> {
    let fields = inbound.fields()?;
    let project = required("project_id", fields.uuid("project_id")?)?;
    let minutes = required("duration_minutes", fields.number("duration_minutes", 1, MAX_DURATION_MINUTES)?)?;
    let new = NewToken {
        project: project.into(),
        name: name(&fields)?.map(str::to_owned),
        ttl_ms: milliseconds(minutes),
        max_requests: fields.number_or_null("max_requests", 0, MAX_COUNT)?.filter(|max| *max > 0),
        value: TokenValue::mint(),
    };
    let (act, _busy) = context.repeatable("token.create", &inbound)?;
    if let Some(kept) = context.fleet.kept_answer(&act).await? {
        return Ok(respond(&kept));
    }
    let created = context
        .fleet
        .create_token(&act, &new, |token| answer(StatusCode::OK, None, &wire::issued(token, &new.value)));
    Ok(respond(&created.await?))
}

pub(super) async fn update(State(context): State<Arc<Context>>, inbound: Inbound) -> Result<Response, Problem> {
    let id = inbound.token(&context).await?;
    let fields = inbound.fields()?;
    let patch = TokenPatch {
        active: fields.flag("is_active")?,
        max_requests: fields.number("max_requests", 0, MAX_COUNT)?.map(|max| Some(max).filter(|max| *max > 0)),
        ttl_ms: fields.number("duration_minutes", 1, MAX_DURATION_MINUTES)?.map(milliseconds),
        name: name(&fields)?.map(str::to_owned),
    };
    if patch.active.is_none() && patch.max_requests.is_none() && patch.ttl_ms.is_none() && patch.name.is_none() {
        return Err(Problem::bad_request(
            "missing_field",
            "There are no fields to update: send `is_active`, `max_requests`, `duration_minutes` or `name`.",
        ));
    }
    let act = context.act("token.update", &inbound)?;
    let (token, changed) = context.fleet.change_managed_token(&act, id, &patch).await?;
    if changed.is_none() {
        context.nothing_to_do("token.update", &inbound.caller);
    }
    Ok(show(Some(token.version), &wire::token(&token)))
}

pub(super) async fn revoke(State(context): State<Arc<Context>>, inbound: Inbound) -> Result<Response, Problem> {
    let id = inbound.token(&context).await?;
    let act = context.act("token.revoke", &inbound)?;
    if context.fleet.revoke_managed_token(&act, id).await?.is_none() {
        context.nothing_to_do("token.revoke", &inbound.caller);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn name(fields: &Fields) -> Result<Option<&str>, Problem> {
    fields.text("name", api::MAX_NAME, NAME_FORM, is_name)
}

fn milliseconds(minutes: u64) -> i64 {
    i64::try_from(minutes).unwrap_or(i64::MAX).saturating_mul(MINUTE_MS)
}

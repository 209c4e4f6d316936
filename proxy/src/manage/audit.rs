//! The handlers of the audit. Reading it is not audited.

use std::sync::Arc;

use api::{AuditPage, AuditVerification, MAX_COUNT, MAX_SEARCH, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, Pagination, WriterVerification};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use store::{AuditFilter, DbTime};

use super::act::{Context, show};
use super::inbound::Inbound;
use super::problem::Problem;
use super::wire;

const MAX_NAME: usize = 128;

pub(super) async fn list(State(context): State<Arc<Context>>, inbound: Inbound) -> Result<Response, Problem> {
    let query = &inbound.query;
    let page = query.number("page", 1, MAX_COUNT)?.unwrap_or(1);
    let page_size = query.number("page_size", 1, PAGE_SIZE_MAX)?.unwrap_or(PAGE_SIZE_DEFAULT);
    let time = |text: &str| text.parse::<Timestamp>().ok().map(|time| DbTime(time.as_millisecond()));
    let text = |name| Ok::<_, Problem>(query.text(name, MAX_NAME)?.map(str::to_owned));
    let filter = AuditFilter {
        action: text("action")?,
        actor: text("actor")?,
        outcome: query.parsed("outcome", "allowed, denied or failed", wire::outcome)?,
        project: query.uuid("project_id")?.map(Into::into),
        request_id: text("request_id")?,
        from: query.parsed("start_time", "a time such as 2026-01-31T12:00:00Z", time)?,
        to: query.parsed("end_time", "a time such as 2026-01-31T12:00:00Z", time)?,
        search: query.text("search", MAX_SEARCH)?.map(str::to_owned),
    };
    let (records, total_count) = context.fleet.audit(&filter, (page - 1).saturating_mul(page_size), page_size).await?;
    let total_pages = total_count.div_ceil(page_size);
    let body = AuditPage {
        events: records.iter().map(wire::event).collect(),
        pagination: Pagination {
            page,
            page_size,
            total_count,
            total_pages,
            has_next: page < total_pages,
            has_prev: page > 1,
        },
    };
    Ok(show(None, &body))
}

pub(super) async fn get(State(context): State<Arc<Context>>, inbound: Inbound) -> Result<Response, Problem> {
    let absent = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            "audit_event_not_found",
            "There is no such event: list them with GET /manage/audit.",
        )
    };
    let id = inbound.uuid().ok_or_else(absent)?;
    let record = context.fleet.audit_record(id.into()).await?.ok_or_else(absent)?;
    Ok(show(None, &wire::event(&record)))
}

pub(super) async fn verify(State(context): State<Arc<Context>>) -> Result<Response, Problem> {
    let chains = context.fleet.verify_audit().await?;
    let body = AuditVerification {
        ok: chains.iter().all(|chain| chain.first_broken_seq.is_none()),
        writers: chains
            .into_iter()
            .map(|chain| WriterVerification {
                writer: chain.writer,
                rows: chain.rows,
                first_broken_seq: chain.first_broken_seq,
            })
            .collect(),
    };
    Ok(show(None, &body))
}

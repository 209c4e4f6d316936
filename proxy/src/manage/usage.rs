//! The handler of usage.

use std::sync::Arc;

use api::UsageGroup;
use axum::extract::State;
use axum::response::Response;
use jiff::civil::Date;
use store::{UsageFilter, UsageGrouping};

use super::act::Context;
use super::fields::invalid;
use super::inbound::Inbound;
use super::problem::Problem;
use super::query::Query;
use super::{page, tokens, wire};

/// Beyond this many rows nobody pages.
const MAX_OFFSET: u64 = 1_000_000_000;
const MAX_MODEL: usize = 256;

pub(super) async fn list(State(context): State<Arc<Context>>, inbound: Inbound) -> Result<Response, Problem> {
    let query = &inbound.query;
    let limit = page::limit(query)?;
    let offset = query.number("cursor", 0, MAX_OFFSET)?.unwrap_or(0);
    let read_day = |text: &str| text.parse::<Date>().ok().filter(|_| text.len() == 10).map(wire::day);
    let filter = UsageFilter {
        projects: tokens::projects(query)?,
        token: query.uuid("token_id")?.map(Into::into),
        model: query.text("model", MAX_MODEL)?.map(str::to_owned),
        from: query.parsed("from", "a day such as 2026-01-31", read_day)?,
        to: query.parsed("to", "a day such as 2026-01-31", read_day)?,
    };
    let by = grouping(query)?;
    let rows = context.fleet.usage_sums(&filter, by, offset, limit + 1).await?;
    let rows: Vec<_> = rows.iter().map(wire::usage).collect();
    Ok(page::list(&inbound.uri, limit, rows, |_| (offset + limit).to_string()))
}

/// `group_by=project,day` and `group_by=project&group_by=day` say the same.
fn grouping(query: &Query) -> Result<UsageGrouping, Problem> {
    let mut by = UsageGrouping::default();
    for text in query.all("group_by").flat_map(|value| value.split(',')) {
        match UsageGroup::parse(text) {
            Some(UsageGroup::Project) => by.project = true,
            Some(UsageGroup::Token) => by.token = true,
            Some(UsageGroup::Model) => by.model = true,
            Some(UsageGroup::Day) => by.day = true,
            None => return Err(invalid("group_by", "project, token, model or day, or several of them")),
        }
    }
    Ok(by)
}

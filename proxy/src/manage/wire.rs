//! Rows as the wire shows them.

use api::{AuditEvent, AuditOutcome, IssuedToken, Owner, OwnerKind, Project, Secret, Token, UsageRow};
use jiff::Timestamp;
use jiff::civil::Date;
use store::{AuditRecord, DbTime, ManagedProject, ManagedToken, ProjectState, TokenState, TokenValue, UsageSum};

/// The longest model that is shown, in characters.
const MAX_MODEL: usize = 1024;
const EPOCH: Date = Date::constant(1970, 1, 1);

pub(super) fn project(project: &ManagedProject) -> Project {
    Project {
        id: project.id.into(),
        name: project.name.clone(),
        provider: project.provider.clone(),
        api_key: project.masked_key.clone(),
        is_active: project.state == ProjectState::Active,
        deactivated_at: project.deactivated_at.map(time),
        created_at: time(project.created_at),
        updated_at: time(project.updated_at),
        owner: project.owner.as_ref().map(|of| owner(OwnerKind::LLMProject, of)),
    }
}

pub(super) fn token(token: &ManagedToken) -> Token {
    Token {
        id: token.id.into(),
        token: token.prefix.as_ref().map_or_else(|| "…".to_owned(), |prefix| format!("{prefix}…")),
        name: token.name.clone(),
        project_id: token.project.into(),
        expires_at: token.expires_at.map(time),
        is_active: token.state == TokenState::Active,
        revoked_at: (token.state == TokenState::Revoked).then(|| time(token.state_at)),
        request_count: bounded(token.requests),
        max_requests: token.max_requests.map(bounded),
        created_at: time(token.created_at),
        last_used_at: token.last_used_at.map(time),
        cache_hit_count: 0,
        owner: token.owner.as_ref().map(|of| owner(OwnerKind::WitheringToken, of)),
    }
}

pub(super) fn issued(token: &ManagedToken, value: &TokenValue) -> IssuedToken {
    IssuedToken {
        id: token.id.into(),
        token: Secret::new(value.expose()),
        expires_at: token.expires_at.map(time).unwrap_or_default(),
        max_requests: token.max_requests.map(bounded),
    }
}

pub(super) fn usage(sum: &UsageSum) -> UsageRow {
    UsageRow {
        day: sum.day.map(date),
        project_id: sum.project.map(Into::into),
        token_id: sum.token.map(Into::into),
        // A client may have asked for anything.
        model: sum.model.as_ref().map(|model| model.chars().take(MAX_MODEL).collect()),
        requests: bounded(sum.requests),
        input_tokens: bounded(sum.input_tokens),
        cached_tokens: bounded(sum.cached_tokens),
        output_tokens: bounded(sum.output_tokens),
        reasoning_tokens: bounded(sum.reasoning_tokens),
        estimated_requests: bounded(sum.estimated),
        cost_microcents: bounded(sum.cost),
    }
}

pub(super) fn event(record: &AuditRecord) -> AuditEvent {
    AuditEvent {
        id: record.id.into(),
        timestamp: time(record.at),
        action: record.action.clone(),
        actor: record.actor.clone(),
        outcome: match record.outcome {
            store::AuditOutcome::Allowed => AuditOutcome::Allowed,
            store::AuditOutcome::Denied => AuditOutcome::Denied,
            store::AuditOutcome::Failed => AuditOutcome::Failed,
        },
        subject: record.subject.clone(),
        project_id: record.project.map(Into::into),
        token_id: record.token.map(Into::into),
        request_id: Some(record.request_id.clone()).filter(|id| !id.is_empty()),
        count: bounded(record.times),
        // It was written as an object; a row that somebody has spoiled is still shown, and `verify` says that it is.
        metadata: serde_json::from_str(&record.detail).unwrap_or_default(),
        writer: record.writer.clone(),
        seq: bounded(record.seq),
        hash: record.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// A stored outcome of this name on the wire.
pub(super) fn outcome(text: &str) -> Option<store::AuditOutcome> {
    AuditOutcome::parse(text).map(|outcome| match outcome {
        AuditOutcome::Allowed => store::AuditOutcome::Allowed,
        AuditOutcome::Denied => store::AuditOutcome::Denied,
        AuditOutcome::Failed => store::AuditOutcome::Failed,
    })
}

/// Days since 1970-01-01.
pub(super) fn day(date: Date) -> i32 {
    EPOCH.until(date).map_or(0, |span| span.get_days())
}

fn date(day: i32) -> Date {
    EPOCH.checked_add(jiff::Span::new().try_days(day).unwrap_or_default()).unwrap_or(EPOCH)
}

fn time(at: DbTime) -> Timestamp {
    Timestamp::from_millisecond(at.0).unwrap_or_default()
}

/// What every JSON reader takes exactly.
fn bounded(count: u64) -> u64 {
    count.min(api::MAX_COUNT)
}

fn owner(kind: OwnerKind, owner: &store::Owner) -> Owner {
    Owner {
        kind,
        namespace: owner.namespace.clone(),
        name: owner.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970_and_back_again() {
        for (text, n) in [("1970-01-01", 0), ("1970-01-02", 1), ("1969-12-31", -1), ("2026-11-21", 20_778)] {
            let date_of: Date = text.parse().unwrap();
            assert_eq!(day(date_of), n, "{text}");
            assert_eq!(date(n), date_of);
        }
        assert_eq!(date(day(Date::MAX)), Date::MAX);
        assert_eq!(date(day(Date::MIN)), Date::MIN);
    }
}

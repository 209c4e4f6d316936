//! Whether a new value must be issued, why, and under which revision and quota period.
//! It refuses to know how the value reaches its Secret.

use crds::events::EventReason;
use store::{PendingRevision, RevisionState, TokenView};

use super::facts::{Facts, Holding};
use super::timing;
use crate::decide::limits;
use crate::effect::{Effect, Notice};
use crate::observed::ProjectSeen;

/// Why a value is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// There never was one.
    First,
    /// The present one nears, or has passed, its end. Only this opens a new quota period.
    Renewal,
    /// The spec asks for it.
    Rotation,
    /// The present ones were ended from outside: the project was re-created.
    Replaced,
    /// The Secret was deleted.
    Recreated,
    /// The Secret holds something else.
    Tampered,
}

/// Issues a further value if one is needed, after telling what led to it.
pub(super) fn issue(facts: &Facts<'_>) -> Option<Effect> {
    let seen = facts.seen;
    let ProjectSeen::Ready { id: project, .. } = seen.project else {
        return None;
    };
    if !facts.may_issue() || seen.resource.memory.pausing(seen.resource.now).is_some() {
        return None;
    }
    let cause = cause(facts)?;
    let repairs = matches!(cause, Cause::Recreated | Cause::Tampered);
    if repairs && seen.resource.memory.contention.until(seen.resource.now).is_some() {
        return None;
    }
    if let Some(notice) = notices(facts, cause)
        .into_iter()
        .find(|notice| !seen.resource.memory.told.contains(&notice.reason))
    {
        return Some(Effect::Emit(notice));
    }
    let value = seen.minted.clone();
    let revision = PendingRevision {
        owner: seen.resource.owner(),
        project,
        secret_name: facts.home.name.to_owned(),
        revision: facts.row.map_or(1, next_revision),
        digest: value.digest(),
        prefix: value.prefix().to_owned(),
        ttl_ms: facts.lifetime_ms(),
        period: facts.row.map_or(1, |row| period(facts, row, cause)),
        max_requests: seen.resource.spec.max_requests.and_then(|limit| u64::try_from(limit).ok()),
        limits: limits::of_token(&seen.resource.spec),
        rotation_trigger: seen.resource.spec.trigger().map(str::to_owned),
    };
    Some(Effect::InsertPending { revision, value })
}

fn cause(facts: &Facts<'_>) -> Option<Cause> {
    let Some(row) = facts.row else { return Some(Cause::First) };
    let now = facts.seen.resource.now;
    if facts.seen.project
        != (ProjectSeen::Ready {
            id: row.project,
            active: true,
        })
    {
        return Some(Cause::Replaced);
    }
    let Some(active) = facts.active else {
        return Some(match facts.latest.map(|latest| latest.state) {
            None => Cause::First,
            Some(RevisionState::Active) => Cause::Renewal,
            Some(_) => Cause::Replaced,
        });
    };
    match facts.home.holding {
        // While an overlap runs, both wait for its end.
        Holding::Revision(held, _) if held.digest == active.digest => match facts.overlap {
            Some(_) => None,
            None if now >= timing::renewal_due(active) => Some(Cause::Renewal),
            None => facts.is_rotation_asked().then_some(Cause::Rotation),
        },
        // A value that was delivered but died before it could be activated.
        Holding::Revision(held, _) if held.state == RevisionState::Pending => Some(Cause::Replaced),
        Holding::Revision(..) | Holding::Altered(_) => Some(Cause::Tampered),
        Holding::Nothing => Some(Cause::Recreated),
        Holding::Foreign | Holding::Unreadable(_) => None,
    }
}

fn notices(facts: &Facts<'_>, cause: Cause) -> Vec<Notice> {
    let name = facts.home.name;
    let mut notices = Vec::new();
    match cause {
        Cause::Recreated => notices.push(Notice {
            reason: EventReason::SecretRecreated,
            note: format!("Secret {name} was deleted; it is written anew with a new value"),
        }),
        Cause::Tampered => notices.push(Notice {
            reason: EventReason::SecretTampered,
            note: format!("Secret {name} was changed; what it holds is not believed and a new value replaces it"),
        }),
        Cause::First if matches!(facts.home.holding, Holding::Altered(_)) => notices.push(Notice {
            reason: EventReason::RowMissing,
            note: format!("Secret {name} was written for this token and the database knows nothing of it; a new value replaces it"),
        }),
        Cause::First | Cause::Renewal | Cause::Rotation | Cause::Replaced => {}
    }
    if let Some(overlap) = facts.overlap.filter(|_| cause != Cause::Renewal) {
        let note = format!("revision {} was to live longer beside its successor and ends now", overlap.revision);
        notices.push(Notice {
            reason: EventReason::OverlapCut,
            note,
        });
    }
    notices
}

/// The next number. A pending row whose Secret write never began is overwritten under its own number; any other keeps it for ever.
fn next_revision(row: &TokenView) -> i64 {
    let taken = row
        .revisions
        .iter()
        .filter(|revision| revision.state != RevisionState::Pending || revision.write_begun);
    taken.map(|revision| revision.revision).max().unwrap_or(0) + 1
}

/// A renewal opens a new period, once: a renewal that a crash cut short has left a pending row behind and has opened it already.
fn period(facts: &Facts<'_>, row: &TokenView, cause: Cause) -> i64 {
    let Some(due) = facts.latest.filter(|_| cause == Cause::Renewal).map(timing::renewal_due) else {
        return row.period;
    };
    let opened = row
        .revisions
        .iter()
        .any(|revision| revision.state == RevisionState::Pending && revision.issued_at >= due);
    if opened { row.period } else { row.period + 1 }
}

//! What a token's status says: its conditions, its times, and when it must be looked at again.
//! It refuses to know what will be done next; it speaks about what is.

use crds::conditions::{Condition, ConditionStatus, ConditionType, Finding, find, merge};
use crds::events::EventReason;
use crds::{PreviousRevision, Reason, WitheringTokenStatus};
use store::{DbTime, RevokedBy, TokenState};

use super::facts::{Facts, Holding, Obstacle};
use super::timing;
use crate::decide::{programmed, report};
use crate::effect::Notice;
use crate::observed::ProjectSeen;

/// The conditions; `Ready` and what follows from it last.
pub(super) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = vec![accepted(facts), resolved(facts), in_force(facts), delivered(facts)];
    findings.extend(exhausted(facts));
    let ready = ready(facts, &findings);
    let progress = report::progress(&ready);
    findings.push(ready);
    findings.extend(progress);
    findings
}

fn accepted(facts: &Facts<'_>) -> Finding {
    match facts.obstacle {
        Some(Obstacle::Taken(why)) => Finding::fails(ConditionType::Accepted, Reason::SecretConflict, why),
        _ => report::accepted(&facts.seen.resource.standing),
    }
}

fn resolved(facts: &Facts<'_>) -> Finding {
    let object = &facts.seen.resource.object;
    let name = &facts.seen.resource.spec.project_ref.name;
    match facts.seen.project {
        ProjectSeen::Missing => {
            let why = format!("spec.projectRef.name: LLMProject {}/{name} does not exist; create it", object.namespace);
            Finding::fails(ConditionType::ResolvedRefs, Reason::ProjectNotFound, why)
        }
        ProjectSeen::NotReady | ProjectSeen::Unavailable { .. } | ProjectSeen::Ready { .. } => {
            Finding::holds(ConditionType::ResolvedRefs, Reason::ResolvedRefs, format!("LLMProject {name} was found"))
        }
    }
}

fn in_force(facts: &Facts<'_>) -> Finding {
    facts.row.map_or_else(
        || Finding::fails(ConditionType::Programmed, Reason::Pending, "no key was issued yet"),
        |row| programmed::programmed(row.takeaway_version, &facts.seen.resource.replicas),
    )
}

fn delivered(facts: &Facts<'_>) -> Finding {
    let fails = |reason, message: String| Finding::fails(ConditionType::Delivered, reason, message);
    let seen = facts.seen;
    let namespace = &seen.resource.object.namespace;
    let wanted = format!("{namespace}/{}", seen.secret_name);
    if let Some(row) = facts.row.filter(|row| row.state == TokenState::Revoked) {
        if let Some(failure) = seen.resource.memory.setback.as_ref().filter(|_| facts.home.holding.ours().is_some()) {
            return fails(Reason::DeliveryFailed, format!("the token is revoked; {}", failure.why));
        }
        return fails(
            revoked_reason(row.revoked_by),
            format!("the token is revoked; Secret {wanted} is deleted"),
        );
    }
    match facts.obstacle {
        Some(Obstacle::Declared(why)) => return fails(Reason::SecretConflict, why.to_owned()),
        Some(Obstacle::Foreign) => {
            let why = format!("Secret {wanted} exists and was not written for this token; delete it, or name another in spec.secret.name");
            return fails(Reason::SecretConflict, why);
        }
        Some(Obstacle::Unreadable(why)) => return fails(Reason::DeliveryFailed, format!("Secret {wanted} cannot be read: {why}")),
        Some(Obstacle::Taken(_)) | None => {}
    }
    let home = format!("{namespace}/{}", facts.home.name);
    let memory = &seen.resource.memory;
    let stands = matches!(facts.home.holding, Holding::Revision(_, content) if facts.holds_active(&facts.home) && facts.is_dressed(content));
    if stands {
        return Finding::holds(ConditionType::Delivered, Reason::Delivered, format!("the key stands in Secret {home}"));
    }
    if let Some(failure) = &memory.setback {
        return fails(Reason::DeliveryFailed, failure.why.clone());
    }
    if let Some(until) = memory.contention.until(seen.resource.now).filter(|_| facts.active.is_some()) {
        let why = format!(
            "Secret {home} was repaired {} times and is changed again and again; the next repair waits until {}. Find who writes it and stop that",
            memory.contention.repairs(),
            report::timestamp(until)
        );
        return fails(Reason::SecretContended, why);
    }
    if facts.holds_active(&facts.home) {
        return Finding::holds(ConditionType::Delivered, Reason::Delivered, format!("the key stands in Secret {home}"));
    }
    fails(Reason::Pending, format!("Secret {home} does not hold a working key"))
}

/// Present only while it is true.
fn exhausted(facts: &Facts<'_>) -> Option<Finding> {
    let quota = facts
        .row?
        .quota
        .filter(|quota| quota.used.saturating_add(quota.forfeited) >= quota.max_units)?;
    facts.row.filter(|row| row.max_requests.is_some() && row.state != TokenState::Revoked)?;
    let why = format!(
        "all {} requests of this period are used up; raise spec.maxRequests or wait for the renewal",
        quota.max_units
    );
    Some(Finding::holds(ConditionType::Exhausted, Reason::RequestsExhausted, why))
}

fn ready(facts: &Facts<'_>, findings: &[Finding]) -> Finding {
    let seen = facts.seen;
    let fails = |reason, message: String| Finding::fails(ConditionType::Ready, reason, message);
    let failing = |about: ConditionType| {
        let finding = findings
            .iter()
            .find(|finding| finding.about == about && finding.status != ConditionStatus::True)?;
        Some(Finding {
            about: ConditionType::Ready,
            ..finding.clone()
        })
    };
    if let Some(finding) = switched_off(facts)
        .or_else(|| failing(ConditionType::Accepted))
        .or_else(|| failing(ConditionType::ResolvedRefs))
    {
        return finding;
    }
    match seen.project {
        ProjectSeen::Ready { active: true, .. } => {}
        ProjectSeen::Ready { active: false, .. } => {
            return fails(
                Reason::ProjectInactive,
                format!("LLMProject {} is Inactive; its keys are refused", seen.resource.spec.project_ref.name),
            );
        }
        ProjectSeen::NotReady | ProjectSeen::Missing | ProjectSeen::Unavailable { .. } => {
            let name = &seen.resource.spec.project_ref.name;
            return fails(Reason::ProjectNotReady, format!("LLMProject {name} is not in force; see its conditions"));
        }
    }
    if facts.active.is_none() && facts.latest.is_some() && facts.pending().next().is_none() && !facts.is_blocked() {
        return fails(Reason::Expired, "the last key has reached its end".to_owned());
    }
    if let Some(finding) = failing(ConditionType::Delivered).or_else(|| failing(ConditionType::Programmed)) {
        return finding;
    }
    if let Some(exhausted) = findings.iter().find(|finding| finding.about == ConditionType::Exhausted) {
        return fails(Reason::RequestsExhausted, exhausted.message.clone());
    }
    if let Some(failure) = setback(facts) {
        return failure;
    }
    Finding::holds(ConditionType::Ready, how_issued(facts), works(facts))
}

/// The key works, and the write of what is to take its place, or the deletion of the Secret that it stood in before, is refused.
fn setback(facts: &Facts<'_>) -> Option<Finding> {
    let memory = &facts.seen.resource.memory;
    let why = &memory.setback.as_ref()?.why;
    let fails = |reason, message: String| Some(Finding::fails(ConditionType::Ready, reason, message));
    let works = facts.active.map_or_else(
        || "no key works".to_owned(),
        |active| format!("the present key works until {}", report::timestamp(active.ends_at)),
    );
    let is_pending = |value: &store::TokenValue| facts.pending().any(|pending| pending.digest == value.digest());
    if facts.active.is_some_and(|active| facts.seen.resource.now >= timing::renewal_due(active)) {
        return fails(Reason::RenewalFailing, format!("renewal is due and fails: {why}; {works}"));
    }
    if facts.is_rotation_asked() || memory.in_hand.as_ref().is_some_and(is_pending) {
        return fails(Reason::RenewalFailing, format!("the rotation fails: {why}; {works}"));
    }
    let former = facts.other.filter(|former| former.holding.ours().is_some())?;
    fails(Reason::DeliveryFailed, format!("Secret {} stays, too: {why}", former.name))
}

/// That the key works; and until when an asked rotation waits.
fn works(facts: &Facts<'_>) -> String {
    match facts.overlap.filter(|_| facts.is_rotation_asked()) {
        Some(overlap) => format!(
            "the key works; the rotation that spec.rotation.trigger asks for waits until revision {} ends at {}",
            overlap.revision,
            report::timestamp(overlap.ends_at)
        ),
        None => "the key works".to_owned(),
    }
}

/// Revoked or suspended, by whomever.
fn switched_off(facts: &Facts<'_>) -> Option<Finding> {
    let fails = |reason, message: &str| Some(Finding::fails(ConditionType::Ready, reason, message));
    let is_revoked = facts.row.is_some_and(|row| row.state == TokenState::Revoked);
    match facts.seen.resource.spec.state {
        _ if is_revoked && facts.row.and_then(|row| row.revoked_by) == Some(RevokedBy::Manage) => fails(
            Reason::RevokedByManage,
            "revoked through /manage, which is final; create a token of another name",
        ),
        _ if is_revoked => fails(Reason::Revoked, "revoked, which is final; create a token of another name"),
        crds::TokenState::Revoked => fails(Reason::Revoked, "revoked before a key was issued"),
        crds::TokenState::Suspended => fails(Reason::Suspended, "the key is refused; set spec.state to Active to have it work again"),
        crds::TokenState::Active => None,
    }
}

fn revoked_reason(by: Option<RevokedBy>) -> Reason {
    if by == Some(RevokedBy::Manage) {
        Reason::RevokedByManage
    } else {
        Reason::Revoked
    }
}

/// How the present key came to be: what status says of it already, or, for a new one, whether its predecessor was due.
fn how_issued(facts: &Facts<'_>) -> Reason {
    let Some(active) = facts.active.filter(|active| active.revision > 1) else {
        return Reason::Issued;
    };
    let status = facts
        .seen
        .resource
        .status
        .as_ref()
        .filter(|status| status.revision == Some(active.revision));
    let said = status
        .and_then(|status| find(&status.conditions, ConditionType::Ready))
        .and_then(|ready| ready.reason.parse().ok());
    if let Some(reason) = said.filter(|reason| matches!(reason, Reason::Issued | Reason::Renewed | Reason::Reissued | Reason::Rotated)) {
        return reason;
    }
    let revisions = facts.row.map_or(&[][..], |row| &row.revisions);
    let before = revisions
        .iter()
        .filter(|revision| revision.revision < active.revision)
        .max_by_key(|revision| revision.revision);
    let was_due = before.is_some_and(|before| active.issued_at.ms_since(before.issued_at) >= facts.lifetime_ms() / 3 * 2);
    let was_asked = active.rotation_trigger.is_some() && before.is_some_and(|before| before.rotation_trigger != active.rotation_trigger);
    match (was_due, was_asked) {
        (true, _) => Reason::Renewed,
        (false, true) => Reason::Rotated,
        (false, false) => Reason::Reissued,
    }
}

/// The events that come with a change of status.
pub(super) fn notices(facts: &Facts<'_>, findings: &[Finding]) -> Vec<Notice> {
    let before = facts.seen.resource.status.as_ref();
    let mut notices = report::notices(conditions(facts), findings);
    let Some(active) = facts
        .active
        .filter(|active| before.and_then(|status| status.revision) != Some(active.revision))
    else {
        return notices;
    };
    let note = format!("revision {} is in Secret {}", active.revision, facts.home.name);
    match how_issued(facts) {
        Reason::Issued => notices.push(Notice {
            reason: EventReason::TokenIssued,
            note,
        }),
        Reason::Renewed => notices.push(Notice {
            reason: EventReason::TokenRenewed,
            note,
        }),
        Reason::Rotated => notices.push(Notice {
            reason: EventReason::TokenRotated,
            note,
        }),
        _ => {}
    }
    notices
}

fn conditions<'a>(facts: &Facts<'a>) -> &'a [Condition] {
    facts.seen.resource.status.as_ref().map_or(&[], |status| &status.conditions)
}

/// The whole status.
pub(super) fn status(facts: &Facts<'_>, findings: &[Finding]) -> WitheringTokenStatus {
    let resource = &facts.seen.resource;
    let present = facts.active.or(facts.latest);
    WitheringTokenStatus {
        observed_generation: Some(resource.object.generation),
        conditions: merge(conditions(facts), findings, resource.object.generation, report::timestamp(resource.now)),
        token_prefix: present.map(|revision| revision.prefix.clone()),
        revision: present.map(|revision| revision.revision),
        issued_time: present.map(|revision| report::time(revision.issued_at)),
        expiration_time: present.map(|revision| report::time(revision.ends_at)),
        renewal_time: renewal_at(facts).map(report::time),
        previous: facts.overlap.map(|overlap| PreviousRevision {
            revision: overlap.revision,
            expiration_time: report::time(overlap.ends_at),
        }),
        secret_name: facts.holds_active(&facts.home).then(|| facts.home.name.to_owned()),
    }
}

/// When the active revision is replaced, if it may be: when it is due, or now if the spec asks for it, but not before the overlap ends.
fn renewal_at(facts: &Facts<'_>) -> Option<DbTime> {
    let due = timing::renewal_due(facts.active.filter(|_| facts.may_issue())?);
    let wanted = if facts.is_rotation_asked() {
        due.min(facts.seen.resource.now)
    } else {
        due
    };
    Some(facts.overlap.map_or(wanted, |overlap| wanted.max(overlap.ends_at)))
}

/// The next moment at which time alone changes something.
pub(super) fn recheck_at(facts: &Facts<'_>, findings: &[Finding]) -> Option<DbTime> {
    let now = facts.seen.resource.now;
    let moments = [
        renewal_at(facts),
        facts.active.map(|active| active.ends_at),
        facts.overlap.map(|overlap| overlap.ends_at),
        facts.seen.resource.memory.pausing(now).map(|setback| setback.retry_at),
        facts.seen.resource.memory.contention.until(now),
        findings.iter().find_map(|finding| programmed::recheck(finding, now)),
    ];
    moments.into_iter().flatten().filter(|moment| *moment > now).min()
}

//! The last step of every decision: status and events, told once and only when something changed; and what kstatus reads from `Ready`.
//! It refuses to know the kinds' own conditions.

use crds::Reason;
use crds::conditions::{Condition, ConditionStatus, ConditionType, Finding, find};
use crds::events::EventReason;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use store::DbTime;

use crate::effect::{Effect, Notice, Status};
use crate::object::{Resource, Standing};

/// `Accepted`, from how the declaration stands.
pub(crate) fn accepted(standing: &Standing) -> Finding {
    match standing {
        Standing::Invalid(why) => Finding::fails(
            ConditionType::Accepted,
            Reason::InvalidSpec,
            format!("{why}; the last good spec stays in force"),
        ),
        Standing::Unusable(why) => Finding::fails(
            ConditionType::Accepted,
            Reason::InvalidSpec,
            format!("{why}; what is in force stays so, and of the spec only spec.state is followed"),
        ),
        Standing::SourceMissing(why) => Finding::holds(ConditionType::Accepted, Reason::SourceMissing, why.clone()),
        Standing::Present | Standing::Gone => Finding::holds(ConditionType::Accepted, Reason::Accepted, "the spec is valid"),
    }
}

/// `Ready`, which fails with the first of the conditions that fails.
pub(crate) fn ready(findings: &[Finding], otherwise: Finding) -> Finding {
    let failed = findings.iter().find(|finding| finding.status != ConditionStatus::True);
    failed.map_or(otherwise, |first| Finding {
        about: ConditionType::Ready,
        ..first.clone()
    })
}

/// `Stalled` or `Reconciling`, as kstatus reads them: present while `Ready` fails because somebody has to act, or because work is under way or
/// awaited. Neither stands where things are as the spec wants them, be they switched off or used up.
pub(crate) fn progress(ready: &Finding) -> Option<Finding> {
    if ready.status == ConditionStatus::True {
        return None;
    }
    let about = match ready.reason {
        Reason::InvalidSpec
        | Reason::RefNotPermitted
        | Reason::ProviderUnknown
        | Reason::CredentialsMissing
        | Reason::SecretConflict
        | Reason::NameConflict
        | Reason::SecretContended
        | Reason::DatabaseConflict
        | Reason::SchemaTooNew
        | Reason::MigrationFailed
        | Reason::EncryptionKeyMismatch
        | Reason::RolloutFailed
        | Reason::ImagePullFailed
        | Reason::Revoked
        | Reason::RevokedByManage => ConditionType::Stalled,
        Reason::Inactive | Reason::ProjectInactive | Reason::Suspended | Reason::RequestsExhausted => return None,
        _ => ConditionType::Reconciling,
    };
    Some(Finding {
        about,
        status: ConditionStatus::True,
        ..ready.clone()
    })
}

/// A condition as it stands in status: what is said while nothing better can be known.
pub(crate) fn as_it_stood(before: &[Condition], about: ConditionType) -> Option<Finding> {
    let stood = find(before, about)?;
    Some(Finding {
        about,
        status: stood.status.parse().ok()?,
        reason: stood.reason.parse().ok()?,
        message: stood.message.clone(),
    })
}

/// The events that new findings bring: one for each condition that comes to stand on a reason worth an event, or leaves one for good.
pub(crate) fn notices(before: &[Condition], findings: &[Finding]) -> Vec<Notice> {
    let told = |finding: &Finding| {
        let was: Option<Reason> = find(before, finding.about).and_then(|old| old.reason.parse().ok());
        if was == Some(finding.reason) {
            return None;
        }
        Some(Notice {
            reason: event(finding, was)?,
            note: finding.message.clone(),
        })
    };
    findings.iter().filter_map(told).collect()
}

fn event(finding: &Finding, was: Option<Reason>) -> Option<EventReason> {
    match (finding.about, finding.reason) {
        (ConditionType::Accepted, Reason::InvalidSpec) => Some(EventReason::InvalidSpec),
        (ConditionType::Accepted, Reason::RefNotPermitted) => Some(EventReason::RefNotPermitted),
        (ConditionType::Accepted, Reason::SourceMissing) => Some(EventReason::SourceMissing),
        (ConditionType::Active, Reason::Inactive) => Some(EventReason::ProjectDeactivated),
        (ConditionType::Active, Reason::Active) if was == Some(Reason::Inactive) => Some(EventReason::ProjectActivated),
        (ConditionType::Exhausted, Reason::RequestsExhausted) => Some(EventReason::RequestsExhausted),
        (ConditionType::Ready, Reason::SecretConflict) => Some(EventReason::SecretConflict),
        (ConditionType::Ready, Reason::Revoked | Reason::RevokedByManage) => Some(EventReason::TokenRevoked),
        (ConditionType::Ready, Reason::Suspended) => Some(EventReason::TokenSuspended),
        (ConditionType::Ready, Reason::Expired) => Some(EventReason::TokenExpired),
        (ConditionType::Ready, Reason::RenewalFailing) => Some(EventReason::RenewalFailing),
        (ConditionType::Ready, _) if was == Some(Reason::Suspended) && finding.status == ConditionStatus::True => Some(EventReason::TokenResumed),
        _ => None,
    }
}

/// Tells the events of a change and then sets the status; nothing if the status stands.
pub(crate) fn report<Spec, S: PartialEq>(resource: &Resource<Spec, S>, wanted: S, notices: Vec<Notice>, wrap: fn(S) -> Status) -> Option<Effect> {
    if resource.status.as_ref() == Some(&wanted) {
        return None;
    }
    let untold = notices.into_iter().find(|notice| !resource.memory.told.contains(&notice.reason));
    Some(untold.map_or_else(|| Effect::SetStatus(wrap(wanted)), Effect::Emit))
}

/// A moment of the database as the API writes it: whole seconds, rounded down, so that nothing is announced to live longer than it does.
pub(crate) fn time(at: DbTime) -> Time {
    Time(timestamp(at))
}

/// A moment of the database, in whole seconds.
pub(crate) fn timestamp(at: DbTime) -> Timestamp {
    Timestamp::from_second(at.0.div_euclid(1_000)).unwrap_or(Timestamp::MAX)
}

//! The table of token decisions: each test is one situation and the one effect, or the one verdict, that follows from it.

mod changing;
mod converged;
mod dressing;
mod ending;
mod issuing;
mod renaming;
mod renewing;
mod rotating;
mod secrets;
mod stories;
mod unavailable;

use crds::conditions::{ConditionType, find};
use crds::events::EventReason;
use crds::{Kind, ProjectRef, Reason, Rotation, SecretFormat, TokenSecret, WitheringTokenSpec, WitheringTokenStatus};
use store::{
    DbTime, FeedVersion, HolderId, Owner, ProjectId, QuotaId, QuotaView, ReplicaView, ResourceUid, RevisionState, RevisionView, RevokedBy,
    TokenChange, TokenId, TokenState, TokenValue, TokenView,
};

use super::decide;
use crate::effect::{Decision, Effect, SecretVersion, SecretWrite, Status};
use crate::memory::{Memory, Setback};
use crate::object::{Object, Resource, Standing};
use crate::observed::{ProjectSeen, SecretClaim, SecretContent, SecretSeen, TokenObserved};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// When the fixtures' active revision was issued.
const ISSUED: DbTime = DbTime(1_000_000);
const URL: &str = "http://127.0.0.1:8080/v1";

/// A declared token of one hour whose project is ready and whose Secret and row do not exist, a minute after `ISSUED`.
fn declared() -> TokenObserved {
    let spec = WitheringTokenSpec {
        project_ref: ProjectRef { name: "shop".to_owned() },
        ttl: Some("1h".to_owned()),
        max_requests: None,
        state: crds::TokenState::Active,
        secret: None,
        rotation: None,
        rate_limits: None,
        budgets: None,
        max_in_flight: None,
    };
    let object = Object {
        kind: Kind::WitheringToken,
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        uid: ResourceUid::new("u-1"),
        generation: 1,
    };
    TokenObserved {
        resource: Resource {
            object,
            cluster: "standalone".to_owned(),
            spec,
            standing: Standing::Present,
            status: None,
            replicas: Vec::new(),
            memory: Memory::default(),
            now: ISSUED.plus_ms(MINUTE),
        },
        row: None,
        project: ProjectSeen::Ready {
            id: ProjectId::new(),
            active: true,
        },
        secret_name: "web".to_owned(),
        secret: SecretSeen::Absent,
        former: None,
        claim: SecretClaim::Free,
        base_url: URL.to_owned(),
        formats: SecretFormat::ALL.to_vec(),
        minted: TokenValue::mint(),
    }
}

fn revision(number: i64, state: RevisionState, value: &TokenValue) -> RevisionView {
    RevisionView {
        revision: number,
        digest: value.digest(),
        prefix: value.prefix().to_owned(),
        state,
        write_begun: state != RevisionState::Pending,
        issued_at: ISSUED,
        ends_at: ISSUED.plus_ms(HOUR),
        rotation_trigger: None,
    }
}

fn row(seen: &TokenObserved, revisions: Vec<RevisionView>) -> TokenView {
    let ProjectSeen::Ready { id: project, .. } = seen.project else {
        panic!("the fixture's project is ready")
    };
    TokenView {
        id: TokenId::new(),
        owner: Owner {
            cluster: "standalone".to_owned(),
            uid: ResourceUid::new("u-1"),
            namespace: "default".to_owned(),
            name: "web".to_owned(),
        },
        project,
        state: TokenState::Active,
        revoked_by: None,
        period: 1,
        max_requests: None,
        secret_name: "web".to_owned(),
        takeaway_version: FeedVersion(0),
        revisions,
        quota: None,
        limits: Vec::new(),
    }
}

fn holding(value: &TokenValue) -> SecretSeen {
    let version = SecretVersion(format!("version of {}", value.prefix()));
    SecretSeen::Present(SecretContent {
        version,
        value: Some(value.clone()),
        formats: SecretFormat::ALL.to_vec(),
        base_url: Some(URL.to_owned()),
        is_ours: None,
    })
}

fn altered() -> SecretSeen {
    SecretSeen::Present(SecretContent {
        version: SecretVersion("altered".to_owned()),
        value: None,
        formats: Vec::new(),
        base_url: None,
        is_ours: None,
    })
}

/// A token whose first revision is active and in its Secret.
fn issued() -> (TokenObserved, TokenValue) {
    let mut seen = declared();
    let value = TokenValue::mint();
    seen.row = Some(row(&seen, vec![revision(1, RevisionState::Active, &value)]));
    seen.secret = holding(&value);
    (seen, value)
}

fn revisions(seen: &mut TokenObserved) -> &mut Vec<RevisionView> {
    &mut seen.row.as_mut().expect("the fixture has a row").revisions
}

fn edit(seen: &mut TokenObserved) -> &mut TokenView {
    seen.row.as_mut().expect("the fixture has a row")
}

/// When the active revision of `issued` falls due.
fn due(value: &TokenValue) -> DbTime {
    super::timing::renewal_due(&revision(1, RevisionState::Active, value))
}

fn effect(seen: &TokenObserved) -> Effect {
    decide(seen).effect.expect("an effect")
}

/// The effect after the events that come before it.
fn effect_after_events(seen: &TokenObserved) -> (Vec<EventReason>, Effect) {
    let mut seen = seen.clone();
    loop {
        match effect(&seen) {
            Effect::Emit(notice) => seen.resource.memory.told.push(notice.reason),
            other => return (seen.resource.memory.told, other),
        }
    }
}

/// The status that is set when nothing else is to be done.
fn verdict(seen: &TokenObserved) -> WitheringTokenStatus {
    match effect_after_events(seen).1 {
        Effect::SetStatus(Status::Token(status)) => status,
        other => panic!("not a status: {other:?}"),
    }
}

fn reason(status: &WitheringTokenStatus, about: ConditionType) -> (String, String) {
    let condition = find(&status.conditions, about).expect("the condition");
    (condition.status.clone(), condition.reason.clone())
}

fn says(status: &WitheringTokenStatus, about: ConditionType, holds: &str, why: Reason) {
    assert_eq!(reason(status, about), (holds.to_owned(), why.as_str().to_owned()), "{status:#?}");
}

fn inserted(effect: Effect) -> store::PendingRevision {
    match effect {
        Effect::InsertPending { revision, value } => {
            assert_eq!(revision.digest, value.digest());
            revision
        }
        other => panic!("not an insertion: {other:?}"),
    }
}

fn written(effect: Effect) -> SecretWrite {
    match effect {
        Effect::WriteSecret(write) => write,
        other => panic!("not a write: {other:?}"),
    }
}

fn changed(effect: Effect) -> TokenChange {
    match effect {
        Effect::ChangeToken { change, .. } => change,
        other => panic!("not a change: {other:?}"),
    }
}

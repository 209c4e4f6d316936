//! The table of token decisions: each test is one situation and the one effect, or the one verdict, that follows from it.

use crds::conditions::{ConditionType, find};
use crds::events::EventReason;
use crds::{Kind, ProjectRef, Reason, TokenSecret, WitheringTokenSpec, WitheringTokenStatus};
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
    }
}

fn holding(value: &TokenValue) -> SecretSeen {
    let version = SecretVersion(format!("version of {}", value.prefix()));
    SecretSeen::Present(SecretContent {
        version,
        value: Some(value.clone()),
        base_url: Some(URL.to_owned()),
    })
}

fn altered() -> SecretSeen {
    SecretSeen::Present(SecretContent {
        version: SecretVersion("altered".to_owned()),
        value: None,
        base_url: None,
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

mod issuing {
    use super::*;

    #[test]
    fn a_new_token_gets_a_pending_revision_of_the_minted_value() {
        let mut seen = declared();
        seen.resource.spec.max_requests = Some(7);
        let first = inserted(effect(&seen));
        assert_eq!((first.revision, first.period, first.ttl_ms, first.max_requests), (1, 1, HOUR, Some(7)));
        assert_eq!((first.digest, first.secret_name.as_str()), (seen.minted.digest(), "web"));
    }

    #[test]
    fn a_value_in_hand_is_announced_then_written_then_activated() {
        let mut seen = declared();
        let value = TokenValue::mint();
        seen.row = Some(row(&seen, vec![revision(1, RevisionState::Pending, &value)]));
        seen.resource.memory.in_hand = Some(value.clone());
        assert!(matches!(effect(&seen), Effect::BeginSecretWrite { digest, .. } if digest == value.digest()));

        revisions(&mut seen)[0].write_begun = true;
        let write = written(effect(&seen));
        assert!(write.value == value && write.expect.is_none() && write.base_url == URL);

        seen.secret = holding(&value);
        assert!(matches!(effect(&seen), Effect::Activate { digest, overlap_ms, .. } if digest == value.digest() && overlap_ms == 6 * MINUTE));
    }

    #[test]
    fn after_a_crash_a_delivered_pending_value_is_only_activated() {
        let mut seen = declared();
        let value = TokenValue::mint();
        seen.row = Some(row(&seen, vec![revision(1, RevisionState::Pending, &value)]));
        seen.secret = holding(&value);
        assert!(matches!(effect(&seen), Effect::Activate { digest, .. } if digest == value.digest()));
    }

    #[test]
    fn after_a_crash_before_the_write_a_pending_row_is_overwritten_under_its_number() {
        let mut seen = declared();
        seen.row = Some(row(&seen, vec![revision(1, RevisionState::Pending, &TokenValue::mint())]));
        assert_eq!(inserted(effect(&seen)).revision, 1);
    }

    #[test]
    fn a_pending_row_whose_write_may_have_begun_is_left_alone_and_another_is_added() {
        let mut seen = declared();
        seen.row = Some(row(&seen, vec![revision(1, RevisionState::Pending, &TokenValue::mint())]));
        revisions(&mut seen)[0].write_begun = true;
        assert_eq!(inserted(effect(&seen)).revision, 2);
    }

    #[test]
    fn a_pending_value_that_died_in_hand_is_replaced_by_a_fresh_one() {
        let mut seen = declared();
        let value = TokenValue::mint();
        seen.row = Some(row(&seen, vec![revision(1, RevisionState::Pending, &value)]));
        seen.resource.memory.in_hand = Some(value);
        seen.resource.now = ISSUED.plus_ms(HOUR);
        assert_eq!(inserted(effect(&seen)).digest, seen.minted.digest());
    }

    #[test]
    fn nothing_is_issued_for_a_project_that_is_missing_inactive_or_not_in_force() {
        for (project, about, why) in [
            (ProjectSeen::Missing, ConditionType::ResolvedRefs, Reason::ProjectNotFound),
            (ProjectSeen::NotReady, ConditionType::Ready, Reason::ProjectNotReady),
            (
                ProjectSeen::Ready {
                    id: ProjectId::new(),
                    active: false,
                },
                ConditionType::Ready,
                Reason::ProjectInactive,
            ),
        ] {
            let mut seen = declared();
            seen.project = project;
            says(&verdict(&seen), about, "False", why);
        }
    }

    #[test]
    fn nothing_is_issued_while_the_spec_says_suspended_or_revoked() {
        for (state, why) in [
            (crds::TokenState::Suspended, Reason::Suspended),
            (crds::TokenState::Revoked, Reason::Revoked),
        ] {
            let mut seen = declared();
            seen.resource.spec.state = state;
            says(&verdict(&seen), ConditionType::Ready, "False", why);
        }
    }
}

mod converged {
    use super::*;

    #[test]
    fn an_issued_token_is_ready_and_says_what_it_holds() {
        let (seen, value) = issued();
        let (events, _) = effect_after_events(&seen);
        let status = verdict(&seen);
        assert_eq!(events, [EventReason::TokenIssued]);
        says(&status, ConditionType::Ready, "True", Reason::Issued);
        says(&status, ConditionType::Delivered, "True", Reason::Delivered);
        assert_eq!(
            (status.revision, status.token_prefix.as_deref(), status.secret_name.as_deref()),
            (Some(1), Some(value.prefix()), Some("web"))
        );
        assert!(status.previous.is_none() && status.renewal_time < status.expiration_time);
    }

    #[test]
    fn a_converged_token_has_no_effect_and_is_looked_at_again_when_it_falls_due() {
        let (mut seen, value) = issued();
        seen.resource.status = Some(verdict(&seen));
        let Decision { effect, recheck_at } = decide(&seen);
        assert!(effect.is_none(), "{effect:?}");
        assert_eq!(recheck_at, Some(due(&value)));
        seen.resource.now = seen.resource.now.plus_ms(5 * MINUTE);
        assert!(decide(&seen).effect.is_none(), "time alone changes nothing");
    }

    #[test]
    fn a_used_up_limit_is_told_and_heals_with_a_higher_one() {
        let (mut seen, _) = issued();
        let quota = QuotaView {
            id: QuotaId(1),
            max_units: 5,
            used: 4,
            reserved: 0,
            forfeited: 1,
        };
        (edit(&mut seen).quota, edit(&mut seen).max_requests, seen.resource.spec.max_requests) = (Some(quota), Some(5), Some(5));
        says(&verdict(&seen), ConditionType::Ready, "False", Reason::RequestsExhausted);
        says(&verdict(&seen), ConditionType::Exhausted, "True", Reason::RequestsExhausted);
        edit(&mut seen).quota = Some(QuotaView { max_units: 6, ..quota });
        assert!(find(&verdict(&seen).conditions, ConditionType::Exhausted).is_none());
    }
}

mod renewing {
    use super::*;

    #[test]
    fn a_due_token_is_renewed_in_a_new_period() {
        let (mut seen, value) = issued();
        seen.resource.now = due(&value).plus_ms(-1);
        assert!(matches!(effect_after_events(&seen).1, Effect::SetStatus(_)));
        seen.resource.now = due(&value);
        let next = inserted(effect(&seen));
        assert_eq!((next.revision, next.period), (2, 2));
    }

    #[test]
    fn a_renewal_that_a_crash_cut_short_opens_its_period_only_once() {
        let (mut seen, value) = issued();
        let mut cut = revision(2, RevisionState::Pending, &TokenValue::mint());
        (cut.issued_at, cut.ends_at, cut.write_begun) = (due(&value), due(&value).plus_ms(HOUR), true);
        revisions(&mut seen).push(cut);
        edit(&mut seen).period = 2;
        seen.resource.now = due(&value).plus_ms(10);
        let next = inserted(effect(&seen));
        assert_eq!((next.revision, next.period), (3, 2));
    }

    #[test]
    fn while_an_overlap_runs_renewal_waits_for_its_end() {
        let (mut seen, value) = issued();
        let mut before = revision(0, RevisionState::Previous, &TokenValue::mint());
        before.ends_at = due(&value).plus_ms(30_000);
        revisions(&mut seen).insert(0, before.clone());
        seen.resource.now = due(&value);
        let status = verdict(&seen);
        assert_eq!(status.renewal_time, Some(crate::decide::report::time(before.ends_at)));
        assert_eq!(status.previous.map(|previous| previous.revision), Some(0));
        assert_eq!(decide(&seen).recheck_at, Some(before.ends_at));
        seen.resource.now = before.ends_at;
        assert_eq!(inserted(effect(&seen)).revision, 2);
    }

    #[test]
    fn a_token_that_ran_out_unattended_is_renewed_in_a_new_period() {
        let (mut seen, _) = issued();
        seen.resource.now = ISSUED.plus_ms(10 * HOUR);
        assert_eq!(inserted(effect(&seen)).period, 2);
    }

    #[test]
    fn a_token_of_an_inactive_project_is_not_renewed_and_says_so() {
        let (mut seen, _) = issued();
        let ProjectSeen::Ready { id, .. } = seen.project else { panic!() };
        seen.project = ProjectSeen::Ready { id, active: false };
        seen.resource.now = ISSUED.plus_ms(10 * HOUR);
        says(&verdict(&seen), ConditionType::Ready, "False", Reason::ProjectInactive);
        assert!(verdict(&seen).renewal_time.is_none());
    }

    #[test]
    fn a_renewed_token_says_renewed_until_it_is_issued_anew() {
        let (mut seen, _) = issued();
        let value = TokenValue::mint();
        revisions(&mut seen)[0].state = RevisionState::Previous;
        let mut second = revision(2, RevisionState::Active, &value);
        (second.issued_at, second.ends_at) = (ISSUED.plus_ms(40 * MINUTE), ISSUED.plus_ms(100 * MINUTE));
        revisions(&mut seen).push(second);
        (seen.secret, seen.resource.now) = (holding(&value), ISSUED.plus_ms(41 * MINUTE));
        assert_eq!(effect_after_events(&seen).0, [EventReason::TokenRenewed]);
        let status = verdict(&seen);
        says(&status, ConditionType::Ready, "True", Reason::Renewed);
        // The status keeps the word after the row of the first revision is gone.
        (seen.resource.status, seen.resource.now) = (Some(status), ISSUED.plus_ms(65 * MINUTE));
        revisions(&mut seen).remove(0);
        says(&verdict(&seen), ConditionType::Ready, "True", Reason::Renewed);
    }

    #[test]
    fn a_renewal_that_fails_waits_and_says_until_when_the_key_lives() {
        let (mut seen, value) = issued();
        let next = TokenValue::mint();
        let mut pending = revision(2, RevisionState::Pending, &next);
        (pending.issued_at, pending.ends_at, pending.write_begun) = (due(&value), due(&value).plus_ms(HOUR), true);
        revisions(&mut seen).push(pending);
        edit(&mut seen).period = 2;
        let now = due(&value).plus_ms(100);
        seen.resource.memory.in_hand = Some(next.clone());
        seen.resource.memory.setback = Some(Setback {
            why: "no space left".to_owned(),
            retry_at: now.plus_ms(1_000),
            failures: 1,
        });
        seen.resource.now = now;
        says(&verdict(&seen), ConditionType::Ready, "False", Reason::RenewalFailing);
        assert_eq!(decide(&seen).recheck_at, Some(now.plus_ms(1_000)));
        seen.resource.now = now.plus_ms(1_000);
        assert!(written(effect(&seen)).value == next, "the same value is tried again");
    }
}

mod secrets {
    use super::*;

    #[test]
    fn a_deleted_secret_is_reissued_at_once_in_the_same_period() {
        let (mut seen, _) = issued();
        seen.secret = SecretSeen::Absent;
        let (events, effect) = effect_after_events(&seen);
        assert_eq!(events, [EventReason::SecretRecreated]);
        let next = inserted(effect);
        assert_eq!((next.revision, next.period), (2, 1));
    }

    #[test]
    fn a_changed_secret_is_never_believed() {
        for secret in [altered(), holding(&TokenValue::mint())] {
            let (mut seen, _) = issued();
            seen.secret = secret;
            let (events, effect) = effect_after_events(&seen);
            assert_eq!(events, [EventReason::SecretTampered]);
            assert_eq!(inserted(effect).period, 1);
        }
    }

    #[test]
    fn an_older_value_put_back_is_not_believed_either_and_the_overlap_is_cut() {
        let (mut seen, _) = issued();
        let older = TokenValue::mint();
        revisions(&mut seen).insert(0, revision(0, RevisionState::Previous, &older));
        seen.secret = holding(&older);
        let (events, effect) = effect_after_events(&seen);
        assert_eq!(events, [EventReason::SecretTampered, EventReason::OverlapCut]);
        assert_eq!(inserted(effect).revision, 2);
    }

    #[test]
    fn a_changed_secret_is_replaced_only_if_it_still_is_what_was_seen() {
        let (mut seen, _) = issued();
        let next = TokenValue::mint();
        let mut pending = revision(2, RevisionState::Pending, &next);
        pending.write_begun = true;
        revisions(&mut seen).push(pending);
        (seen.secret, seen.resource.memory.in_hand) = (altered(), Some(next));
        assert_eq!(written(effect(&seen)).expect, Some(SecretVersion("altered".to_owned())));
    }

    #[test]
    fn a_changed_address_rewrites_the_secret_around_the_same_value() {
        let (mut seen, value) = issued();
        seen.base_url = "http://127.0.0.1:9/v1".to_owned();
        let write = written(effect(&seen));
        assert!(write.value == value && write.base_url == seen.base_url && write.expect.is_some());
    }

    #[test]
    fn a_file_that_was_not_written_for_this_token_is_left_alone() {
        let mut seen = declared();
        seen.secret = holding(&TokenValue::mint());
        says(&verdict(&seen), ConditionType::Delivered, "False", Reason::SecretConflict);
        says(&verdict(&seen), ConditionType::Ready, "False", Reason::SecretConflict);
        assert_eq!(effect_after_events(&seen).0, [EventReason::SecretConflict]);

        // Not even after a row exists whose value was never on its way to the Secret.
        seen.row = Some(row(&seen, vec![revision(1, RevisionState::Pending, &TokenValue::mint())]));
        says(&verdict(&seen), ConditionType::Delivered, "False", Reason::SecretConflict);
    }

    #[test]
    fn two_tokens_that_want_one_secret_are_both_rejected_before_a_row_is_written() {
        let mut seen = declared();
        seen.claim = SecretClaim::Taken("wanted twice".to_owned());
        says(&verdict(&seen), ConditionType::Accepted, "False", Reason::SecretConflict);
        let (mut seen, _) = issued();
        (seen.claim, seen.secret) = (SecretClaim::Declared("is a manifest".to_owned()), SecretSeen::Absent);
        says(&verdict(&seen), ConditionType::Delivered, "False", Reason::SecretConflict);
    }

    #[test]
    fn what_cannot_be_read_is_not_overwritten() {
        let (mut seen, _) = issued();
        seen.secret = SecretSeen::Unreadable("permission denied".to_owned());
        says(&verdict(&seen), ConditionType::Delivered, "False", Reason::DeliveryFailed);
    }
}

mod renaming {
    use super::*;

    fn renamed() -> (TokenObserved, TokenValue) {
        let (mut seen, value) = issued();
        seen.resource.spec.secret = Some(TokenSecret {
            name: Some("other".to_owned()),
        });
        seen.secret_name = "other".to_owned();
        (seen.former, seen.secret) = (Some(seen.secret.clone()), SecretSeen::Absent);
        (seen, value)
    }

    #[test]
    fn the_value_is_written_under_the_new_name_before_the_old_one_goes() {
        let (mut seen, value) = renamed();
        let write = written(effect(&seen));
        assert!(write.value == value && write.name == "other" && write.expect.is_none());

        seen.secret = holding(&value);
        assert!(matches!(effect(&seen), Effect::DeleteSecret { name, .. } if name == "web"));

        seen.former = Some(SecretSeen::Absent);
        assert_eq!(changed(effect(&seen)).secret_name.as_deref(), Some("other"));
    }

    #[test]
    fn a_foreign_file_under_the_new_name_stops_it_and_the_old_one_stays() {
        let (mut seen, _) = renamed();
        seen.secret = altered();
        says(&verdict(&seen), ConditionType::Delivered, "False", Reason::SecretConflict);
    }

    #[test]
    fn an_old_file_that_holds_something_else_goes_and_a_new_value_follows() {
        let (mut seen, _) = renamed();
        seen.former = Some(altered());
        assert!(matches!(effect(&seen), Effect::DeleteSecret { name, .. } if name == "web"));
        seen.former = Some(SecretSeen::Absent);
        assert_eq!(changed(effect(&seen)).secret_name.as_deref(), Some("other"));
    }
}

mod changing {
    use super::*;

    #[test]
    fn suspending_and_resuming_change_only_the_state() {
        let (mut seen, _) = issued();
        seen.resource.spec.state = crds::TokenState::Suspended;
        assert_eq!(changed(effect(&seen)).state, Some(TokenState::Suspended));
        edit(&mut seen).state = TokenState::Suspended;
        says(&verdict(&seen), ConditionType::Ready, "False", Reason::Suspended);
        seen.resource.spec.state = crds::TokenState::Active;
        assert_eq!(changed(effect(&seen)).state, Some(TokenState::Active));
    }

    #[test]
    fn a_changed_limit_holds_at_once_and_none_means_none() {
        let (mut seen, _) = issued();
        seen.resource.spec.max_requests = Some(9);
        assert_eq!(changed(effect(&seen)).max_requests, Some(Some(9)));
        (seen.resource.spec.max_requests, edit(&mut seen).max_requests) = (None, Some(9));
        assert_eq!(changed(effect(&seen)).max_requests, Some(None));
    }

    #[test]
    fn a_shortened_lifetime_clamps_and_a_lengthened_one_waits_for_the_next_revision() {
        let (mut seen, _) = issued();
        seen.resource.spec.ttl = Some("30m".to_owned());
        assert_eq!(changed(effect(&seen)).clamp_ends, Some(ISSUED.plus_ms(30 * MINUTE)));
        seen.resource.spec.ttl = Some("48h".to_owned());
        assert!(matches!(effect_after_events(&seen).1, Effect::SetStatus(_)));
    }

    #[test]
    fn a_recreated_project_gets_a_new_revision_under_it_in_the_same_period() {
        let (mut seen, _) = issued();
        let id = ProjectId::new();
        revisions(&mut seen)[0].state = RevisionState::Ended;
        seen.project = ProjectSeen::Ready { id, active: true };
        let next = inserted(effect_after_events(&seen).1);
        assert_eq!((next.project, next.period, next.revision), (id, 1, 2));
    }

    #[test]
    fn an_invalid_document_leaves_the_last_good_spec_in_force() {
        let (mut seen, value) = issued();
        seen.resource.standing = Standing::Invalid("a.yaml:3: spec.ttl: must be a duration".to_owned());
        says(&verdict(&seen), ConditionType::Accepted, "False", Reason::InvalidSpec);
        says(&verdict(&seen), ConditionType::Programmed, "True", Reason::Programmed);
        says(&verdict(&seen), ConditionType::Ready, "False", Reason::InvalidSpec);
        seen.resource.now = due(&value);
        assert_eq!(inserted(effect(&seen)).revision, 2, "it goes on being renewed");
    }

    #[test]
    fn a_vanished_source_is_told_and_takes_nothing_away() {
        let (mut seen, _) = issued();
        seen.resource.standing = Standing::SourceMissing("the folder is empty".to_owned());
        says(&verdict(&seen), ConditionType::Accepted, "True", Reason::SourceMissing);
        says(&verdict(&seen), ConditionType::Ready, "True", Reason::Issued);
        assert!(effect_after_events(&seen).0.contains(&EventReason::SourceMissing));
    }

    #[test]
    fn a_take_away_is_programmed_only_when_every_replica_has_acknowledged() {
        let (mut seen, _) = issued();
        edit(&mut seen).takeaway_version = FeedVersion(9);
        let mut replica = ReplicaView {
            holder: HolderId::new(),
            acked: FeedVersion(8),
            seen_at: ISSUED,
            stale_after_ms: 1_000,
        };
        seen.resource.replicas = vec![replica];
        says(&verdict(&seen), ConditionType::Programmed, "False", Reason::AwaitingReplicas);
        says(&verdict(&seen), ConditionType::Ready, "False", Reason::AwaitingReplicas);
        assert!(decide(&seen).recheck_at.is_some_and(|at| at < seen.resource.now.plus_ms(1_000)));
        replica.acked = FeedVersion(9);
        seen.resource.replicas = vec![replica];
        says(&verdict(&seen), ConditionType::Ready, "True", Reason::Issued);
    }
}

mod ending {
    use super::*;

    #[test]
    fn revoked_in_the_spec_ends_the_values_and_then_the_secret_goes() {
        let (mut seen, _) = issued();
        seen.resource.spec.state = crds::TokenState::Revoked;
        assert!(matches!(effect(&seen), Effect::Revoke { by: RevokedBy::Spec, .. }));
        (edit(&mut seen).state, edit(&mut seen).revoked_by) = (TokenState::Revoked, Some(RevokedBy::Spec));
        revisions(&mut seen)[0].state = RevisionState::Ended;
        assert!(matches!(effect(&seen), Effect::DeleteSecret { name, .. } if name == "web"));
        seen.secret = SecretSeen::Absent;
        says(&verdict(&seen), ConditionType::Ready, "False", Reason::Revoked);
    }

    #[test]
    fn revoked_through_manage_is_never_undone() {
        let (mut seen, _) = issued();
        (edit(&mut seen).state, edit(&mut seen).revoked_by) = (TokenState::Revoked, Some(RevokedBy::Manage));
        revisions(&mut seen)[0].state = RevisionState::Ended;
        assert!(matches!(effect(&seen), Effect::DeleteSecret { .. }));
        (seen.secret, seen.resource.now) = (SecretSeen::Absent, ISSUED.plus_ms(10 * HOUR));
        (seen.resource.spec.max_requests, seen.base_url) = (Some(3), "http://127.0.0.1:9/v1".to_owned());
        says(&verdict(&seen), ConditionType::Ready, "False", Reason::RevokedByManage);
        assert_eq!(effect_after_events(&seen).0, [EventReason::TokenRevoked]);
    }

    #[test]
    fn deletion_revokes_deletes_the_secret_and_forgets_in_this_order() {
        let (mut seen, _) = issued();
        seen.resource.standing = Standing::Gone;
        assert!(matches!(effect(&seen), Effect::Revoke { by: RevokedBy::Deletion, .. }));
        (edit(&mut seen).state, edit(&mut seen).revoked_by) = (TokenState::Revoked, Some(RevokedBy::Deletion));
        revisions(&mut seen)[0].state = RevisionState::Ended;
        assert!(matches!(effect(&seen), Effect::DeleteSecret { .. }));
        seen.secret = SecretSeen::Absent;
        assert!(matches!(effect(&seen), Effect::Forget(_)));
    }

    #[test]
    fn a_deletion_that_a_crash_cut_short_is_finished_even_if_the_manifest_is_back() {
        let (mut seen, _) = issued();
        (edit(&mut seen).state, edit(&mut seen).revoked_by) = (TokenState::Revoked, Some(RevokedBy::Deletion));
        assert!(matches!(effect(&seen), Effect::DeleteSecret { .. }));
        seen.secret = SecretSeen::Absent;
        assert!(matches!(effect(&seen), Effect::Forget(_)));
    }

    #[test]
    fn a_deleted_token_never_touches_a_file_that_is_not_its_own() {
        let mut seen = declared();
        (seen.secret, seen.resource.standing) = (altered(), Standing::Gone);
        assert!(matches!(effect(&seen), Effect::Forget(_)));
    }

    #[test]
    fn a_deletion_in_the_middle_of_a_rename_takes_both_files() {
        let (mut seen, value) = issued();
        (edit(&mut seen).state, edit(&mut seen).revoked_by) = (TokenState::Revoked, Some(RevokedBy::Deletion));
        seen.secret_name = "other".to_owned();
        seen.former = Some(holding(&value));
        assert!(matches!(effect(&seen), Effect::DeleteSecret { name, .. } if name == "other"));
        seen.secret = SecretSeen::Absent;
        assert!(matches!(effect(&seen), Effect::DeleteSecret { name, .. } if name == "web"));
    }
}

//! A token that needs its first value, and a value on its way to its Secret.

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

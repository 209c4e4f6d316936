//! A Secret that was deleted, changed, or was never ours.

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

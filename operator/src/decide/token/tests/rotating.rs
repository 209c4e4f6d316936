//! A further value because the spec asks for one, and how long the replaced one lives on.

use super::*;

fn rotation(seen: &mut TokenObserved, overlap: Option<&str>, trigger: Option<&str>) {
    seen.resource.spec.rotation = Some(Rotation {
        overlap: overlap.map(str::to_owned),
        trigger: trigger.map(str::to_owned),
    });
}

/// A value in hand whose Secret write has been done, so that it is about to be activated.
fn delivered() -> TokenObserved {
    let (mut seen, _) = issued();
    let next = TokenValue::mint();
    let mut pending = revision(2, RevisionState::Pending, &next);
    pending.write_begun = true;
    revisions(&mut seen).push(pending);
    seen.secret = holding(&next);
    seen
}

fn overlap(seen: &TokenObserved) -> i64 {
    match effect(seen) {
        Effect::Activate { overlap_ms, .. } => overlap_ms,
        other => panic!("not an activation: {other:?}"),
    }
}

#[test]
fn the_first_sight_of_a_trigger_is_noted_and_rotates_nothing() {
    let mut seen = declared();
    rotation(&mut seen, None, Some("a"));
    assert_eq!(inserted(effect(&seen)).rotation_trigger.as_deref(), Some("a"));
    let (mut seen, _) = issued();
    rotation(&mut seen, None, Some("a"));
    revisions(&mut seen)[0].rotation_trigger = Some("a".to_owned());
    says(&verdict(&seen), ConditionType::Ready, "True", Reason::Issued);
}

#[test]
fn a_changed_trigger_issues_a_further_value_in_the_same_period() {
    for before in [None, Some("a")] {
        let (mut seen, _) = issued();
        revisions(&mut seen)[0].rotation_trigger = before.map(str::to_owned);
        rotation(&mut seen, None, Some("b"));
        let next = inserted(effect(&seen));
        assert_eq!((next.revision, next.period, next.rotation_trigger.as_deref()), (2, 1, Some("b")));
    }
}

#[test]
fn a_removed_trigger_rotates_nothing() {
    let (mut seen, _) = issued();
    revisions(&mut seen)[0].rotation_trigger = Some("a".to_owned());
    says(&verdict(&seen), ConditionType::Ready, "True", Reason::Issued);
    rotation(&mut seen, Some("1m"), None);
    says(&verdict(&seen), ConditionType::Ready, "True", Reason::Issued);
}

#[test]
fn a_rotation_waits_for_a_running_overlap_and_says_until_when() {
    let (mut seen, _) = issued();
    let mut before = revision(0, RevisionState::Previous, &TokenValue::mint());
    before.ends_at = seen.resource.now.plus_ms(90_000);
    revisions(&mut seen).insert(0, before.clone());
    rotation(&mut seen, None, Some("b"));
    let status = verdict(&seen);
    says(&status, ConditionType::Ready, "True", Reason::Issued);
    let message = &find(&status.conditions, ConditionType::Ready).unwrap().message;
    assert!(message.contains("waits until revision 0 ends at 1970-01-01T00:19:10Z"), "{message}");
    assert_eq!(status.renewal_time, Some(crate::decide::report::time(before.ends_at)));
    assert_eq!(decide(&seen).recheck_at, Some(before.ends_at));
    seen.resource.now = before.ends_at;
    assert_eq!(inserted(effect(&seen)).revision, 2);
}

#[test]
fn a_rotation_that_is_due_for_renewal_anyway_is_a_renewal() {
    let (mut seen, value) = issued();
    rotation(&mut seen, None, Some("b"));
    seen.resource.now = due(&value);
    let next = inserted(effect(&seen));
    assert_eq!((next.period, next.rotation_trigger.as_deref()), (2, Some("b")));
}

#[test]
fn a_rotated_token_says_rotated_until_it_is_issued_anew() {
    let (mut seen, _) = issued();
    let value = TokenValue::mint();
    revisions(&mut seen)[0].state = RevisionState::Previous;
    let mut second = revision(2, RevisionState::Active, &value);
    (second.issued_at, second.rotation_trigger) = (ISSUED.plus_ms(MINUTE), Some("b".to_owned()));
    revisions(&mut seen).push(second);
    rotation(&mut seen, None, Some("b"));
    seen.secret = holding(&value);
    assert_eq!(effect_after_events(&seen).0, [EventReason::TokenRotated]);
    let status = verdict(&seen);
    says(&status, ConditionType::Ready, "True", Reason::Rotated);
    seen.resource.status = Some(status);
    revisions(&mut seen).remove(0);
    // The status keeps the word after the row of the first revision is gone.
    says(&verdict(&seen), ConditionType::Ready, "True", Reason::Rotated);
}

#[test]
fn the_overlap_is_the_specs_and_else_a_tenth_of_the_life() {
    let mut seen = delivered();
    assert_eq!(overlap(&seen), 6 * MINUTE);
    for (named, ms) in [("0s", 0), ("1m30s", 90_000), ("59m", 59 * MINUTE)] {
        rotation(&mut seen, Some(named), None);
        assert_eq!(overlap(&seen), ms, "{named}");
    }
}

//! A token whose value nears its end.

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
fn a_rotation_that_cannot_be_written_is_told_while_the_delivered_key_works() {
    let (mut seen, _) = issued();
    let next = TokenValue::mint();
    let mut pending = revision(2, RevisionState::Pending, &next);
    pending.write_begun = true;
    revisions(&mut seen).push(pending);
    seen.resource.memory.in_hand = Some(next);
    seen.resource.memory.setback = Some(Setback {
        why: "Secret default/web cannot be written: field is immutable when `immutable` is set".to_owned(),
        retry_at: seen.resource.now.plus_ms(1_000),
        failures: 1,
    });
    let status = verdict(&seen);
    says(&status, ConditionType::Delivered, "True", Reason::Delivered);
    says(&status, ConditionType::Ready, "False", Reason::RenewalFailing);
    let ready = crds::conditions::find(&status.conditions, ConditionType::Ready).expect("Ready");
    assert!(
        ready.message.contains("immutable") && ready.message.contains("works"),
        "{}",
        ready.message
    );
    // Nothing is to be written any more, so nothing is said of it.
    seen.resource.memory.in_hand = None;
    says(&verdict(&seen), ConditionType::Ready, "True", Reason::Issued);
}

#[test]
fn a_revoked_token_does_not_say_that_its_secret_is_deleted_while_that_is_refused() {
    let (mut seen, _) = issued();
    edit(&mut seen).state = TokenState::Revoked;
    seen.resource.memory.setback = Some(Setback {
        why: "Secret default/web cannot be deleted: forbidden".to_owned(),
        retry_at: seen.resource.now.plus_ms(1_000),
        failures: 1,
    });
    says(&verdict(&seen), ConditionType::Delivered, "False", Reason::DeliveryFailed);
    seen.secret = SecretSeen::Absent;
    says(&verdict(&seen), ConditionType::Delivered, "False", Reason::Revoked);
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

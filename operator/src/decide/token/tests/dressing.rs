//! What stands beside the value: formats and base URL; and a Secret that is changed again and again.

use super::*;
use crate::effect::Effect;
use crate::memory::Dress;

fn dress(seen: &TokenObserved) -> Dress {
    Dress {
        formats: seen.formats.clone(),
        base_url: seen.base_url.clone(),
        owned: true,
    }
}

fn content(seen: &mut TokenObserved) -> &mut SecretContent {
    match &mut seen.secret {
        SecretSeen::Present(content) => content,
        other => panic!("the fixture has a Secret: {other:?}"),
    }
}

/// Notes so many repairs now.
fn fought_over(seen: &mut TokenObserved, repairs: u32) {
    for _ in 0..repairs {
        seen.resource.memory.contention.note(seen.resource.now);
    }
}

#[test]
fn changed_formats_rewrite_the_secret_around_the_same_value() {
    for (stand, wanted) in [
        (vec![SecretFormat::Raw], vec![SecretFormat::Raw, SecretFormat::OpenAI]),
        (vec![SecretFormat::Raw, SecretFormat::OpenAI], vec![SecretFormat::OpenAI]),
        (vec![SecretFormat::OpenAI], vec![SecretFormat::Raw]),
    ] {
        let (mut seen, value) = issued();
        content(&mut seen).formats = stand;
        seen.formats.clone_from(&wanted);
        let write = written(effect(&seen));
        assert!(write.value == value && write.formats == wanted && write.expect.is_some() && !write.repair);
    }
}

#[test]
fn a_secret_without_an_address_is_not_rewritten_for_one() {
    let (mut seen, _) = issued();
    seen.formats = vec![SecretFormat::Raw];
    (content(&mut seen).formats, content(&mut seen).base_url) = (vec![SecretFormat::Raw], None);
    says(&verdict(&seen), ConditionType::Delivered, "True", Reason::Delivered);
}

#[test]
fn a_new_value_is_written_in_the_wanted_formats_and_is_no_repair() {
    let mut seen = declared();
    let value = TokenValue::mint();
    let mut pending = revision(1, RevisionState::Pending, &value);
    pending.write_begun = true;
    seen.row = Some(row(&seen, vec![pending]));
    seen.resource.memory.in_hand = Some(value);
    seen.formats = vec![SecretFormat::Raw];
    let write = written(effect(&seen));
    assert!(write.formats == [SecretFormat::Raw] && !write.repair);
}

#[test]
fn an_orphans_secret_is_freed_from_its_token_and_tied_to_it_again_around_the_same_value() {
    let (mut seen, value) = issued();
    seen.resource.memory.written = Some(dress(&seen));
    content(&mut seen).owned = Some(true);
    assert!(matches!(effect(&seen), Effect::SetStatus(_) | Effect::Emit(_)));
    seen.resource.spec.deletion_policy = crds::TokenDeletionPolicy::Orphan;
    edit(&mut seen).deletion = store::TokenDeletionPolicy::Orphan;
    let write = written(effect(&seen));
    assert!(!write.owned && !write.repair && write.value == value);
    let now = seen.resource.now;
    seen.resource.memory.note(&Effect::WriteSecret(write), None, now);
    content(&mut seen).owned = Some(false);
    assert!(!matches!(effect(&seen), Effect::WriteSecret(_)));
    seen.resource.spec.deletion_policy = crds::TokenDeletionPolicy::Revoke;
    edit(&mut seen).deletion = store::TokenDeletionPolicy::Revoke;
    assert!(written(effect(&seen)).owned);
}

#[test]
fn what_was_written_and_is_changed_by_somebody_is_repaired_and_counted() {
    let (mut seen, _) = issued();
    content(&mut seen).base_url = None;
    seen.resource.memory.written = Some(dress(&seen));
    let write = written(effect(&seen));
    assert!(write.repair);
    let now = seen.resource.now;
    seen.resource.memory.note(&Effect::WriteSecret(write), None, now);
    assert_eq!(seen.resource.memory.contention.repairs(), 1);
}

#[test]
fn a_deleted_secret_is_repaired_and_counted() {
    let (mut seen, _) = issued();
    let next = TokenValue::mint();
    let mut pending = revision(2, RevisionState::Pending, &next);
    pending.write_begun = true;
    revisions(&mut seen).push(pending);
    (seen.secret, seen.resource.memory.in_hand) = (SecretSeen::Absent, Some(next));
    assert!(written(effect(&seen)).repair);
}

#[test]
fn a_renewal_is_no_repair() {
    let (mut seen, value) = issued();
    let next = TokenValue::mint();
    let mut pending = revision(2, RevisionState::Pending, &next);
    pending.write_begun = true;
    revisions(&mut seen).push(pending);
    (seen.resource.now, seen.resource.memory.in_hand) = (due(&value), Some(next));
    assert!(!written(effect(&seen)).repair);
}

#[test]
fn a_secret_that_is_changed_again_and_again_is_repaired_ever_more_slowly_and_says_so() {
    let stripped = |seen: &mut TokenObserved| {
        content(seen).base_url = None;
        seen.resource.memory.written = Some(dress(seen));
    };
    let changes: [fn(&mut TokenObserved); 2] = [|seen| seen.secret = SecretSeen::Absent, |seen| seen.secret = altered()];
    for change in changes
        .into_iter()
        .map(|change| Box::new(change) as Box<dyn Fn(&mut TokenObserved)>)
        .chain([Box::new(stripped) as Box<_>])
    {
        let (mut seen, _) = issued();
        fought_over(&mut seen, 2);
        change(&mut seen);
        assert!(
            matches!(effect_after_events(&seen).1, Effect::InsertPending { .. } | Effect::WriteSecret(_)),
            "two are free"
        );
        fought_over(&mut seen, 1);
        let status = verdict(&seen);
        says(&status, ConditionType::Delivered, "False", Reason::SecretContended);
        says(&status, ConditionType::Stalled, "True", Reason::SecretContended);
        let until = seen.resource.now.plus_ms(MINUTE);
        assert_eq!(decide(&seen).recheck_at, Some(until));
        seen.resource.status = Some(status);
        assert!(decide(&seen).effect.is_none(), "told once");
        seen.resource.now = until;
        assert!(matches!(
            effect_after_events(&seen).1,
            Effect::InsertPending { .. } | Effect::WriteSecret(_)
        ));
    }
}

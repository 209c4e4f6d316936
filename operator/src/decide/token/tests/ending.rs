//! A token that is revoked or deleted.

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

#[test]
fn an_orphan_lives_to_its_end_without_its_resource_and_keeps_its_secret() {
    let (mut seen, _) = issued();
    seen.resource.spec.deletion_policy = crds::TokenDeletionPolicy::Orphan;
    assert_eq!(changed(effect(&seen)).deletion, Some(store::TokenDeletionPolicy::Orphan));
    edit(&mut seen).deletion = store::TokenDeletionPolicy::Orphan;
    assert!(!matches!(effect(&seen), Effect::ChangeToken { .. }));
    // What the row says counts: nobody knows the spec of what is gone.
    (seen.resource.standing, seen.resource.spec.deletion_policy) = (Standing::Gone, crds::TokenDeletionPolicy::Revoke);
    assert!(matches!(effect(&seen), Effect::Forget(_)));
    // One that is revoked is nobody's orphan.
    (edit(&mut seen).state, edit(&mut seen).revoked_by) = (TokenState::Revoked, Some(RevokedBy::Spec));
    assert!(matches!(effect(&seen), Effect::DeleteSecret { .. }));
}

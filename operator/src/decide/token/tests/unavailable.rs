//! A token whose project is not permitted, or whose fleet's database is away.

use super::*;

/// The same token while nothing of the database can be read.
fn away(mut seen: TokenObserved) -> TokenObserved {
    (seen.row, seen.secret) = (None, SecretSeen::Absent);
    seen.project = ProjectSeen::Unavailable {
        reason: Reason::DatabaseUnavailable,
        message: "the database does not answer".to_owned(),
    };
    seen
}

/// An issued token whose status stands.
fn told() -> TokenObserved {
    let (mut seen, _) = issued();
    seen.resource.status = Some(verdict(&seen));
    seen
}

#[test]
fn an_issued_token_stays_as_it_was_and_only_its_programming_is_unknown() {
    let told = told();
    let before = told.resource.status.clone().unwrap();
    let mut seen = away(told);
    let status = verdict(&seen);
    says(&status, ConditionType::Programmed, "Unknown", Reason::DatabaseUnavailable);
    says(&status, ConditionType::Ready, "True", Reason::Issued);
    says(&status, ConditionType::Delivered, "True", Reason::Delivered);
    assert_eq!((&status.token_prefix, &status.secret_name), (&before.token_prefix, &before.secret_name));
    assert_eq!(effect_after_events(&seen).0, [], "the fleet tells the event, not each token");
    seen.resource.status = Some(status);
    assert!(decide(&seen).effect.is_none(), "told once");
    assert!(decide(&seen).recheck_at.is_some(), "its end comes all the same");
}

#[test]
fn it_comes_back_as_it_was() {
    let before = told();
    let mut back = before.clone();
    back.resource.status = Some(verdict(&away(before.clone())));
    let (events, effect) = effect_after_events(&back);
    assert_eq!(events, []);
    match effect {
        Effect::SetStatus(Status::Token(status)) => assert_eq!(Some(reason(&status, ConditionType::Programmed).0), Some("True".to_owned())),
        other => panic!("not a status: {other:?}"),
    }
}

#[test]
fn a_project_that_was_missing_and_came_is_not_called_missing_any_more() {
    let mut seen = declared();
    seen.project = ProjectSeen::Missing;
    let before = verdict(&seen);
    says(&before, ConditionType::Ready, "False", Reason::ProjectNotFound);
    seen.resource.status = Some(before);
    says(&verdict(&away(seen)), ConditionType::Ready, "False", Reason::DatabaseUnavailable);
}

#[test]
fn a_new_token_and_a_changed_spec_wait() {
    let status = verdict(&away(declared()));
    says(&status, ConditionType::Ready, "False", Reason::DatabaseUnavailable);
    says(&status, ConditionType::Reconciling, "True", Reason::DatabaseUnavailable);
    let mut changed = away(told());
    changed.resource.object.generation = 2;
    says(&verdict(&changed), ConditionType::Ready, "False", Reason::DatabaseUnavailable);
}

#[test]
fn an_end_comes_though_the_database_is_away() {
    let mut seen = away(told());
    seen.resource.now = ISSUED.plus_ms(HOUR);
    says(&verdict(&seen), ConditionType::Ready, "False", Reason::Expired);
}

#[test]
fn a_deleted_token_is_not_forgotten_before_its_rows_are_dead() {
    let mut seen = away(told());
    seen.resource.standing = Standing::Gone;
    assert!(decide(&seen).effect.is_none());
}

#[test]
fn a_token_whose_project_is_not_permitted_is_neither_issued_nor_renewed() {
    let mut new = declared();
    new.project = ProjectSeen::NotReady;
    says(&verdict(&new), ConditionType::Ready, "False", Reason::ProjectNotReady);
    let (mut seen, value) = issued();
    (seen.project, seen.resource.now) = (ProjectSeen::NotReady, due(&value));
    let status = verdict(&seen);
    says(&status, ConditionType::Ready, "False", Reason::ProjectNotReady);
    assert!(status.renewal_time.is_none());
}

#[test]
fn what_waits_for_a_person_is_stalled_and_what_is_under_way_reconciles() {
    let is_there = |status: &WitheringTokenStatus, about| find(&status.conditions, about).is_some();
    let mut invalid = declared();
    invalid.resource.standing = Standing::Invalid("spec.ttl: must be from 1m".to_owned());
    says(&verdict(&invalid), ConditionType::Stalled, "True", Reason::InvalidSpec);
    let mut missing = declared();
    missing.project = ProjectSeen::Missing;
    says(&verdict(&missing), ConditionType::Reconciling, "True", Reason::ProjectNotFound);
    assert!(!is_there(&verdict(&missing), ConditionType::Stalled));
    let (mut suspended, _) = issued();
    suspended.resource.spec.state = crds::TokenState::Suspended;
    edit(&mut suspended).state = TokenState::Suspended;
    for status in [verdict(&issued().0), verdict(&suspended)] {
        assert!(!is_there(&status, ConditionType::Stalled) && !is_there(&status, ConditionType::Reconciling));
    }
}

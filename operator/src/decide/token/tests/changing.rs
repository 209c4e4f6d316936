//! A changed spec, project or standing.

use super::*;

#[test]
fn suspending_and_resuming_change_only_the_state() {
    let (mut seen, _) = issued();
    seen.resource.spec.state = crds::TokenState::Suspended;
    assert_eq!(changed(effect(&seen)).state, Some(TokenState::Suspended));
    edit(&mut seen).state = TokenState::Suspended;
    let suspended = verdict(&seen);
    says(&suspended, ConditionType::Ready, "False", Reason::Suspended);
    assert!(effect_after_events(&seen).0.contains(&EventReason::TokenSuspended));
    seen.resource.spec.state = crds::TokenState::Active;
    assert_eq!(changed(effect(&seen)).state, Some(TokenState::Active));
    edit(&mut seen).state = TokenState::Active;
    seen.resource.status = Some(suspended);
    assert!(effect_after_events(&seen).0.contains(&EventReason::TokenResumed));
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
fn changed_further_limits_hold_at_once_and_none_means_none() {
    let (mut seen, _) = issued();
    seen.resource.spec.max_in_flight = Some(4);
    let limits = changed(effect(&seen)).limits.expect("limits");
    assert_eq!(limits.iter().map(|limit| limit.max_units).collect::<Vec<_>>(), [4]);
    edit(&mut seen).limits = limits;
    assert!(matches!(effect_after_events(&seen).1, Effect::SetStatus(_)), "they stand so");
    seen.resource.spec.max_in_flight = None;
    assert_eq!(changed(effect(&seen)).limits, Some(Vec::new()));
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

#[test]
fn a_spec_that_breaks_a_rule_and_has_no_good_one_before_it_is_followed_only_in_its_state() {
    let (mut seen, value) = issued();
    seen.resource.standing = Standing::Unusable("spec.ttl: must be from 1m".to_owned());
    (seen.resource.spec.max_requests, seen.resource.spec.ttl) = (Some(3), Some("5s".to_owned()));
    seen.base_url = "http://127.0.0.1:9/v1".to_owned();
    seen.resource.now = due(&value);
    let status = verdict(&seen);
    says(&status, ConditionType::Ready, "False", Reason::InvalidSpec);
    assert!(status.renewal_time.is_none(), "what it would be is not known");
    seen.resource.spec.state = crds::TokenState::Suspended;
    let change = changed(effect(&seen));
    assert_eq!(
        (change.state, change.max_requests, change.clamp_ends),
        (Some(TokenState::Suspended), None, None)
    );
    seen.resource.spec.state = crds::TokenState::Revoked;
    assert!(matches!(effect(&seen), Effect::Revoke { .. }));
    let mut new = declared();
    new.resource.standing = Standing::Unusable("spec.ttl: must be from 1m".to_owned());
    says(&verdict(&new), ConditionType::Stalled, "True", Reason::InvalidSpec);
}

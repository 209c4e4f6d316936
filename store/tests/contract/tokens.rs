//! Tokens and their revisions, from pending to ended.

use store::{
    DbTime, FeedVersion, Owner, PendingRevision, ProjectSpec, ResourceUid, RevisionState, RevisionView, RevokedBy, StoreError, TokenChange,
    TokenState, TokenValue,
};

use crate::harness::{Database, HOUR, T0, World, on_every_engine, owner, pending, project_spec};

fn states(revisions: &[RevisionView]) -> Vec<(i64, RevisionState)> {
    revisions.iter().map(|revision| (revision.revision, revision.state)).collect()
}

async fn authenticates(world: &World, value: &TokenValue) -> bool {
    let grant = world.fleet.load_grant(&value.digest()).await.unwrap();
    let now = world.store.now().await.unwrap();
    grant.is_some_and(|grant| grant.token_state == TokenState::Active && grant.ends_at > now)
}

async fn a_pending_revision_authenticates_and_starts_its_life_at_once(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let value = TokenValue::mint();
    let (id, _) = world
        .fleet
        .insert_pending(&PendingRevision {
            max_requests: Some(7),
            ..pending("app", project, 1, &value)
        })
        .await
        .unwrap();
    assert!(authenticates(&world, &value).await);
    let view = world.view("app").await;
    assert_eq!(
        (view.id, view.project, &view.owner, view.secret_name.as_str()),
        (id, project, &owner("app"), "app")
    );
    assert_eq!(
        (view.state, view.revoked_by, view.period, view.max_requests),
        (TokenState::Active, None, 1, Some(7))
    );
    let quota = view.quota.unwrap();
    assert_eq!((quota.max_units, quota.used, quota.reserved, quota.forfeited), (7, 0, 0, 0));
    let expected = RevisionView {
        revision: 1,
        digest: value.digest(),
        prefix: value.prefix().into(),
        state: RevisionState::Pending,
        write_begun: false,
        issued_at: T0,
        ends_at: T0.plus_ms(HOUR),
        rotation_trigger: None,
    };
    assert_eq!(view.revisions, [expected]);
}

async fn a_pending_row_is_overwritten_only_if_its_write_never_began(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let [first, second, third] = std::array::from_fn(|_| TokenValue::mint());
    let (id, _) = world.fleet.insert_pending(&pending("app", project, 1, &first)).await.unwrap();
    world.fleet.insert_pending(&pending("app", project, 1, &second)).await.unwrap();
    assert!(world.fleet.load_grant(&first.digest()).await.unwrap().is_none(), "nobody can have it");

    world.fleet.begin_secret_write(id, &second.digest()).await.unwrap();
    world.fleet.insert_pending(&pending("app", project, 1, &third)).await.unwrap();
    assert_eq!(
        states(&world.view("app").await.revisions),
        [(1, RevisionState::Pending), (1, RevisionState::Pending)]
    );
    assert!(authenticates(&world, &second).await && authenticates(&world, &third).await);
    let gone = world.fleet.begin_secret_write(id, &first.digest()).await;
    assert!(matches!(gone, Err(StoreError::NotFound { .. })), "its value must not be delivered");
}

async fn activation_ends_the_other_pending_rows_and_happens_once(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let [lost, won] = std::array::from_fn(|_| TokenValue::mint());
    let (id, _) = world.fleet.insert_pending(&pending("app", project, 1, &lost)).await.unwrap();
    world.fleet.begin_secret_write(id, &lost.digest()).await.unwrap();
    world.fleet.insert_pending(&pending("app", project, 1, &won)).await.unwrap();

    let (changed, version) = world.fleet.activate(id, &won.digest(), HOUR).await.unwrap();
    assert!(changed);
    assert_eq!(world.fleet.activate(id, &won.digest(), HOUR).await.unwrap(), (false, version));
    assert_eq!(
        world.fleet.activate(id, &lost.digest(), HOUR).await.unwrap(),
        (false, version),
        "an ended row never comes back"
    );
    let view = world.view("app").await;
    assert_eq!(view.takeaway_version, version, "somebody may hold the value whose write had begun");
    assert!(authenticates(&world, &won).await && !authenticates(&world, &lost).await);
    let grant = world.fleet.load_grant(&lost.digest()).await.unwrap().unwrap();
    assert!(grant.revision_ended && grant.ends_at <= T0);
    assert!(matches!(
        world.fleet.activate(store::TokenId::new(), &won.digest(), 0).await,
        Err(StoreError::NotFound { .. })
    ));
}

async fn a_replaced_revision_lives_to_the_end_of_its_overlap_which_is_no_takeaway(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let first = world.token("app", project, None).await;
    let second = TokenValue::mint();
    world.at(1_000).await;
    world.fleet.insert_pending(&pending("app", project, 2, &second)).await.unwrap();
    world.fleet.activate(first.id, &second.digest(), 60_000).await.unwrap();

    let view = world.view("app").await;
    assert_eq!(states(&view.revisions), [(1, RevisionState::Previous), (2, RevisionState::Active)]);
    assert_eq!(view.revisions[0].ends_at, T0.plus_ms(61_000));
    assert_eq!(view.takeaway_version, FeedVersion(0));
    assert!(authenticates(&world, &first.value).await && authenticates(&world, &second).await);
    world.at(61_000).await;
    let grant = world.fleet.load_grant(&first.value.digest()).await.unwrap().unwrap();
    assert!(
        !grant.revision_ended && grant.ends_at <= T0.plus_ms(61_000),
        "it came to its announced end: expired"
    );
}

async fn an_overlap_never_raises_an_end(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let first = world.token("app", project, None).await;
    let second = TokenValue::mint();
    world.at(HOUR - 10).await;
    world.fleet.insert_pending(&pending("app", project, 2, &second)).await.unwrap();
    world.fleet.activate(first.id, &second.digest(), HOUR).await.unwrap();
    assert_eq!(world.view("app").await.revisions[0].ends_at, T0.plus_ms(HOUR));

    world.at(2 * HOUR - 10).await;
    let third = TokenValue::mint();
    world.fleet.insert_pending(&pending("app", project, 3, &third)).await.unwrap();
    let (_, version) = world.fleet.activate(first.id, &third.digest(), HOUR).await.unwrap();
    let view = world.view("app").await;
    assert_eq!(
        states(&view.revisions),
        [(1, RevisionState::Ended), (2, RevisionState::Ended), (3, RevisionState::Active)][1..]
    );
    assert!(view.takeaway_version < version, "both had run out by themselves");
    assert!(!world.fleet.load_grant(&second.digest()).await.unwrap().unwrap().revision_ended);
}

async fn an_overlap_of_zero_ends_the_previous_value_at_once_and_takes_away(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let first = world.token("app", project, None).await;
    let second = TokenValue::mint();
    world.fleet.insert_pending(&pending("app", project, 2, &second)).await.unwrap();
    let (_, version) = world.fleet.activate(first.id, &second.digest(), 0).await.unwrap();
    let view = world.view("app").await;
    assert_eq!(states(&view.revisions), [(1, RevisionState::Ended), (2, RevisionState::Active)]);
    assert_eq!(view.takeaway_version, version);
    assert!(world.fleet.load_grant(&first.value.digest()).await.unwrap().unwrap().revision_ended);
}

async fn at_most_one_value_overlaps(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let first = world.token("app", project, None).await;
    for revision in 2..=4 {
        let next = TokenValue::mint();
        world.fleet.insert_pending(&pending("app", project, revision, &next)).await.unwrap();
        world.fleet.activate(first.id, &next.digest(), HOUR).await.unwrap();
    }
    let view = world.view("app").await;
    assert_eq!(
        states(&view.revisions),
        [(2, RevisionState::Ended), (3, RevisionState::Previous), (4, RevisionState::Active)]
    );
    assert_eq!(states(&world.fleet.tokens().await.unwrap()[0].revisions), states(&view.revisions));
    assert!(!authenticates(&world, &first.value).await);
}

async fn ended_revisions_are_remembered_for_thirty_days(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let first = world.token("app", project, None).await;
    for (revision, day) in [(2, 1), (3, 32)] {
        world.at(day * 24 * HOUR).await;
        let next = TokenValue::mint();
        world.fleet.insert_pending(&pending("app", project, revision, &next)).await.unwrap();
        world.fleet.activate(first.id, &next.digest(), 0).await.unwrap();
        assert_eq!(world.fleet.load_grant(&first.value.digest()).await.unwrap().is_some(), revision == 2);
    }
}

async fn a_new_period_opens_a_new_quota_and_a_rotation_within_one_does_not(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, Some(10)).await;
    let before = world.view("app").await.quota.unwrap();
    let rotated = PendingRevision {
        max_requests: Some(99),
        ..pending("app", project, 2, &TokenValue::mint())
    };
    world.fleet.insert_pending(&rotated).await.unwrap();
    let view = world.view("app").await;
    assert_eq!((view.quota.unwrap(), view.max_requests, view.period), (before, Some(10), 1));

    let value = TokenValue::mint();
    let renewed = PendingRevision {
        period: 2,
        max_requests: Some(20),
        ..pending("app", project, 3, &value)
    };
    world.fleet.insert_pending(&renewed).await.unwrap();
    let view = world.view("app").await;
    let quota = view.quota.unwrap();
    assert_ne!(quota.id, before.id);
    assert_eq!((quota.max_units, view.max_requests, view.period), (20, Some(20), 2));
    for value in [&token.value, &value] {
        let grant = world.fleet.load_grant(&value.digest()).await.unwrap().unwrap();
        assert_eq!(grant.requests.unwrap().id, quota.id, "shared by all live revisions");
    }

    let late = PendingRevision {
        period: 1,
        ..pending("app", project, 4, &TokenValue::mint())
    };
    world.fleet.insert_pending(&late).await.unwrap();
    assert_eq!(world.view("app").await.quota.unwrap().id, quota.id, "an older period never comes back");
}

async fn a_limit_is_set_lowered_raised_removed_and_set_again_on_the_same_quota(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, None).await;
    assert!(world.view("app").await.quota.is_none());
    let change = async |max: Option<u64>| {
        let change = TokenChange {
            max_requests: Some(max),
            ..Default::default()
        };
        let version = world.fleet.change_token(token.id, &change).await.unwrap();
        let view = world.view("app").await;
        assert_eq!(view.max_requests, max);
        (view.takeaway_version == version, view.quota)
    };

    let (takes_away, quota) = change(Some(10)).await;
    let id = quota.unwrap().id;
    assert!(takes_away, "from none to some is narrower");
    world
        .fleet
        .settle(
            store::HolderId::new(),
            &[store::LeaseReport {
                quota: id,
                spent: 3,
                amount: 3,
                want: 0,
                overrun: 0,
                need: 1,
            }],
        )
        .await
        .unwrap();
    for (max, narrower) in [(Some(20), false), (Some(5), true)] {
        let (takes_away, quota) = change(max).await;
        let quota = quota.unwrap();
        assert_eq!((takes_away, quota.id, quota.max_units, quota.used), (narrower, id, max.unwrap(), 3));
    }
    assert_eq!(change(None).await, (false, None));
    assert!(world.fleet.load_grant(&token.value.digest()).await.unwrap().unwrap().requests.is_none());
    let (takes_away, quota) = change(Some(8)).await;
    assert_eq!(
        (takes_away, quota.unwrap().id, quota.unwrap().used),
        (true, id, 3),
        "what was used stays used"
    );
}

async fn a_suspended_token_is_refused_until_it_is_resumed(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, None).await;
    let to = |state| TokenChange {
        state: Some(state),
        ..Default::default()
    };
    let version = world.fleet.change_token(token.id, &to(TokenState::Suspended)).await.unwrap();
    assert!(!authenticates(&world, &token.value).await);
    assert_eq!(world.view("app").await.takeaway_version, version);
    world.fleet.change_token(token.id, &to(TokenState::Active)).await.unwrap();
    assert!(authenticates(&world, &token.value).await);
    assert_eq!(world.view("app").await.takeaway_version, version);
}

async fn clamping_lowers_ends_and_never_raises_them(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, None).await;
    let clamp = |at: DbTime| TokenChange {
        clamp_ends: Some(at),
        ..Default::default()
    };
    let before = world.fleet.feed_head().await.unwrap().version;
    assert_eq!(world.fleet.change_token(token.id, &clamp(T0.plus_ms(2 * HOUR))).await.unwrap(), before);
    let version = world.fleet.change_token(token.id, &clamp(T0.plus_ms(60_000))).await.unwrap();
    let view = world.view("app").await;
    assert_eq!((view.revisions[0].ends_at, view.takeaway_version), (T0.plus_ms(60_000), version));
}

async fn revoking_ends_every_revision_and_is_never_undone(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, None).await;
    let waiting = TokenValue::mint();
    world.fleet.insert_pending(&pending("app", project, 2, &waiting)).await.unwrap();
    let version = world.fleet.revoke_token(token.id, RevokedBy::Manage).await.unwrap();
    let view = world.view("app").await;
    assert_eq!(
        (view.state, view.revoked_by, view.takeaway_version),
        (TokenState::Revoked, Some(RevokedBy::Manage), version)
    );
    assert!(
        view.revisions
            .iter()
            .all(|revision| revision.state == RevisionState::Ended && revision.ends_at <= T0)
    );
    for value in [&token.value, &waiting] {
        let grant = world.fleet.load_grant(&value.digest()).await.unwrap().unwrap();
        assert!(grant.revision_ended && grant.token_state == TokenState::Revoked);
    }

    assert_eq!(
        world.fleet.revoke_token(token.id, RevokedBy::Spec).await.unwrap(),
        version,
        "who was first stays noted"
    );
    assert_eq!(world.view("app").await.revoked_by, Some(RevokedBy::Manage));
    let resume = TokenChange {
        state: Some(TokenState::Active),
        ..Default::default()
    };
    for refused in [
        world.fleet.change_token(token.id, &resume).await.err(),
        world.fleet.insert_pending(&pending("app", project, 3, &TokenValue::mint())).await.err(),
    ] {
        assert!(
            matches!(&refused, Some(StoreError::Refused(why)) if why.contains("default/app is revoked")),
            "{refused:?}"
        );
    }
    assert!(!world.fleet.activate(token.id, &waiting.digest(), 0).await.unwrap().0);
    assert_eq!(world.view("app").await.state, TokenState::Revoked);
}

async fn asking_for_revoked_as_a_state_revokes(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, None).await;
    world
        .fleet
        .change_token(
            token.id,
            &TokenChange {
                state: Some(TokenState::Revoked),
                ..Default::default()
            },
        )
        .await
        .unwrap();
    let view = world.view("app").await;
    assert_eq!((view.state, view.revoked_by), (TokenState::Revoked, Some(RevokedBy::Spec)));
    assert!(!authenticates(&world, &token.value).await);
}

async fn a_recreated_resource_inherits_nothing(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, Some(10)).await;
    let value = TokenValue::mint();
    let again = Owner {
        uid: ResourceUid::new("uid-another"),
        ..owner("app")
    };
    let (id, _) = world
        .fleet
        .insert_pending(&PendingRevision {
            owner: again,
            ..pending("app", project, 1, &value)
        })
        .await
        .unwrap();
    assert_ne!(id, token.id);
    assert_eq!(world.fleet.tokens().await.unwrap().len(), 2);
}

async fn a_token_that_moves_to_another_project_takes_away_what_is_known_of_it(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    world.token("app", project, None).await;
    let (other, _) = world.fleet.put_project(&ProjectSpec { ..project_spec("other") }).await.unwrap();
    let moved = PendingRevision {
        secret_name: "elsewhere".into(),
        ..pending("app", other, 2, &TokenValue::mint())
    };
    let (_, version) = world.fleet.insert_pending(&moved).await.unwrap();
    let view = world.view("app").await;
    assert_eq!(
        (view.project, view.takeaway_version, view.secret_name.as_str()),
        (other, version, "elsewhere")
    );
}

async fn what_is_not_there_is_said_by_name(database: Database) {
    let world = database.fleet().await;
    let missing = store::TokenId::new();
    let errors = [
        world.fleet.revoke_token(missing, RevokedBy::Spec).await.err(),
        world.fleet.change_token(missing, &TokenChange::default()).await.err(),
        world
            .fleet
            .insert_pending(&pending("app", store::ProjectId::new(), 1, &TokenValue::mint()))
            .await
            .err(),
    ];
    for error in errors {
        assert!(matches!(error, Some(StoreError::NotFound { .. })), "{error:?}");
    }
    assert!(world.fleet.token_by_uid(&owner("app").uid).await.unwrap().is_none());
    assert!(world.fleet.tokens().await.unwrap().is_empty());
}

on_every_engine!(
    a_pending_revision_authenticates_and_starts_its_life_at_once,
    a_pending_row_is_overwritten_only_if_its_write_never_began,
    activation_ends_the_other_pending_rows_and_happens_once,
    a_replaced_revision_lives_to_the_end_of_its_overlap_which_is_no_takeaway,
    an_overlap_never_raises_an_end,
    an_overlap_of_zero_ends_the_previous_value_at_once_and_takes_away,
    at_most_one_value_overlaps,
    ended_revisions_are_remembered_for_thirty_days,
    a_new_period_opens_a_new_quota_and_a_rotation_within_one_does_not,
    a_limit_is_set_lowered_raised_removed_and_set_again_on_the_same_quota,
    a_suspended_token_is_refused_until_it_is_resumed,
    clamping_lowers_ends_and_never_raises_them,
    revoking_ends_every_revision_and_is_never_undone,
    asking_for_revoked_as_a_state_revokes,
    a_recreated_resource_inherits_nothing,
    a_token_that_moves_to_another_project_takes_away_what_is_known_of_it,
    what_is_not_there_is_said_by_name,
);

//! Projects and tokens through `/manage`: each act is one version with one audit row, done once, and only on rows that no resource owns.

use std::collections::BTreeSet;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Map;
use store::{
    Act, BulkRevocation, HolderId, IdempotencyKey, ManageError, NewProject, NewToken, ProjectId, ProjectPatch, ProjectState, StoredAnswer, Subject,
    TokenFilter, TokenId, TokenPatch, TokenState, TokenValue, UsageDelta, UsageFilter, UsageGrouping,
};

use crate::harness::{Database, HOUR, T0, World, echo, on_every_engine};

pub(crate) fn act(action: &'static str) -> Act {
    Act {
        writer: HolderId::new(),
        action,
        actor: "management".into(),
        request_id: "r1".into(),
        detail: Map::new(),
        if_version: None,
        idempotency: None,
    }
}

fn once(key: &str, request: u8) -> Act {
    Act {
        idempotency: Some(IdempotencyKey {
            scope: "POST /manage/tokens".into(),
            key: key.into(),
            request_digest: [request; 32],
        }),
        ..act("token.create")
    }
}

fn answer(body: impl ToString) -> StoredAnswer {
    StoredAnswer {
        status: 201,
        version: Some(1),
        body: body.to_string().into(),
        replayed: false,
    }
}

pub(crate) async fn create(world: &World, name: &str, act: &Act) -> Result<ProjectId, ManageError> {
    let new = NewProject {
        name: name.into(),
        provider: None,
        key: Some(SecretString::from("sk-0123456789-0123456789-0123456789")),
    };
    let made = world.fleet.create_project(act, &new, |project| answer(project.id)).await?;
    Ok(made.body.expose_secret().parse().unwrap())
}

async fn world(database: Database) -> World {
    let world = database.fleet().await;
    world.fleet.put_providers(&[echo()]).await.unwrap();
    world
}

fn new_token(project: ProjectId, max_requests: Option<u64>) -> NewToken {
    NewToken {
        project,
        name: Some("app".into()),
        ttl_ms: HOUR,
        max_requests,
        value: TokenValue::mint(),
    }
}

async fn issue(world: &World, new: &NewToken, act: &Act) -> TokenId {
    let made = world.fleet.create_token(act, new, |token| answer(token.id)).await.unwrap();
    made.body.expose_secret().parse().unwrap()
}

async fn head(world: &World) -> i64 {
    world.fleet.feed_head().await.unwrap().version.0
}

async fn a_token_that_is_created_is_granted_and_one_that_is_revoked_is_not(database: Database) {
    let world = world(database).await;
    let project = create(&world, "My Project", &act("project.create")).await.unwrap();
    let new = new_token(project, Some(5));
    let id = issue(&world, &new, &act("token.create")).await;
    let grant = world.fleet.load_grant(&new.value.digest()).await.unwrap().unwrap();
    assert_eq!((grant.token, grant.project, grant.ends_at), (id, project, T0.plus_ms(HOUR)));
    assert_eq!((grant.token_name.as_str(), grant.project_name.as_str()), ("app", "My Project"));
    assert_eq!(grant.requests.unwrap().max_units, 5);
    assert_eq!(world.fleet.token_of_value(&new.value.digest()).await.unwrap(), id);

    let before = head(&world).await;
    let version = world.fleet.revoke_managed_token(&act("token.revoke"), id).await.unwrap().unwrap();
    assert_eq!(version.0, before + 1);
    let changes = world.fleet.changes_after(store::FeedVersion(before)).await.unwrap().unwrap();
    assert_eq!(changes.iter().map(|change| change.subject).collect::<Vec<_>>(), [Subject::Token(id)]);
    let grant = world.fleet.load_grant(&new.value.digest()).await.unwrap().unwrap();
    assert!(grant.revision_ended && grant.token_state == TokenState::Revoked);
    assert_eq!(world.fleet.revoke_managed_token(&act("token.revoke"), id).await.unwrap(), None);
    assert_eq!(head(&world).await, before + 1, "a second time nothing is written");
    let shown = world.fleet.managed_token(id).await.unwrap();
    assert_eq!((shown.state, shown.expires_at), (TokenState::Revoked, Some(T0.plus_ms(HOUR))));
}

async fn all_tokens_of_a_project_go_with_one_version_that_each_of_them_notes(database: Database) {
    let world = world(database).await;
    let project = world.project("team").await;
    let declared = world.token("declared", project, None).await;
    let ours = issue(&world, &new_token(project, None), &act("token.create")).await;
    let before = head(&world).await;
    let revoke = act("token.revoke_batch");
    let counts = |counts: BulkRevocation| answer(format!("{}/{}", counts.revoked, counts.already_revoked));
    let done = world.fleet.revoke_tokens_of(&revoke, project, counts).await.unwrap();
    assert_eq!(done.body.expose_secret(), "2/0");
    assert_eq!(head(&world).await, before + 1);
    let view = world.view("declared").await;
    assert_eq!(
        (view.state, view.takeaway_version.0),
        (TokenState::Revoked, before + 1),
        "its resource reports it"
    );
    assert_eq!(view.revoked_by, Some(store::RevokedBy::Manage));
    assert_eq!(world.fleet.managed_token(ours).await.unwrap().state, TokenState::Revoked);
    let grant = world.fleet.load_grant(&declared.value.digest()).await.unwrap().unwrap();
    assert!(grant.revision_ended);
}

async fn what_a_resource_owns_is_shown_and_refused_to_every_write_but_revocation(database: Database) {
    let world = world(database).await;
    let project = world.project("team").await;
    let token = world.token("app", project, Some(7)).await;
    let before = head(&world).await;
    let patch = TokenPatch {
        active: Some(false),
        ..TokenPatch::default()
    };
    let refused = world
        .fleet
        .change_managed_token(&act("token.update"), token.id, &patch)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, ManageError::Owned { kind: "WitheringToken", name, .. } if name == "app"),
        "{refused}"
    );
    let patch = ProjectPatch {
        active: Some(false),
        ..ProjectPatch::default()
    };
    let refused = world.fleet.change_project(&act("project.update"), project, &patch).await.unwrap_err();
    assert!(
        matches!(&refused, ManageError::Owned { kind: "LLMProject", name, .. } if name == "team"),
        "{refused}"
    );
    assert_eq!(head(&world).await, before);
    let shown = world.fleet.managed_token(token.id).await.unwrap();
    assert_eq!((shown.max_requests, shown.owner.unwrap().name), (Some(7), "app".to_owned()));
    assert!(world.fleet.revoke_managed_token(&act("token.revoke"), token.id).await.unwrap().is_some());
}

async fn a_change_is_one_version_and_no_change_is_none(database: Database) {
    let world = world(database).await;
    let project = create(&world, "p", &act("project.create")).await.unwrap();
    let id = issue(&world, &new_token(project, Some(5)), &act("token.create")).await;
    let before = (head(&world).await, world.fleet.managed_token(id).await.unwrap().version);
    let patch = TokenPatch {
        active: Some(true),
        max_requests: Some(Some(5)),
        name: Some("app".into()),
        ttl_ms: None,
    };
    let (same, version) = world.fleet.change_managed_token(&act("token.update"), id, &patch).await.unwrap();
    assert_eq!((version, head(&world).await, same.version), (None, before.0, before.1));
    let patch = TokenPatch {
        max_requests: Some(None),
        ttl_ms: Some(2 * HOUR),
        ..patch
    };
    let seen = Act {
        if_version: Some(before.1),
        ..act("token.update")
    };
    let (changed, version) = world.fleet.change_managed_token(&seen, id, &patch).await.unwrap();
    assert_eq!((version.unwrap().0, changed.version), (before.0 + 1, before.1 + 1));
    assert_eq!((changed.max_requests, changed.expires_at), (None, Some(T0.plus_ms(2 * HOUR))));
    let stale = world.fleet.change_managed_token(&seen, id, &patch).await.unwrap_err();
    assert!(matches!(stale, ManageError::PreconditionFailed), "{stale}");

    let patch = ProjectPatch {
        name: Some("p".into()),
        key: Some(SecretString::from("sk-0123456789-0123456789-0123456789")),
        active: Some(true),
        revoke_tokens: false,
    };
    let before = head(&world).await;
    assert_eq!(world.fleet.change_project(&act("project.update"), project, &patch).await.unwrap().1, None);
    assert_eq!(head(&world).await, before);
    let patch = ProjectPatch {
        active: Some(false),
        revoke_tokens: true,
        ..ProjectPatch::default()
    };
    let (off, version) = world.fleet.change_project(&act("project.update"), project, &patch).await.unwrap();
    assert_eq!(
        (off.state, off.deactivated_at, version.unwrap().0),
        (ProjectState::Inactive, Some(T0), before + 1)
    );
    assert_eq!(world.fleet.managed_token(id).await.unwrap().state, TokenState::Revoked);
}

async fn of_many_who_want_one_name_at_once_one_gets_it(database: Database) {
    let world = world(database).await;
    let tries = (0..8).map(|_| async { create(&world, "one", &act("project.create")).await });
    let made = futures_util::future::join_all(tries).await;
    let taken = made.iter().filter(|made| matches!(made, Err(ManageError::NameTaken))).count();
    assert_eq!((made.iter().filter(|made| made.is_ok()).count(), taken), (1, 7), "{made:?}");
    let [a, b] = [
        create(&world, "a", &act("project.create")).await.unwrap(),
        create(&world, "b", &act("project.create")).await.unwrap(),
    ];
    let rename = ProjectPatch {
        name: Some("c".into()),
        ..ProjectPatch::default()
    };
    let renames = [a, b].map(|id| {
        let (world, rename) = (&world, &rename);
        async move { world.fleet.change_project(&act("project.update"), id, rename).await.map(drop) }
    });
    let renamed = futures_util::future::join_all(renames).await;
    let taken = renamed.iter().filter(|renamed| matches!(renamed, Err(ManageError::NameTaken))).count();
    assert_eq!((renamed.iter().filter(|renamed| renamed.is_ok()).count(), taken), (1, 1), "{renamed:?}");
}

async fn a_request_that_comes_many_times_at_once_under_one_key_is_done_once(database: Database) {
    let world = world(database).await;
    let project = create(&world, "p", &act("project.create")).await.unwrap();
    let before = head(&world).await;
    let tries = (0..8).map(|_| async {
        let new = new_token(project, None);
        let made = world
            .fleet
            .create_token(&once("k", 1), &new, |_| answer(new.value.expose()))
            .await
            .unwrap();
        (made.replayed, made.status, made.version, made.body.expose_secret().to_owned())
    });
    let made = futures_util::future::join_all(tries).await;
    assert_eq!(made.iter().filter(|(replayed, ..)| !replayed).count(), 1);
    assert_eq!(
        made.iter()
            .map(|(_, status, version, body)| (status, version, body))
            .collect::<BTreeSet<_>>()
            .len(),
        1
    );
    assert_eq!(head(&world).await, before + 1);
    assert_eq!(world.fleet.managed_tokens(&TokenFilter::default(), 10).await.unwrap().len(), 1);

    let kept = world.fleet.kept_answer(&once("k", 1)).await.unwrap().unwrap();
    assert_eq!(kept.body.expose_secret(), made[0].3);
    let other = world.fleet.create_token(&once("k", 2), &new_token(project, None), |_| answer("")).await;
    assert!(matches!(other, Err(ManageError::IdempotencyReused)), "{other:?}");
    assert_eq!(
        world.database.number("SELECT COUNT(*) FROM tokens").await,
        1,
        "what was refused left nothing behind"
    );
    world.at(24 * HOUR).await;
    assert!(
        world.fleet.kept_answer(&once("k", 2)).await.unwrap().is_none(),
        "after a day the key is free"
    );
    let later = world
        .fleet
        .create_token(&once("k", 2), &new_token(project, None), |_| answer("later"))
        .await
        .unwrap();
    assert_eq!((later.replayed, later.body.expose_secret()), (false, "later"));
}

async fn a_token_that_is_made_while_its_project_is_deleted_does_not_outlive_it(database: Database) {
    let world = std::sync::Arc::new(world(database).await);
    for round in 0..15 {
        let project = world
            .fleet
            .put_project(&crate::harness::project_spec(&format!("team-{round}")))
            .await
            .unwrap()
            .0;
        let deleting = tokio::spawn({
            let world = std::sync::Arc::clone(&world);
            async move { world.fleet.delete_project(project).await.unwrap() }
        });
        let made = world
            .fleet
            .create_token(&act("token.create"), &new_token(project, None), |token| answer(token.id))
            .await;
        deleting.await.unwrap();
        assert!(matches!(
            made,
            Ok(_) | Err(store::ManageError::ProjectNotFound | store::ManageError::ProjectInactive)
        ));
        let live = "SELECT COUNT(*) FROM token_revisions WHERE state <> 'Ended'";
        assert_eq!(world.database.number(live).await, 0, "round {round}");
    }
}

async fn a_project_wants_a_provider_that_is_there_and_a_key_that_it_needs(database: Database) {
    let world = database.fleet().await;
    let create = |provider: Option<&str>, key: bool| {
        let new = NewProject {
            name: format!("{provider:?}{key}"),
            provider: provider.map(str::to_owned),
            key: key.then(|| SecretString::from("sk-short")),
        };
        let fleet = world.fleet.clone();
        async move {
            fleet
                .create_project(&act("project.create"), &new, |project| answer(project.provider.as_deref().unwrap()))
                .await
        }
    };
    assert!(matches!(create(None, true).await, Err(ManageError::ProviderUnclear { count: 0 })));
    let named = |name: &str| store::ProviderSpec {
        name: name.into(),
        api: store::ProviderApi::OpenAi,
        base_url: Some("https://api.example.com".into()),
        auth: store::ProviderAuth::Bearer,
        prices: "[]".into(),
    };
    world.fleet.put_providers(&[echo(), named("other")]).await.unwrap();
    assert!(matches!(create(None, true).await, Err(ManageError::ProviderUnclear { count: 2 })));
    assert!(matches!(create(Some("nobody"), true).await, Err(ManageError::ProviderNotFound { .. })));
    assert!(matches!(create(Some("other"), false).await, Err(ManageError::KeyMissing { .. })));
    assert_eq!(create(Some("echo"), false).await.unwrap().body.expose_secret(), "echo");
    world.fleet.put_providers(&[echo(), named("openai")]).await.unwrap();
    assert_eq!(create(None, true).await.unwrap().body.expose_secret(), "openai");
    assert_eq!(world.database.number("SELECT COUNT(*) FROM projects").await, 2);
}

async fn lists_lead_from_page_to_page(database: Database) {
    let world = world(database).await;
    let mut ids = Vec::new();
    for name in ["c", "a", "b", "B"] {
        ids.push(create(&world, name, &act("project.create")).await.unwrap());
    }
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let page = world.fleet.managed_projects(after, 3).await.unwrap();
        names.extend(page.iter().map(|project| project.name.clone()));
        match page.last() {
            Some(last) if page.len() == 3 => after = Some(last.id),
            _ => break,
        }
    }
    assert_eq!(names, ["B", "a", "b", "c"]);
    let mut tokens = Vec::new();
    for project in [ids[0], ids[1], ids[0]] {
        tokens.push(issue(&world, &new_token(project, None), &act("token.create")).await);
    }
    let list = |filter: TokenFilter| {
        let fleet = world.fleet.clone();
        async move {
            fleet
                .managed_tokens(&filter, 10)
                .await
                .unwrap()
                .iter()
                .map(|token| token.id)
                .collect::<Vec<_>>()
        }
    };
    let of = |projects: &[ProjectId]| TokenFilter {
        projects: projects.to_vec(),
        ..TokenFilter::default()
    };
    assert_eq!(list(TokenFilter::default()).await, [tokens[2], tokens[1], tokens[0]]);
    assert_eq!(list(of(&[ids[0]])).await, [tokens[2], tokens[0]]);
    assert_eq!(list(of(&[ids[0], ids[1]])).await, []);
    let after = TokenFilter {
        after: Some(tokens[2]),
        ..TokenFilter::default()
    };
    assert_eq!(list(after).await, [tokens[1], tokens[0]]);
    let active = TokenFilter {
        active_only: true,
        ..TokenFilter::default()
    };
    world.fleet.revoke_managed_token(&act("token.revoke"), tokens[0]).await.unwrap();
    assert_eq!(list(active.clone()).await, [tokens[2], tokens[1]]);
    world.at(HOUR).await;
    assert_eq!(list(active).await, []);
}

async fn a_limit_that_is_put_on_a_token_counts_what_was_used_before(database: Database) {
    let world = world(database).await;
    let project = create(&world, "p", &act("project.create")).await.unwrap();
    let token = issue(&world, &new_token(project, None), &act("token.create")).await;
    let limit = async |max: Option<u64>| {
        let patch = TokenPatch {
            max_requests: Some(max),
            ..TokenPatch::default()
        };
        world
            .fleet
            .change_managed_token(&act("token.update"), token, &patch)
            .await
            .unwrap()
            .0
            .requests
    };
    let book = async |seq: u64, requests: u64| {
        let delta = UsageDelta {
            day: 1,
            project: Some(project),
            token: Some(token),
            requests,
            ..UsageDelta::default()
        };
        let holder = HolderId::new();
        world.fleet.add_usage(holder, seq, &[delta]).await.unwrap();
    };
    book(1, 9).await;
    assert_eq!(limit(Some(5)).await, 9, "it is used up at once");
    assert_eq!(limit(None).await, 9);
    book(1, 6).await;
    assert_eq!(limit(Some(20)).await, 15, "what came while there was no limit counts, too");
    assert_eq!(limit(Some(30)).await, 15, "and is not counted twice");
}

async fn a_used_database_goes_a_version_back_and_up_again(database: Database) {
    let world = world(database).await;
    for name in ["a", "b"] {
        create(&world, name, &act("project.create")).await.unwrap();
    }
    world.store.migrate_down(2).await.unwrap();
    world.store.migrate().await.unwrap();
    create(&world, "c", &act("project.create")).await.unwrap();
    let chains = world.fleet.verify_audit().await.unwrap();
    assert!(chains.iter().all(|chain| chain.first_broken_seq.is_none()), "{chains:?}");
}

async fn usage_is_summed_by_what_is_asked_for(database: Database) {
    let world = world(database).await;
    let project = create(&world, "p", &act("project.create")).await.unwrap();
    let tokens = [
        issue(&world, &new_token(project, None), &act("token.create")).await,
        issue(&world, &new_token(project, None), &act("token.create")).await,
    ];
    let delta = |day, token, model: &str, requests| UsageDelta {
        day,
        project: Some(project),
        token: Some(token),
        model: model.into(),
        requests,
        cost: 7,
        last_at: T0.plus_ms(i64::from(day)),
        ..UsageDelta::default()
    };
    let deltas = [delta(1, tokens[0], "m", 1), delta(2, tokens[0], "n", 2), delta(2, tokens[1], "m", 4)];
    assert_eq!(world.fleet.managed_token(tokens[0]).await.unwrap().last_used_at, None);
    world.fleet.add_usage(store::HolderId::new(), 1, &deltas).await.unwrap();
    assert_eq!(world.fleet.managed_token(tokens[0]).await.unwrap().last_used_at, Some(T0.plus_ms(2)));
    let sums = |filter: UsageFilter, by: UsageGrouping| {
        let fleet = world.fleet.clone();
        async move { fleet.usage_sums(&filter, by, 0, 10).await.unwrap() }
    };
    let all = sums(UsageFilter::default(), UsageGrouping::default()).await;
    assert_eq!((all.len(), all[0].requests, all[0].cost, all[0].day), (1, 7, 21, None));
    let by_day = UsageGrouping {
        day: true,
        ..UsageGrouping::default()
    };
    let days: Vec<_> = sums(UsageFilter::default(), by_day)
        .await
        .iter()
        .map(|sum| (sum.day, sum.requests))
        .collect();
    assert_eq!(days, [(Some(2), 6), (Some(1), 1)]);
    let of = UsageFilter {
        token: Some(tokens[0]),
        from: Some(2),
        ..UsageFilter::default()
    };
    let by_model = UsageGrouping {
        model: true,
        token: true,
        ..UsageGrouping::default()
    };
    let rows = sums(of, by_model).await;
    assert_eq!(
        (rows.len(), rows[0].model.as_deref(), rows[0].token, rows[0].requests),
        (1, Some("n"), Some(tokens[0]), 2)
    );
    assert_eq!(world.fleet.managed_token(tokens[0]).await.unwrap().requests, 3);
    let nobody = UsageFilter {
        projects: vec![ProjectId::new()],
        ..UsageFilter::default()
    };
    assert!(sums(nobody, by_day).await.is_empty());
}

on_every_engine!(
    a_token_that_is_created_is_granted_and_one_that_is_revoked_is_not,
    all_tokens_of_a_project_go_with_one_version_that_each_of_them_notes,
    what_a_resource_owns_is_shown_and_refused_to_every_write_but_revocation,
    a_change_is_one_version_and_no_change_is_none,
    of_many_who_want_one_name_at_once_one_gets_it,
    a_request_that_comes_many_times_at_once_under_one_key_is_done_once,
    a_token_that_is_made_while_its_project_is_deleted_does_not_outlive_it,
    a_project_wants_a_provider_that_is_there_and_a_key_that_it_needs,
    lists_lead_from_page_to_page,
    a_limit_that_is_put_on_a_token_counts_what_was_used_before,
    a_used_database_goes_a_version_back_and_up_again,
    usage_is_summed_by_what_is_asked_for,
);

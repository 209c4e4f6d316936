//! What an operator of a cluster needs besides tokens and projects: leading, and looking over what it owns.

use store::{
    Owner, PendingRevision, ProjectSpec, ProjectState, ProviderSpec, ResourceUid, RevokedBy, StoreError, TokenChange, TokenState, TokenValue,
};

use crate::harness::{Database, World, echo, on_every_engine, owner, pending, project_spec};

/// All that can be asked of the database, so that a write that went through shows.
async fn state(world: &World) -> String {
    let head = world.fleet.feed_head().await.unwrap().version;
    let (providers, tokens) = (world.fleet.providers().await.unwrap(), world.fleet.tokens().await.unwrap());
    let projects: Vec<_> = world.fleet.projects().await.unwrap().into_iter().map(|row| (row.id, row.state)).collect();
    format!("{head:?} {providers:?} {tokens:?} {projects:?}")
}

async fn a_new_leader_fences_every_write_of_the_one_before(database: Database) {
    let world = database.fleet().await;
    assert_eq!(world.fleet.leads(), None);
    let first = world.fleet.lead().await.unwrap();
    assert_eq!(first.leads(), Some(1));
    first.put_providers(&[echo()]).await.unwrap();
    let (project, _) = first.put_project(&project_spec("team")).await.unwrap();
    let (ready, begun) = (TokenValue::mint(), TokenValue::mint());
    let (token, _) = first.insert_pending(&pending("app", project, 1, &ready)).await.unwrap();
    first.activate(token, &ready.digest(), 0).await.unwrap();
    first.insert_pending(&pending("app", project, 2, &begun)).await.unwrap();

    let second = world.fleet.lead().await.unwrap();
    assert_eq!((second.leads(), world.fleet.feed_head().await.unwrap().epoch), (Some(2), 2));
    let before = state(&world).await;
    let other = ProviderSpec {
        name: "other".to_owned(),
        ..echo()
    };
    let inactive = ProjectSpec {
        state: ProjectState::Inactive,
        ..project_spec("team")
    };
    let suspended = TokenChange {
        state: Some(TokenState::Suspended),
        ..TokenChange::default()
    };
    let refused = [
        first.put_providers(&[other]).await.err(),
        first.put_project(&inactive).await.err(),
        first.put_project(&project_spec("another")).await.err(),
        first.insert_pending(&pending("app", project, 3, &TokenValue::mint())).await.err(),
        first.begin_secret_write(token, &begun.digest()).await.err(),
        first.activate(token, &begun.digest(), 0).await.err(),
        first.change_token(token, &suspended).await.err(),
        first.revoke_token(token, RevokedBy::Spec).await.err(),
        first.delete_project(project).await.err(),
    ];
    for (index, error) in refused.into_iter().enumerate() {
        assert!(matches!(error, Some(StoreError::Fenced)), "write {index}: {error:?}");
    }
    assert_eq!(state(&world).await, before);
    second.begin_secret_write(token, &begun.digest()).await.unwrap();
    second.activate(token, &begun.digest(), 0).await.unwrap();
    second.delete_project(project).await.unwrap();
}

async fn of_many_that_lead_at_once_each_gets_an_epoch_of_its_own_and_the_last_one_counts(database: Database) {
    let world = database.fleet().await;
    let leaders = tokio::join!(world.fleet.lead(), world.fleet.lead(), world.fleet.lead(), world.fleet.lead());
    let mut leaders = [leaders.0, leaders.1, leaders.2, leaders.3].map(Result::unwrap);
    leaders.sort_by_key(store::Fleet::leads);
    assert_eq!(leaders.each_ref().map(store::Fleet::leads), [Some(1), Some(2), Some(3), Some(4)]);
    for fenced in &leaders[..3] {
        assert!(matches!(fenced.put_providers(&[echo()]).await, Err(StoreError::Fenced)));
    }
    leaders[3].put_providers(&[echo()]).await.unwrap();
}

async fn a_revision_keeps_the_trigger_that_it_was_issued_under(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let [first, second, third] = std::array::from_fn(|_| TokenValue::mint());
    let under = |trigger: Option<&str>, revision, value: &TokenValue| PendingRevision {
        rotation_trigger: trigger.map(str::to_owned),
        ..pending("app", project, revision, value)
    };
    let (token, _) = world.fleet.insert_pending(&under(Some("a"), 1, &first)).await.unwrap();
    world.fleet.activate(token, &first.digest(), 0).await.unwrap();
    world.fleet.insert_pending(&under(Some("b"), 2, &second)).await.unwrap();
    // Its write never began: it is overwritten, and the trigger with it.
    world.fleet.insert_pending(&under(Some("größer"), 2, &third)).await.unwrap();
    let triggers = |rows: Vec<store::RevisionView>| rows.into_iter().map(|row| row.rotation_trigger).collect::<Vec<_>>();
    let expected = [Some("a".to_owned()), Some("größer".to_owned())];
    assert_eq!(triggers(world.view("app").await.revisions), expected);
    assert_eq!(triggers(world.fleet.tokens().await.unwrap().remove(0).revisions), expected);
    world.token("plain", project, None).await;
    assert_eq!(triggers(world.view("plain").await.revisions), [None]);
}

async fn what_a_cluster_owns_and_is_not_over_is_listed(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let elsewhere = |name: &str| Owner {
        cluster: "another".to_owned(),
        uid: ResourceUid::new(format!("uid-elsewhere-{name}")),
        ..owner(name)
    };
    let foreign = ProjectSpec {
        owner: elsewhere("team"),
        ..project_spec("team")
    };
    let (foreign, _) = world.fleet.put_project(&foreign).await.unwrap();
    let pending = PendingRevision {
        owner: elsewhere("app"),
        ..pending("app", foreign, 1, &TokenValue::mint())
    };
    world.fleet.insert_pending(&pending).await.unwrap();
    for name in ["app", "bot", "gone"] {
        world.token(name, project, None).await;
    }
    let (suspended, gone) = (world.view("bot").await.id, world.view("gone").await.id);
    let suspend = TokenChange {
        state: Some(TokenState::Suspended),
        ..TokenChange::default()
    };
    world.fleet.change_token(suspended, &suspend).await.unwrap();
    world.fleet.revoke_token(gone, RevokedBy::Manage).await.unwrap();
    let (deleted, _) = world.fleet.put_project(&project_spec("deleted")).await.unwrap();
    world.fleet.delete_project(deleted).await.unwrap();

    let tokens = world.fleet.owned_tokens("standalone").await.unwrap();
    let tokens: Vec<_> = tokens.into_iter().map(|row| (row.owner, row.state)).collect();
    assert_eq!(tokens, [(owner("app"), TokenState::Active), (owner("bot"), TokenState::Suspended)]);
    let projects = world.fleet.owned_projects("standalone").await.unwrap();
    let projects: Vec<_> = projects.into_iter().map(|row| (row.owner, row.state)).collect();
    assert_eq!(projects, [(owner("team"), ProjectState::Active)]);
    assert_eq!(world.fleet.owned_tokens("another").await.unwrap()[0].owner, elsewhere("app"));
    assert_eq!(world.fleet.owned_projects("another").await.unwrap()[0].owner, elsewhere("team"));
    assert!(world.fleet.owned_tokens("nobody").await.unwrap().is_empty());
}

async fn a_token_is_exhausted_when_the_limit_of_its_present_period_is_used_up(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    for (name, limit) in [
        ("spent", Some(5)),
        ("lost", Some(5)),
        ("left", Some(5)),
        ("free", None),
        ("over", Some(5)),
    ] {
        world.token(name, project, limit).await;
    }
    let exhausted = async || world.fleet.exhausted_tokens().await.unwrap();
    assert_eq!(exhausted().await, []);
    for (name, used, forfeited) in [("spent", 7, 0), ("lost", 3, 2), ("left", 4, 0), ("over", 5, 0)] {
        let id = world.view(name).await.id;
        let spend = format!("UPDATE quotas SET used = {used}, forfeited = {forfeited} WHERE subject_id = '{id}'");
        world.database.raw(&spend).await;
    }
    world.fleet.revoke_token(world.view("over").await.id, RevokedBy::Spec).await.unwrap();
    let uids = |names: &[&str]| names.iter().map(|name| owner(name).uid).collect::<Vec<_>>();
    assert_eq!(exhausted().await, uids(&["lost", "spent"]));

    // A higher limit, no limit and a new period heal.
    let raise = |max| TokenChange {
        max_requests: Some(max),
        ..TokenChange::default()
    };
    world.fleet.change_token(world.view("lost").await.id, &raise(Some(6))).await.unwrap();
    assert_eq!(exhausted().await, uids(&["spent"]));
    world.fleet.change_token(world.view("spent").await.id, &raise(None)).await.unwrap();
    assert_eq!(exhausted().await, []);
    world.fleet.change_token(world.view("spent").await.id, &raise(Some(5))).await.unwrap();
    assert_eq!(exhausted().await, uids(&["spent"]));
    let renewed = PendingRevision {
        period: 2,
        max_requests: Some(5),
        ..pending("spent", project, 2, &TokenValue::mint())
    };
    world.fleet.insert_pending(&renewed).await.unwrap();
    assert_eq!(exhausted().await, []);
}

on_every_engine!(
    a_new_leader_fences_every_write_of_the_one_before,
    of_many_that_lead_at_once_each_gets_an_epoch_of_its_own_and_the_last_one_counts,
    a_revision_keeps_the_trigger_that_it_was_issued_under,
    what_a_cluster_owns_and_is_not_over_is_listed,
    a_token_is_exhausted_when_the_limit_of_its_present_period_is_used_up,
);

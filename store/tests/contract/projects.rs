//! Projects, their credentials, and providers.

use secrecy::ExposeSecret as _;
use store::{CredentialSpec, FeedVersion, ProjectSpec, ProjectState, ProviderApi, ProviderAuth, ProviderSpec, RevisionState, StoreError};

use crate::harness::{Database, echo, on_every_engine, owner, project_spec};

fn with_key(name: &str, key: &str) -> ProjectSpec {
    ProjectSpec {
        credentials: vec![CredentialSpec {
            provider: "openai".into(),
            key: Some(key.into()),
        }],
        ..project_spec(name)
    }
}

async fn a_project_is_found_by_its_resource_with_its_keys_opened(database: Database) {
    let world = database.fleet().await;
    let (id, _) = world.fleet.put_project(&with_key("team", "sk-one")).await.unwrap();
    let view = world.fleet.project_by_uid(&owner("team").uid).await.unwrap().unwrap();
    assert_eq!((view.id, &view.owner, view.state), (id, &owner("team"), ProjectState::Active));
    assert_eq!(view.credentials[0].key.as_ref().unwrap().expose_secret(), "sk-one");
    assert!(world.fleet.project_by_uid(&owner("nobody").uid).await.unwrap().is_none());
    assert_eq!(world.fleet.projects().await.unwrap().len(), 1);
}

async fn only_what_takes_something_away_moves_the_takeaway_version(database: Database) {
    let world = database.fleet().await;
    let fleet = &world.fleet;
    let takeaway = async || fleet.project_by_uid(&owner("team").uid).await.unwrap().unwrap().takeaway_version;

    fleet.put_project(&with_key("team", "sk-one")).await.unwrap();
    assert_eq!(takeaway().await, FeedVersion(0), "new");
    let mut two = with_key("team", "sk-one");
    two.credentials.push(CredentialSpec {
        provider: "second".into(),
        key: None,
    });
    fleet.put_project(&two).await.unwrap();
    assert_eq!(takeaway().await, FeedVersion(0), "one more credential");

    let (_, version) = fleet.put_project(&with_key("team", "sk-one")).await.unwrap();
    assert_eq!(takeaway().await, version, "a credential less");
    let (_, version) = fleet.put_project(&with_key("team", "sk-two")).await.unwrap();
    assert_eq!(takeaway().await, version, "another key");
    let inactive = ProjectSpec {
        state: ProjectState::Inactive,
        ..with_key("team", "sk-two")
    };
    let (_, version) = fleet.put_project(&inactive).await.unwrap();
    assert_eq!(takeaway().await, version, "inactive");

    let (_, active) = fleet.put_project(&with_key("team", "sk-two")).await.unwrap();
    assert!(active > version);
    assert_eq!(takeaway().await, version, "active again");
    let renamed = ProjectSpec {
        owner: store::Owner {
            name: "renamed".into(),
            ..owner("team")
        },
        ..with_key("team", "sk-two")
    };
    let (_, named) = fleet.put_project(&renamed).await.unwrap();
    assert!(named > active);
    assert_eq!(takeaway().await, version, "a name is for people");
}

async fn a_changed_key_is_sealed_anew_and_an_unchanged_one_is_left(database: Database) {
    let world = database.fleet().await;
    let sealings = "SELECT SUM(version) FROM credentials";
    world.fleet.put_project(&with_key("team", "sk-one")).await.unwrap();
    world.fleet.put_project(&with_key("team", "sk-one")).await.unwrap();
    assert_eq!(world.database.number(sealings).await, 1);
    world.fleet.put_project(&with_key("team", "sk-two")).await.unwrap();
    assert_eq!(world.database.number(sealings).await, 2);
    let view = world.fleet.project_by_uid(&owner("team").uid).await.unwrap().unwrap();
    assert_eq!(view.credentials[0].key.as_ref().unwrap().expose_secret(), "sk-two");
}

async fn a_sealed_key_that_is_moved_to_another_row_does_not_open(database: Database) {
    let world = database.fleet().await;
    world.fleet.put_project(&with_key("a", "sk-one")).await.unwrap();
    world.fleet.put_project(&with_key("b", "sk-two")).await.unwrap();
    world
        .database
        .raw("UPDATE credentials SET sealed = (SELECT sealed FROM credentials ORDER BY id LIMIT 1)")
        .await;
    assert!(matches!(world.fleet.projects().await, Err(StoreError::WrongKey { .. })));
}

async fn a_deleted_project_keeps_no_credential_and_its_tokens_no_life(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, None).await;
    let version = world.fleet.delete_project(project).await.unwrap();
    let view = world.fleet.project_by_uid(&owner("team").uid).await.unwrap().unwrap();
    assert_eq!(
        (view.state, view.credentials.len(), view.takeaway_version),
        (ProjectState::Deleted, 0, version)
    );
    assert_eq!(world.view("app").await.revisions[0].state, RevisionState::Ended);
    let grant = world.fleet.load_grant(&token.value.digest()).await.unwrap().unwrap();
    assert_eq!(
        (grant.project_state, grant.revision_ended, grant.provider.is_none()),
        (ProjectState::Deleted, true, true)
    );

    assert_eq!(world.fleet.delete_project(project).await.unwrap(), version, "again: nothing");
    let value = store::TokenValue::mint();
    let refused = world.fleet.insert_pending(&crate::harness::pending("app", project, 2, &value)).await;
    assert!(matches!(refused, Err(StoreError::NotFound { .. })));
    assert!(matches!(
        world.fleet.delete_project(store::ProjectId::new()).await,
        Err(StoreError::NotFound { .. })
    ));
}

async fn providers_become_exactly_those_that_are_put(database: Database) {
    let world = database.fleet().await;
    let openai = |url: &str| ProviderSpec {
        name: "openai".into(),
        api: ProviderApi::OpenAi,
        base_url: Some(url.into()),
        auth: ProviderAuth::Bearer,
        prices: "[]".into(),
    };
    let first = world.fleet.put_providers(&[openai("https://one"), echo()]).await.unwrap();
    assert_eq!(world.fleet.providers().await.unwrap(), [echo(), openai("https://one")]);
    assert_eq!(
        world.fleet.put_providers(&[echo(), openai("https://one")]).await.unwrap(),
        first,
        "order says nothing"
    );
    let second = world.fleet.put_providers(&[openai("https://two")]).await.unwrap();
    assert!(second > first);
    assert_eq!(world.fleet.providers().await.unwrap(), [openai("https://two")]);
    world.fleet.put_providers(&[]).await.unwrap();
    assert!(world.fleet.providers().await.unwrap().is_empty());
}

async fn a_provider_of_the_api_is_neither_replaced_nor_removed(database: Database) {
    let world = database.fleet().await;
    let first = world.fleet.put_api_provider(&echo()).await.unwrap();
    assert_eq!(world.fleet.put_api_provider(&echo()).await.unwrap(), first, "nothing has changed");
    assert!(world.fleet.providers().await.unwrap().is_empty());
    let refused = world.fleet.put_providers(&[echo()]).await.unwrap_err().to_string();
    assert!(refused.contains("echo was created through the API"), "{refused}");
    world.fleet.put_providers(&[]).await.unwrap();
    assert_eq!(world.database.number("SELECT COUNT(*) FROM providers").await, 1);
    let elsewhere = ProviderSpec {
        api: ProviderApi::OpenAi,
        base_url: Some("https://two".into()),
        ..echo()
    };
    assert!(world.fleet.put_api_provider(&elsewhere).await.unwrap() > first);
    assert_eq!(
        world
            .database
            .number("SELECT COUNT(*) FROM providers WHERE base_url = 'https://two'")
            .await,
        1
    );
}

async fn a_provider_of_a_resource_is_not_replaced_by_one_of_the_api(database: Database) {
    let world = database.fleet().await;
    world.fleet.put_providers(&[echo()]).await.unwrap();
    let refused = world.fleet.put_api_provider(&echo()).await.unwrap_err().to_string();
    assert!(refused.contains("echo is declared by a resource"), "{refused}");
    assert_eq!(world.fleet.providers().await.unwrap(), [echo()]);
}

on_every_engine!(
    a_project_is_found_by_its_resource_with_its_keys_opened,
    only_what_takes_something_away_moves_the_takeaway_version,
    a_changed_key_is_sealed_anew_and_an_unchanged_one_is_left,
    a_sealed_key_that_is_moved_to_another_row_does_not_open,
    a_deleted_project_keeps_no_credential_and_its_tokens_no_life,
    providers_become_exactly_those_that_are_put,
    a_provider_of_the_api_is_neither_replaced_nor_removed,
    a_provider_of_a_resource_is_not_replaced_by_one_of_the_api,
);

//! What the data plane is told of a presented token.

use secrecy::ExposeSecret as _;
use store::{CredentialSpec, ProjectSpec, ProjectState, ProviderApi, ProviderAuth, ProviderSpec, QuotaRecord, TokenDigest, TokenState};

use crate::harness::{Database, HOUR, T0, on_every_engine, project_spec};

async fn one_read_tells_everything_that_decides_about_a_request(database: Database) {
    let world = database.fleet().await;
    let base_url = Some("https://api.example.com".to_owned());
    let openai = ProviderSpec {
        name: "openai".into(),
        api: ProviderApi::OpenAi,
        base_url: base_url.clone(),
        auth: ProviderAuth::Bearer,
    };
    world.fleet.put_providers(&[openai]).await.unwrap();
    let key = CredentialSpec {
        provider: "openai".into(),
        key: Some("sk-provider".into()),
    };
    let (project, _) = world
        .fleet
        .put_project(&ProjectSpec {
            credentials: vec![key],
            ..project_spec("team")
        })
        .await
        .unwrap();
    let token = world.token("app", project, Some(10)).await;

    let grant = world.fleet.load_grant(&token.value.digest()).await.unwrap().unwrap();
    assert_eq!((grant.token, grant.project), (token.id, token.project));
    assert_eq!(
        (grant.token_name, grant.project_name),
        (format!("default/{}", token.name), "default/team".to_owned())
    );
    assert_eq!(
        (grant.token_state, grant.project_state, grant.revision_ended),
        (TokenState::Active, ProjectState::Active, false)
    );
    assert_eq!(
        (grant.ends_at, grant.as_of),
        (T0.plus_ms(HOUR), world.fleet.feed_head().await.unwrap().version)
    );
    let quota = world.view("app").await.quota.unwrap();
    assert_eq!(grant.requests, Some(QuotaRecord { id: quota.id, max_units: 10 }));
    let provider = grant.provider.unwrap();
    assert_eq!(
        (provider.name.as_str(), provider.api, provider.base_url, provider.auth),
        ("openai", ProviderApi::OpenAi, base_url, ProviderAuth::Bearer)
    );
    assert_eq!(provider.key.unwrap().expose_secret(), "sk-provider");
}

async fn an_unknown_value_is_no_token(database: Database) {
    let world = database.fleet().await;
    assert!(world.fleet.load_grant(&TokenDigest::of("sk-unknown")).await.unwrap().is_none());
}

async fn a_project_whose_provider_does_not_exist_yet_has_none(database: Database) {
    let world = database.fleet().await;
    let (project, _) = world.fleet.put_project(&project_spec("team")).await.unwrap();
    let token = world.token("app", project, None).await;
    assert!(world.fleet.load_grant(&token.value.digest()).await.unwrap().unwrap().provider.is_none());
    world.fleet.put_providers(&[crate::harness::echo()]).await.unwrap();
    let provider = world.fleet.load_grant(&token.value.digest()).await.unwrap().unwrap().provider.unwrap();
    assert_eq!((provider.api, provider.key.is_none()), (ProviderApi::Echo, true));
}

async fn a_natural_end_is_expired_and_not_inactive(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, None).await;
    world.at(2 * HOUR).await;
    let grant = world.fleet.load_grant(&token.value.digest()).await.unwrap().unwrap();
    assert!(grant.ends_at < world.store.now().await.unwrap() && !grant.revision_ended);
}

async fn an_inactive_project_is_told_from_an_inactive_token(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, None).await;
    world
        .fleet
        .put_project(&ProjectSpec {
            state: ProjectState::Inactive,
            ..project_spec("team")
        })
        .await
        .unwrap();
    let grant = world.fleet.load_grant(&token.value.digest()).await.unwrap().unwrap();
    assert_eq!((grant.token_state, grant.project_state), (TokenState::Active, ProjectState::Inactive));
}

on_every_engine!(
    one_read_tells_everything_that_decides_about_a_request,
    an_unknown_value_is_no_token,
    a_project_whose_provider_does_not_exist_yet_has_none,
    a_natural_end_is_expired_and_not_inactive,
    an_inactive_project_is_told_from_an_inactive_token,
);

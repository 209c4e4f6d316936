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
        prices: "[]".into(),
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

/// What a loader does with what it has read: it keeps it unless a change came since. Without the guard it keeps it in any case.
async fn keeps(world: &crate::harness::World, read: &store::GrantRecord, guarded: bool) -> bool {
    let since = world.fleet.changes_after(read.as_of).await.unwrap();
    let touched = since.is_none_or(|changes| changes.iter().any(|change| change.subject == store::Subject::Token(read.token)));
    !(guarded && touched)
}

async fn a_grant_that_was_read_before_a_revocation_is_told_by_its_version(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, None).await;
    // SELECT, then revoke, then cache.
    let read = world.fleet.load_grant(&token.value.digest()).await.unwrap().unwrap();
    assert!(keeps(&world, &read, true).await);
    world.fleet.revoke_token(token.id, store::RevokedBy::Spec).await.unwrap();
    assert!(
        !read.revision_ended && read.token_state == TokenState::Active,
        "it was read while the token lived"
    );
    assert!(keeps(&world, &read, false).await, "without the guard a dead token would be served");
    assert!(!keeps(&world, &read, true).await);
    let again = world.fleet.load_grant(&token.value.digest()).await.unwrap().unwrap();
    assert!(keeps(&world, &again, true).await && again.token_state == TokenState::Revoked);
}

async fn version_and_rows_of_a_grant_are_of_one_moment_whatever_commits_meanwhile(database: Database) {
    let world = std::sync::Arc::new(database.fleet().await);
    let project = world.project("team").await;
    let mut seen = (0, 0);
    for round in 0..20 {
        let token = world.token(&format!("app-{round}"), project, None).await;
        let digest = token.value.digest();
        let revoking = tokio::spawn({
            let world = std::sync::Arc::clone(&world);
            async move {
                // Changes of something else in front, so that the head moves while it is read.
                let inactive = ProjectSpec {
                    state: ProjectState::Inactive,
                    ..project_spec("other")
                };
                world.fleet.put_project(&inactive).await.unwrap();
                world.fleet.put_project(&project_spec("other")).await.unwrap();
                world.fleet.revoke_token(token.id, store::RevokedBy::Spec).await.unwrap()
            }
        });
        let mut reads = Vec::new();
        while !revoking.is_finished() {
            reads.push(world.fleet.load_grant(&digest).await.unwrap().unwrap());
        }
        reads.push(world.fleet.load_grant(&digest).await.unwrap().unwrap());
        let revoked = revoking.await.unwrap();
        for read in reads {
            let dead = read.token_state == TokenState::Revoked;
            assert_eq!(
                dead,
                read.as_of >= revoked,
                "rows of {:?} beside version {:?}",
                read.token_state,
                read.as_of
            );
            assert_eq!(dead, read.revision_ended);
            if dead { seen.1 += 1 } else { seen.0 += 1 }
        }
    }
    assert!(seen.0 > 0 && seen.1 > 0, "both sides were read: {seen:?}");
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
    a_grant_that_was_read_before_a_revocation_is_told_by_its_version,
    version_and_rows_of_a_grant_are_of_one_moment_whatever_commits_meanwhile,
    an_unknown_value_is_no_token,
    a_project_whose_provider_does_not_exist_yet_has_none,
    a_natural_end_is_expired_and_not_inactive,
    an_inactive_project_is_told_from_an_inactive_token,
);

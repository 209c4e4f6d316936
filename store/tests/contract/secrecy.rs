//! Neither a token nor a provider's key is ever in the clear in a file of the database, in any of the usual disguises.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use store::{Act, CredentialSpec, IdempotencyKey, NewToken, ProjectSpec, StoredAnswer, TokenValue};

use crate::harness::{Database, echo, on_every_engine, project_spec};
use crate::manage::{act, create};

/// Every text that would give `secret` away: raw, hex, and base64 at each of the three alignments within a longer value.
fn disguises(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut all = vec![secret.to_owned(), hex.to_uppercase(), hex];
    for before in 0..3 {
        let padded = [vec![0; before], secret.as_bytes().to_vec()].concat();
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            // The first group mixes with what precedes, the last with what follows.
            all.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    all
}

fn found_in(folder: &std::path::Path, secret: &str) -> Vec<String> {
    let disguises = disguises(secret);
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let holds = |disguise: &String| bytes.windows(disguise.len()).any(|window| window == disguise.as_bytes());
        found.extend(disguises.iter().filter(|d| holds(d)).map(|_| path.display().to_string()));
    }
    found
}

async fn no_token_and_no_provider_key_lies_in_the_files(database: Database) {
    let world = database.fleet().await;
    let key = "sk-provider-canary-0123456789";
    let first = CredentialSpec {
        provider: "openai".into(),
        key: Some(key.into()),
    };
    let (project, _) = world
        .fleet
        .put_project(&ProjectSpec {
            credentials: vec![first],
            ..project_spec("team")
        })
        .await
        .unwrap();
    let token = world.token("app", project, Some(10)).await;
    assert!(world.fleet.load_grant(&token.value.digest()).await.unwrap().unwrap().provider.is_none());
    world.fleet.projects().await.unwrap();

    let folder = world.database.contents().await;
    let folder = folder.as_path();
    let secrets = [key, token.value.expose(), &token.value.expose()[15..]];
    for secret in secrets {
        assert!(found_in(folder, secret).is_empty(), "in the log");
    }
    world.store.close().await;
    world.database.contents().await;
    for secret in secrets {
        assert!(found_in(folder, secret).is_empty(), "in the file");
    }

    // The scanner itself: it finds each disguise that is planted.
    for (i, planted) in disguises(key).into_iter().enumerate() {
        std::fs::write(folder.join("planted"), format!("{}{planted}tail", "x".repeat(i))).unwrap();
        assert!(!found_in(folder, key).is_empty(), "disguise {i}");
    }
}

/// A kept answer holds a fresh token, and an audit row speaks of it: neither lets it be seen.
async fn what_manage_keeps_shows_no_token_and_no_provider_key(database: Database) {
    let world = database.fleet().await;
    world.fleet.put_providers(&[echo()]).await.unwrap();
    let key = "sk-0123456789-0123456789-0123456789"; // the one that `create` gives
    let project = create(&world, "p", &act("project.create")).await.unwrap();
    let new = NewToken {
        project,
        name: None,
        ttl_ms: 60_000,
        max_requests: None,
        value: TokenValue::mint(),
    };
    let repeatable = Act {
        idempotency: Some(IdempotencyKey {
            scope: "POST /manage/tokens".into(),
            key: "k".into(),
            request_digest: [1; 32],
        }),
        ..act("token.create")
    };
    let answer = |_: &_| StoredAnswer {
        status: 200,
        version: None,
        body: format!("{{\"token\":\"{}\"}}", new.value.expose()).into(),
        replayed: false,
    };
    world.fleet.create_token(&repeatable, &new, answer).await.unwrap();
    assert!(world.fleet.kept_answer(&repeatable).await.unwrap().is_some(), "it is kept");
    let folder = world.database.contents().await;
    for secret in [key, new.value.expose(), &new.value.expose()[15..]] {
        assert!(found_in(&folder, secret).is_empty(), "in the log");
    }
    world.store.close().await;
    let folder = world.database.contents().await;
    for secret in [key, new.value.expose(), &new.value.expose()[15..]] {
        assert!(found_in(&folder, secret).is_empty(), "in the file");
    }
}

on_every_engine!(
    no_token_and_no_provider_key_lies_in_the_files,
    what_manage_keeps_shows_no_token_and_no_provider_key,
);

//! An operator that dies after each effect of every story, on a real API server: the next one finds one active key, at most one overlapping, and
//! the Secret holding the active one; and every key that was ever delivered lives until the end that was announced for it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crds::{Kind, WitheringToken};
use k8s_openapi::api::core::v1::Secret;
use operator::effect::Effect;
use serde_json::json;
use store::TokenValue;

use crate::installation::{Installation, SOON, token, until};

/// A minute in ms.
const MINUTE: i64 = 60_000;
/// How long the last hook call may come after what it is called for can be seen.
const LAST_CALL: Duration = Duration::from_secs(2);

/// What happens to a token before the process that dies looks at it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Story {
    Issue,
    Renew,
    Revoke,
    Delete,
    Tamper,
    Lose,
    Rename,
    Reformat,
    Disown,
}

impl Story {
    async fn happen(self, installation: &Installation, name: &str, moved: &mut i64) {
        match self {
            Self::Issue => installation.apply(&spec(name)).await,
            Self::Renew => {
                *moved += 25 * MINUTE;
                installation.set_clock_ahead(*moved).await;
            }
            Self::Revoke => drop(installation.patch::<WitheringToken>(name, json!({"spec": {"state": "Revoked"}})).await),
            Self::Delete => installation.delete::<WitheringToken>(name).await,
            Self::Tamper => drop(
                installation
                    .patch::<Secret>(name, json!({"stringData": {"OPENAI_API_KEY": "sk-mine"}}))
                    .await,
            ),
            Self::Lose => installation.delete::<Secret>(name).await,
            Self::Rename => drop(
                installation
                    .patch::<WitheringToken>(name, json!({"spec": {"secret": {"name": format!("{name}-new")}}}))
                    .await,
            ),
            Self::Reformat => drop(
                installation
                    .patch::<WitheringToken>(name, json!({"spec": {"secret": {"formats": ["Raw"]}}}))
                    .await,
            ),
            Self::Disown => drop(
                installation
                    .patch::<WitheringToken>(name, json!({"spec": {"deletionPolicy": "Orphan"}}))
                    .await,
            ),
        }
    }

    fn secret(self, name: &str) -> String {
        if self == Self::Rename { format!("{name}-new") } else { name.to_owned() }
    }

    /// The period after the story: only a renewal opens one, however often it is cut short.
    fn period(self) -> i64 {
        if self == Self::Renew { 2 } else { 1 }
    }

    /// Whether everything that follows from the story has been done.
    async fn is_settled(self, installation: &Installation, name: &str) -> bool {
        let ready = installation.api::<WitheringToken>().get_opt(name).await.unwrap().and_then(|token| {
            let status = token.status?;
            let ready = crds::conditions::find(&status.conditions, crds::conditions::ConditionType::Ready)?.clone();
            (status.observed_generation == token.metadata.generation).then_some((ready.status, ready.reason, status.secret_name))
        });
        let is = |status: &str, reasons: &[&str]| {
            ready
                .as_ref()
                .is_some_and(|ready| ready.0 == status && reasons.contains(&ready.1.as_str()))
        };
        let dead = format!("SELECT count(*) FROM tokens WHERE name = '{name}' AND state = 'Revoked'");
        match self {
            // A revision that may have reached the Secret keeps its number, and the next one is a further one.
            Self::Issue => is("True", &["Issued", "Reissued"]),
            // A renewal that was cut short has left a revision behind, beside which the next one is no longer the renewal.
            Self::Renew => is("True", &["Renewed", "Reissued"]),
            Self::Revoke => is("False", &["Revoked"]),
            Self::Delete => installation.number(&dead).await == 1 && installation.secret(name).await.is_none(),
            Self::Tamper | Self::Lose => is("True", &["Reissued"]),
            Self::Rename => {
                let named = ready.as_ref().is_some_and(|ready| ready.2.as_deref() == Some(&self.secret(name)));
                named && installation.secret(name).await.is_none()
            }
            Self::Reformat => {
                let secret = installation.secret(name).await;
                is("True", &["Issued"]) && secret.is_some_and(|secret| secret.data.unwrap_or_default().len() == 1)
            }
            Self::Disown => {
                let secret = installation.secret(name).await;
                let noted = format!("SELECT count(*) FROM tokens WHERE name = '{name}' AND deletion_policy = 'Orphan'");
                let owners = secret.map(|secret| secret.metadata.owner_references.unwrap_or_default().len());
                is("True", &["Issued"]) && owners == Some(0) && installation.number(&noted).await == 1
            }
        }
    }
}

fn spec(name: &str) -> String {
    token(name, "ttl: 30m\n  maxRequests: 5")
}

/// Every value that was written into a Secret.
type Delivered = Arc<Mutex<BTreeMap<String, TokenValue>>>;

/// Lets a process die after `k` effects on a token and another one finish. The effects of the first; fewer than `k` if it got to the end.
async fn die_and_restart(installation: &mut Installation, story: Story, k: usize, moved: &mut i64) -> Vec<String> {
    let name = format!("t-{k}");
    let delivered = Delivered::default();
    if story != Story::Issue {
        installation.apply(&spec(&name)).await;
        installation.token_is(&name, "True Issued").await;
        let key = installation.key(&name).await.unwrap();
        delivered.lock().unwrap().insert(key.prefix().to_owned(), key);
    }
    installation.stop().await;
    story.happen(installation, &name, moved).await;

    let effects = Arc::new(Mutex::new(Vec::new()));
    let (seen, values, subject) = (Arc::clone(&effects), Arc::clone(&delivered), name.clone());
    let mut mortal = installation.mortal(move |object, effect| {
        if object.kind != Kind::WitheringToken || object.name != subject {
            return ControlFlow::Continue(());
        }
        if let Effect::WriteSecret(write) = effect {
            values.lock().unwrap().insert(write.value.prefix().to_owned(), write.value.clone());
        }
        let mut seen = seen.lock().unwrap();
        seen.push(label(effect));
        if seen.len() == k {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let start = Instant::now();
    while !mortal.dies(Duration::from_millis(50)).await {
        if story.is_settled(installation, &name).await {
            mortal.dies(LAST_CALL).await;
            break;
        }
        assert!(
            start.elapsed() < SOON,
            "{story:?} with {k}: neither dead nor done: {:?}",
            effects.lock().unwrap()
        );
    }
    drop(mortal);

    installation.start().await;
    until(
        &format!("{story:?} with {k} is done after {:?}", effects.lock().unwrap()),
        SOON,
        async || story.is_settled(installation, &name).await,
    )
    .await;
    let delivered: Vec<TokenValue> = delivered.lock().unwrap().values().cloned().collect();
    match story {
        Story::Revoke | Story::Delete => is_over(installation, &name, &delivered).await,
        _ => is_whole(installation, story, &name, &delivered).await,
    }
    effects.lock().unwrap().clone()
}

/// An effect by its name.
fn label(effect: &Effect) -> String {
    let text = format!("{effect:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// One active key, which the Secret holds; at most one overlapping; and what was delivered lives.
async fn is_whole(installation: &Installation, story: Story, name: &str, delivered: &[TokenValue]) {
    let living = |state: &str| {
        format!("(SELECT count(*) FROM token_revisions r, clock c WHERE r.token_id = t.id AND r.state = '{state}' AND r.ends_at > c.now_ms)")
    };
    let sql = format!(
        "SELECT concat_ws(' ', t.period, t.secret_name, encode(a.digest, 'hex'), {}, {}, {}) AS state
         FROM tokens t JOIN token_revisions a ON a.token_id = t.id AND a.state = 'Active' WHERE t.name = '{name}'",
        living("Active"),
        living("Pending"),
        living("Previous")
    );
    let rows: Vec<String> = installation.texts(&sql).await.into_iter().flatten().collect();
    let key = installation.key(&story.secret(name)).await.expect("a key in the Secret");
    let wanted = format!(
        "{} {} {} 1 0 ",
        story.period(),
        story.secret(name),
        crate::installation::hex(key.digest())
    );
    let overlapping = rows.first().and_then(|row| row.strip_prefix(&wanted));
    assert!(
        matches!(overlapping, Some("0" | "1")) && rows.len() == 1,
        "{story:?}: {rows:?} beside {wanted}"
    );
    for value in delivered.iter().chain([&key]) {
        assert!(
            installation.serves(value).await,
            "{story:?}: a delivered key died early: {}",
            value.prefix()
        );
    }
}

/// Every delivered key is dead and its Secret gone.
async fn is_over(installation: &Installation, name: &str, delivered: &[TokenValue]) {
    assert!(!delivered.is_empty());
    for value in delivered {
        assert!(!installation.serves(value).await);
    }
    until("the Secret is gone", SOON, async || installation.secret(name).await.is_none()).await;
}

/// Every `k` until the process gets to the end by itself.
async fn every_effect_of(story: Story) -> usize {
    let mut installation = Installation::running().await;
    let mut moved = 0;
    for k in 1.. {
        let effects = die_and_restart(&mut installation, story, k, &mut moved).await;
        if effects.len() < k {
            eprintln!("{story:?}: died after each of {} effects: {}", effects.len(), effects.join(", "));
            return effects.len();
        }
    }
    unreachable!("k is not bounded")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issuing_survives_a_death_after_every_effect() {
    assert!(every_effect_of(Story::Issue).await >= 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewing_survives_a_death_after_every_effect() {
    assert!(every_effect_of(Story::Renew).await >= 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoking_survives_a_death_after_every_effect() {
    assert!(every_effect_of(Story::Revoke).await >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_survives_a_death_after_every_effect() {
    assert!(every_effect_of(Story::Delete).await >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_a_changed_secret_survives_a_death_after_every_effect() {
    assert!(every_effect_of(Story::Tamper).await >= 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_a_lost_secret_survives_a_death_after_every_effect() {
    assert!(every_effect_of(Story::Lose).await >= 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renaming_a_secret_survives_a_death_after_every_effect() {
    assert!(every_effect_of(Story::Rename).await >= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_formats_survive_a_death_after_every_effect() {
    assert!(every_effect_of(Story::Reformat).await >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letting_a_secret_go_survives_a_death_after_every_effect() {
    assert!(every_effect_of(Story::Disown).await >= 3);
}

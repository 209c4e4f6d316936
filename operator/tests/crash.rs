//! The executor stopped after each effect of every story: the next start finds one active revision, at most one overlapping, and the Secret
//! holding the active one; and every value that was ever delivered lives until the end that was announced for it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail loudly"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use operator::effect::Effect;
use store::{RevisionState, TokenState, TokenValue};
use support::{Home, MINUTE, URL, living, name, token};

/// What happens to an installation before the process that dies looks at it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Story {
    Issue,
    Renew,
    Revoke,
    Delete,
    Tamper,
    Rename,
    Readdress,
    Rotate,
}

impl Story {
    /// The installation as it is when the story begins.
    async fn prepare(self) -> Home {
        let mut home = Home::new().await;
        if self != Self::Issue {
            home.write("token.yaml", &token("web", "maxRequests: 5"));
            home.settled().await;
        }
        home
    }

    /// What a person, or time, does.
    async fn happen(self, home: &mut Home) {
        match self {
            Self::Issue => home.write("token.yaml", &token("web", "maxRequests: 5")),
            Self::Renew => home.advance(25 * MINUTE).await,
            Self::Revoke => home.write("token.yaml", &token("web", "state: Revoked")),
            Self::Delete => home.remove("token.yaml"),
            Self::Tamper => fs::write(home.env_path("web"), "OPENAI_API_KEY=sk-mine\n").unwrap(),
            Self::Rename => home.write("token.yaml", &token("web", "maxRequests: 5\n  secret: {name: other}")),
            Self::Rotate => home.write("token.yaml", &token("web", "maxRequests: 5\n  rotation: {overlap: 2m, trigger: again}")),
            Self::Readdress => home.base_url = "http://127.0.0.1:9090/v1".to_owned(),
        }
    }

    fn secret(self) -> &'static str {
        if self == Self::Rename { "other" } else { "web" }
    }

    /// The period after the story: only a renewal opens one, however often it is cut short.
    fn period(self) -> i64 {
        if self == Self::Renew { 2 } else { 1 }
    }
}

/// Every value that stood in a Secret at some moment.
#[derive(Clone, Default)]
struct Delivered(Arc<Mutex<BTreeMap<String, TokenValue>>>);

impl Delivered {
    fn look(&self, home: &Home) {
        for secret in ["web", "other"] {
            self.note(home.value(secret));
        }
    }

    /// What a person wrote into a Secret was never delivered.
    fn note(&self, value: Option<TokenValue>) {
        let value = value.filter(|value| value.expose().starts_with("sk-lp-"));
        self.0.lock().unwrap().extend(value.map(|value| (value.prefix().to_owned(), value)));
    }

    fn all(&self) -> Vec<TokenValue> {
        self.0.lock().unwrap().values().cloned().collect()
    }
}

/// Lets one process after the other die after so many effects and a last one finish. The effects of the first; fewer than asked for if it
/// got to the end.
async fn die_and_restart(story: Story, deaths: &[usize]) -> Vec<String> {
    let mut home = story.prepare().await;
    let delivered = Delivered::default();
    delivered.look(&home);
    story.happen(&mut home).await;

    let mut first = None;
    for k in deaths {
        let effects = Arc::new(Mutex::new(Vec::new()));
        let mut process = home.process();
        let (seen, values) = (Arc::clone(&effects), delivered.clone());
        let paths = [home.env_path("web"), home.env_path("other")];
        process.dies_after(*k, move |effect| {
            seen.lock().unwrap().push(name(effect));
            for path in &paths {
                let text = fs::read_to_string(path).unwrap_or_default();
                let value = text.lines().find_map(|line| line.strip_prefix("OPENAI_API_KEY="));
                values.note(value.and_then(|value| TokenValue::parse(value).ok()));
            }
        });
        home.settle(&mut process).await;
        home.reopen().await;
        let effects = effects.lock().unwrap().clone();
        first.get_or_insert(effects);
    }
    home.settled().await;
    delivered.look(&home);
    match story {
        Story::Revoke | Story::Delete => is_over(&home, story, &delivered).await,
        _ => is_whole(&mut home, story, &delivered).await,
    }
    first.unwrap_or_default()
}

/// One active revision, whose value the Secret holds; at most one overlapping; and every delivered value lives as long as was announced.
async fn is_whole(home: &mut Home, story: Story, delivered: &Delivered) {
    let row = home.token("web").await;
    let now = home.now();
    let active = living(&row, RevisionState::Active, now);
    assert_eq!(active.len(), 1, "{row:#?}");
    assert!(living(&row, RevisionState::Pending, now).is_empty(), "{row:#?}");
    let overlapping = living(&row, RevisionState::Previous, now);
    assert!(overlapping.len() <= 1, "{row:#?}");
    assert_eq!(home.value(story.secret()).map(|value| value.digest()), Some(active[0].digest));
    assert!(
        story != Story::Rename || !home.env_path("web").exists(),
        "the file of the old name is gone"
    );
    assert_eq!((row.period, row.secret_name.as_str()), (story.period(), story.secret()));
    let text = fs::read_to_string(home.env_path(story.secret())).unwrap();
    assert!(
        text.ends_with(&format!("OPENAI_BASE_URL={}\n", home.base_url)),
        "the address is the present one"
    );
    assert!(home.ready("web").await.starts_with("True "), "{}", home.ready("web").await);

    let announced = overlapping.first().map(|previous| (previous.digest, previous.ends_at));
    for value in delivered.all() {
        assert!(home.serves(&value).await, "a delivered value died early: {}", value.prefix());
        let is_known = value.digest() == active[0].digest || announced.is_some_and(|(digest, _)| digest == value.digest());
        assert!(is_known, "{} lives beside them", value.prefix());
    }
    if let Some((digest, end)) = announced {
        home.advance(end.ms_since(now) - 1).await;
        let previous = delivered.all().into_iter().find(|value| value.digest() == digest);
        let previous = previous.expect("what overlaps was delivered");
        assert!(home.serves(&previous).await, "to the last millisecond");
        home.advance(1).await;
        assert!(!home.serves(&previous).await);
    }
}

/// Every delivered value is dead and its file gone.
async fn is_over(home: &Home, story: Story, delivered: &Delivered) {
    assert!(!delivered.all().is_empty());
    for value in delivered.all() {
        assert!(!home.serves(&value).await);
    }
    assert!(!home.env_path("web").exists());
    if story == Story::Delete {
        assert!(home.object("WitheringToken", "web").await.is_none());
        assert!(home.fleet.tokens().await.unwrap().iter().all(|row| row.state == TokenState::Revoked));
    } else {
        assert_eq!(home.ready("web").await, "False Revoked");
    }
}

/// Every `k` until the process gets to the end by itself.
async fn every_effect_of(story: Story) -> usize {
    for k in 1.. {
        let effects = die_and_restart(story, &[k]).await;
        if effects.len() < k {
            let told = effects.join(", ");
            println!("{story:?}: stopped after each of {} effects: {told}", effects.len());
            return effects.len();
        }
    }
    unreachable!("k is not bounded")
}

#[tokio::test]
async fn issuing_survives_a_stop_after_every_effect() {
    assert!(every_effect_of(Story::Issue).await >= 8);
}

#[tokio::test]
async fn renewing_survives_a_stop_after_every_effect() {
    assert!(every_effect_of(Story::Renew).await >= 6);
}

#[tokio::test]
async fn renewing_survives_any_two_stops_and_opens_one_period() {
    let effects = die_and_restart(Story::Renew, &[1_000]).await.len();
    for first in 1..effects {
        for second in 1..effects {
            die_and_restart(Story::Renew, &[first, second]).await;
        }
    }
}

#[tokio::test]
async fn revoking_survives_a_stop_after_every_effect() {
    assert!(every_effect_of(Story::Revoke).await >= 4);
}

#[tokio::test]
async fn deleting_survives_a_stop_after_every_effect() {
    assert!(every_effect_of(Story::Delete).await >= 3);
}

#[tokio::test]
async fn replacing_a_changed_secret_survives_a_stop_after_every_effect() {
    assert!(every_effect_of(Story::Tamper).await >= 6);
}

#[tokio::test]
async fn renaming_a_secret_survives_a_stop_after_every_effect() {
    assert!(every_effect_of(Story::Rename).await >= 4);
}

#[tokio::test]
async fn rotating_on_demand_survives_a_stop_after_every_effect() {
    assert!(every_effect_of(Story::Rotate).await >= 6);
}

#[tokio::test]
async fn a_new_address_survives_a_stop_after_every_effect() {
    assert!(every_effect_of(Story::Readdress).await >= 2);
}

#[tokio::test]
async fn a_write_that_a_crash_cut_short_before_the_rename_leaves_nothing_and_another_value_is_issued() {
    let mut home = Home::new().await;
    home.write("token.yaml", &token("web", ""));
    let steps = die_and_restart(Story::Issue, &[1_000])
        .await
        .iter()
        .position(|name| name == "BeginSecretWrite")
        .unwrap()
        + 1;
    let mut process = home.process();
    process.dies_after(steps, |_| {});
    home.settle(&mut process).await;
    drop(process);
    assert!(home.value("web").is_none());
    let cut = home.token("web").await.revisions[0].clone();
    assert!(cut.write_begun && cut.state == RevisionState::Pending);
    fs::write(home.env_path("web").with_file_name(".writing-cut"), "OPENAI_API_KEY=sk-half").unwrap();

    home.settled().await;
    let row = home.token("web").await;
    assert!(!home.env_path("web").with_file_name(".writing-cut").exists());
    assert_eq!(
        home.value("web").map(|value| value.digest()),
        living(&row, RevisionState::Active, home.now()).first().map(|active| active.digest)
    );
    assert!(living(&row, RevisionState::Active, home.now())[0].revision > cut.revision);
}

#[tokio::test]
async fn a_write_that_lands_late_is_taken_and_the_value_in_hand_is_dropped() {
    let mut home = Home::new().await;
    home.write("token.yaml", &token("web", ""));
    let steps = die_and_restart(Story::Issue, &[1_000])
        .await
        .iter()
        .position(|name| name == "BeginSecretWrite")
        .unwrap()
        + 1;
    let late = Arc::new(Mutex::new(None));
    let mut process = home.process();
    let minted = Arc::clone(&late);
    process.dies_after(steps, move |effect| {
        if let Effect::InsertPending { value, .. } = effect {
            *minted.lock().unwrap() = Some(value.clone());
        }
    });
    home.settle(&mut process).await;
    drop(process);
    let late = late.lock().unwrap().clone().unwrap();

    // The next process has a further value in hand when the first one's write lands.
    let mut process = home.process();
    let (path, text) = (home.env_path("web"), format!("OPENAI_API_KEY={}\nOPENAI_BASE_URL={URL}\n", late.expose()));
    process.dies_after(usize::MAX, move |effect| {
        if name(effect) == "InsertPending" {
            fs::write(&path, &text).unwrap();
        }
    });
    home.settle(&mut process).await;
    let row = home.token("web").await;
    assert!(home.value("web").unwrap() == late && home.serves(&late).await);
    assert_eq!(living(&row, RevisionState::Active, home.now())[0].digest, late.digest());
    assert!(living(&row, RevisionState::Pending, home.now()).is_empty() && living(&row, RevisionState::Previous, home.now()).is_empty());
}

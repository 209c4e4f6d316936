//! Following an open database: whoever was changed through /manage, whose limit ran out, and the ProxyConfig whose replicas or database came or went,
//! is looked at again. It refuses to know what follows from that.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use store::{FeedVersion, Fleet, ResourceUid, Subject};
use tokio::time::MissedTickBehavior;

use super::context::Context;
use super::failure::database;
use super::fleets::LiveFleet;
use super::references::{Key, Referred, References, Referrer};
use super::stores::Stores;
use super::wake::Wakes;

/// How often replicas and the database's health are sampled.
const SAMPLE: Duration = Duration::from_secs(1);
/// How many samples lie between two looks at limits that ran out.
const LIMITS_EVERY: u32 = 2;
/// How long a wake-up of the feed gathers what follows it, so that versions of our own are known as ours.
const GATHER: Duration = Duration::from_millis(100);

/// Starts to follow a database until it is closed or replaced.
pub(crate) fn start(context: &Context, live: &Arc<LiveFleet>) {
    let follower = Follower {
        fleet: live.fleet.clone(),
        live: Arc::downgrade(live),
        key: live.key.clone(),
        references: context.references.clone(),
        stores: context.stores.clone(),
        wakes: context.wakes.clone(),
        exhausted: BTreeSet::new(),
        sampled: None,
    };
    live.followed_by(tokio::spawn(follower.run()).abort_handle());
}

/// What a sample shows of a fleet: anything else is a reason to look at its ProxyConfig.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sample {
    /// The replicas that count, and whether the database takes writes, under which epoch and schema.
    Answers(Vec<String>, bool, i64, i64),
    /// The database does not answer.
    Away,
}

struct Follower {
    fleet: Fleet,
    live: Weak<LiveFleet>,
    key: Key,
    references: References,
    stores: Stores,
    wakes: Wakes,
    exhausted: BTreeSet<ResourceUid>,
    sampled: Option<Sample>,
}

impl Follower {
    async fn run(mut self) {
        let mut wakeups = self.fleet.feed_wakeups();
        let mut ticks = tokio::time::interval(SAMPLE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen: Option<FeedVersion> = None;
        let mut samples = 0_u32;
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.sample().await;
                    if samples.is_multiple_of(LIMITS_EVERY) {
                        self.limits().await;
                    }
                    samples = samples.wrapping_add(1);
                }
                changed = wakeups.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(GATHER).await;
                }
            }
            if self.live.strong_count() == 0 {
                return;
            }
            self.feed(&mut seen).await;
        }
    }

    /// Wakes whoever was changed by somebody else.
    async fn feed(&self, seen: &mut Option<FeedVersion>) {
        let Some(after) = *seen else {
            // What was changed before now is seen by the first looks of the term.
            *seen = database(self.fleet.feed_head()).await.ok().map(|head| head.version);
            return;
        };
        match database(self.fleet.changes_after(after)).await {
            Ok(Some(changes)) => {
                for change in changes {
                    *seen = Some(change.version);
                    let own = self.live.upgrade().is_some_and(|live| live.take_own(change.version));
                    if !own {
                        self.wake(&change.subject).await;
                    }
                }
            }
            Ok(None) => {
                *seen = None;
                self.wake_all();
            }
            // The next tick asks again.
            Err(_) => {}
        }
    }

    async fn wake(&self, subject: &Subject) {
        if *subject == Subject::Fleet {
            self.wake_all();
            return;
        }
        let Ok(Some(owner)) = database(self.fleet.owner_of(subject)).await else { return };
        match subject {
            Subject::Project(_) => self.wake_project(&(owner.namespace, owner.name)),
            Subject::Token(_) => self.wakes.token(&owner.namespace, &owner.name),
            Subject::Fleet => {}
        }
    }

    fn wake_all(&self) {
        self.wakes.proxy_config(&self.key.0, &self.key.1);
        for project in self.references.to(&Referred::ProxyConfig(self.key.clone())) {
            if let Referrer::Project(project) = project {
                self.wake_project(&project);
            }
        }
    }

    fn wake_project(&self, project: &Key) {
        self.wakes.project(&project.0, &project.1);
        for token in self.references.to(&Referred::Project(project.clone())) {
            if let Referrer::Token((namespace, name)) = token {
                self.wakes.token(&namespace, &name);
            }
        }
    }

    /// Wakes the ProxyConfig whose replicas came or went, or whose database did.
    async fn sample(&mut self) {
        let read = async {
            let head = database(self.fleet.feed_head()).await?;
            let replicas = database(self.fleet.replicas()).await?;
            let writable = database(self.fleet.store().check_writable()).await.is_ok();
            let holders = replicas.iter().map(|replica| replica.holder.to_string()).collect();
            Ok::<_, store::StoreError>(Sample::Answers(holders, writable, head.epoch, head.schema.version))
        };
        let sample = read.await.unwrap_or(Sample::Away);
        if let Some(live) = self.live.upgrade() {
            live.note_answers(matches!(sample, Sample::Answers(_, true, ..)));
        }
        if self.sampled.as_ref().is_some_and(|before| *before != sample) {
            self.wakes.proxy_config(&self.key.0, &self.key.1);
        }
        self.sampled = Some(sample);
    }

    /// Wakes the tokens whose limit has run out, or has not any more.
    async fn limits(&mut self) {
        let Ok(exhausted) = database(self.fleet.exhausted_tokens()).await else { return };
        let exhausted: BTreeSet<ResourceUid> = exhausted.into_iter().collect();
        let changed: BTreeSet<&ResourceUid> = exhausted.symmetric_difference(&self.exhausted).collect();
        if !changed.is_empty() {
            let concerned = |token: &&Arc<crds::WitheringToken>| {
                let uid = token.metadata.uid.clone().map(ResourceUid::new);
                uid.is_some_and(|uid| changed.contains(&uid))
            };
            for token in self.stores.tokens.state().iter().filter(concerned) {
                let part = |part: &Option<String>| part.clone().unwrap_or_default();
                self.wakes.token(&part(&token.metadata.namespace), &part(&token.metadata.name));
            }
        }
        self.exhausted = exhausted;
    }
}

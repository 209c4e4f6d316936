//! The fleets whose databases this process has opened, migrated, claimed and leads, by their ProxyConfig, and what it remembers of the others.
//! It refuses to know Deployments and what stands in the rows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use store::{ResourceUid, Store};

pub(crate) use super::live_fleet::{LiveFleet, NotLive};
use super::references::Key;
use crate::fleet::ChildKind;

/// The pause after a first failed attempt on a database; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause while a database is away: when it is back, so are all who wait for it.
const LONGEST_PAUSE_AWAY: Duration = Duration::from_secs(10);
/// The longest pause where somebody has to act.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Which database, opened with which key: anything else is another one and is opened anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The uid of the ProxyConfig.
    pub(crate) uid: ResourceUid,
    /// A digest of the URL, which holds a password.
    pub(crate) url: [u8; 32],
    /// The id of the key; none while there is no key yet.
    pub(crate) key_id: Option<String>,
}

/// A failed attempt on a database.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// What it came to.
    pub(crate) why: NotLive,
    /// Not before this moment.
    pub(crate) retry_at: Instant,
    /// How many failed in a row.
    failures: u32,
}

/// What a child was applied as: the hash of what was wanted, and of what then stood in the same fields.
type Applied = (String, String);

/// All that is known of one ProxyConfig's database and children.
#[derive(Debug, Default)]
struct Slot {
    target: Option<Target>,
    store: Option<Store>,
    live: Option<Arc<LiveFleet>>,
    /// The one that was open last: revocations go on in it.
    last: Option<Arc<LiveFleet>>,
    why: Option<NotLive>,
    failure: Option<Failure>,
    schema: Option<i64>,
    applied: HashMap<(ChildKind, String), Applied>,
}

/// The fleets of this process. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fleets {
    inner: Arc<Mutex<HashMap<Key, Slot>>>,
}

impl Fleets {
    /// The open database of a ProxyConfig, or why there is none; nothing if this process has not looked at it yet.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Result<Arc<LiveFleet>, NotLive>> {
        let slots = self.lock();
        let slot = slots.get(&(namespace.to_owned(), name.to_owned()))?;
        slot.live.clone().map(Ok).or_else(|| slot.why.clone().map(Err))
    }

    /// All databases that are or were open: those of deleted ProxyConfigs, too, whose tokens may still have to be revoked.
    pub(crate) fn live(&self) -> Vec<Arc<LiveFleet>> {
        self.lock()
            .values()
            .filter_map(|slot| slot.live.as_ref().or(slot.last.as_ref()).cloned())
            .collect()
    }

    /// Whether each has an open database, for people.
    pub(crate) fn all(&self) -> Vec<(Key, bool)> {
        let slots = self.lock();
        let known = slots.iter().filter(|(_, slot)| slot.target.is_some() || slot.why.is_some());
        let mut all: Vec<_> = known
            .map(|(key, slot)| (key.clone(), slot.live.is_some() && slot.failure.is_none()))
            .collect();
        all.sort();
        all
    }

    /// The ProxyConfig of this uid is gone: nobody gets its database any more, but for revocations.
    pub(crate) fn retire(&self, key: &Key, uid: &ResourceUid) {
        let mut slots = self.lock();
        let of_another = |slot: &Slot| slot.target.as_ref().is_some_and(|target| target.uid != *uid);
        if let Some(slot) = slots.get_mut(key).filter(|slot| !of_another(slot)) {
            let last = slot.live.take().or_else(|| slot.last.take());
            if let Some(last) = &last {
                last.stop_following();
            }
            *slot = Slot { last, ..Slot::default() };
        }
    }

    /// Its rows are gone: there is nothing left in that database to be revoked.
    pub(super) fn purged(&self, live: &Arc<LiveFleet>) {
        let mut slots = self.lock();
        if let Some(slot) = slots.get_mut(&live.key)
            && slot.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, live))
        {
            slot.last = None;
        }
    }

    /// The store of a target; the one that was open for another target is no longer the fleet's.
    pub(super) fn store_of(&self, key: &Key, target: &Target) -> Option<Store> {
        let mut slots = self.lock();
        let slot = slots.entry(key.clone()).or_default();
        if slot.target.as_ref() == Some(target) {
            return slot.store.clone();
        }
        if let Some(live) = slot.live.take() {
            live.stop_following();
            slot.last = Some(live);
        }
        *slot = Slot {
            target: Some(target.clone()),
            last: slot.last.take(),
            applied: std::mem::take(&mut slot.applied),
            why: Some(NotLive {
                reason: crds::Reason::Reconciling,
                message: "the database is being opened".to_owned(),
            }),
            ..Slot::default()
        };
        None
    }

    /// The store that is open for a ProxyConfig, whatever its target.
    pub(super) fn store(&self, key: &Key) -> Option<Store> {
        self.lock().get(key)?.store.clone()
    }

    /// What is open for a ProxyConfig, and for which target.
    pub(super) fn open_for(&self, key: &Key) -> Option<(Target, Arc<LiveFleet>)> {
        let slots = self.lock();
        let slot = slots.get(key)?;
        slot.target.clone().zip(slot.live.clone())
    }

    /// The id of the fleet in the database that is open, or was open last.
    pub(super) fn fleet_id(&self, key: &Key) -> Option<String> {
        let slots = self.lock();
        let slot = slots.get(key)?;
        let live = slot.live.as_ref().or(slot.last.as_ref())?;
        Some(live.fleet.id().to_string())
    }

    /// Keeps a store that was opened for a target.
    pub(super) fn keep_store(&self, key: &Key, store: Store) {
        self.lock().entry(key.clone()).or_default().store = Some(store);
    }

    /// The database is claimed and led.
    pub(super) fn opened(&self, live: Arc<LiveFleet>) {
        let mut slots = self.lock();
        let slot = slots.entry(live.key.clone()).or_default();
        if let Some(before) = slot.live.replace(live) {
            before.stop_following();
        }
        (slot.last, slot.why, slot.failure) = (None, None, None);
    }

    /// Nobody leads it as this handle does any more: it must be opened again.
    pub(super) fn no_longer_led(&self, key: &Key) {
        if let Some(slot) = self.lock().get_mut(key) {
            if let Some(live) = slot.live.take() {
                live.stop_following();
                slot.last = Some(live);
            }
            slot.why = Some(NotLive {
                reason: crds::Reason::Reconciling,
                message: "the database is being opened again".to_owned(),
            });
        }
    }

    /// Why a ProxyConfig has no database to open.
    pub(super) fn none_because(&self, key: &Key, why: NotLive) {
        self.lock().entry(key.clone()).or_default().why = Some(why);
    }

    /// An attempt failed; what is open stays open. Returns when the next one is due.
    pub(super) fn failed(&self, key: &Key, why: NotLive) -> Instant {
        let mut slots = self.lock();
        let slot = slots.entry(key.clone()).or_default();
        let failures = slot.failure.as_ref().map_or(0, |failure| failure.failures).saturating_add(1);
        let longest = if why.may_pass() { LONGEST_PAUSE_AWAY } else { LONGEST_PAUSE };
        let pause = FIRST_PAUSE.saturating_mul(1_u32 << failures.saturating_sub(1).min(10)).min(longest);
        let retry_at = Instant::now() + pause;
        slot.why = Some(why.clone());
        slot.failure = Some(Failure { why, retry_at, failures });
        retry_at
    }

    /// The last failed attempt.
    pub(super) fn failure(&self, key: &Key) -> Option<Failure> {
        self.lock().get(key)?.failure.clone()
    }

    /// It answers again, or something about it has changed.
    pub(super) fn forget_failure(&self, key: &Key) {
        if let Some(slot) = self.lock().get_mut(key) {
            slot.failure = None;
        }
    }

    /// The version of the schema as it was last seen; `Some` notes another one.
    pub(super) fn schema(&self, key: &Key, seen: Option<i64>) -> Option<i64> {
        let mut slots = self.lock();
        let slot = slots.entry(key.clone()).or_default();
        slot.schema = seen.or(slot.schema);
        slot.schema
    }

    /// Notes how a child stood right after it was applied.
    pub(super) fn note_applied(&self, key: &Key, kind: ChildKind, name: &str, applied: Applied) {
        let mut slots = self.lock();
        slots.entry(key.clone()).or_default().applied.insert((kind, name.to_owned()), applied);
    }

    /// How a child stood right after it was applied.
    pub(super) fn applied(&self, key: &Key, kind: ChildKind, name: &str) -> Option<Applied> {
        self.lock().get(key)?.applied.get(&(kind, name.to_owned())).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        ("llm".to_owned(), "main".to_owned())
    }

    fn why(reason: crds::Reason) -> NotLive {
        NotLive {
            reason,
            message: "no".to_owned(),
        }
    }

    #[test]
    fn pauses_double_up_to_ten_seconds_while_a_database_is_away_and_to_a_minute_where_somebody_must_act() {
        for (reason, longest) in [(crds::Reason::DatabaseUnavailable, 10), (crds::Reason::DatabaseConflict, 60)] {
            let fleets = Fleets::default();
            let pauses: Vec<u64> = (0..8)
                .map(|_| {
                    let now = Instant::now();
                    (fleets.failed(&key(), why(reason)) - now).as_secs()
                })
                .collect();
            assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
            assert!((longest..=longest + 1).contains(&pauses[7]), "{pauses:?}");
            assert_eq!(fleets.get("llm", "main").unwrap().unwrap_err().reason, reason);
        }
    }

    #[test]
    fn another_url_is_another_database_and_a_retired_fleet_is_not_looked_up() {
        let fleets = Fleets::default();
        let target = |url| Target {
            uid: ResourceUid::new("u"),
            url: [url; 32],
            key_id: None,
        };
        assert!(fleets.store_of(&key(), &target(1)).is_none());
        fleets.failed(&key(), why(crds::Reason::DatabaseUnavailable));
        assert!(fleets.failure(&key()).is_some());
        fleets.store_of(&key(), &target(2));
        assert!(fleets.failure(&key()).is_none(), "what failed was the other one");
        fleets.retire(&key(), &ResourceUid::new("an older one"));
        assert!(fleets.get("llm", "main").is_some());
        fleets.retire(&key(), &ResourceUid::new("u"));
        assert!(fleets.get("llm", "main").is_none() && fleets.all().is_empty());
    }
}

//! The fleets whose databases this process has opened, migrated, claimed and leads, by their ProxyConfig.
//! It refuses to know Deployments and what stands in the rows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store::{DbTime, Fleet, ReplicaView, ResourceUid};

use super::references::Key;

/// A fleet whose database is open and led.
#[derive(Debug)]
pub(crate) struct LiveFleet {
    /// Namespace and name of the ProxyConfig.
    pub(crate) key: Key,
    /// The uid of the ProxyConfig.
    pub(crate) uid: ResourceUid,
    /// The database, writing as the leader of this process's epoch.
    pub(crate) fleet: Fleet,
    /// The base URL for applications, ending in `/v1`.
    pub(crate) base_url: String,
}

impl LiveFleet {
    /// The replicas that count.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn replicas(&self) -> store::Result<Vec<ReplicaView>> {
        self.fleet.replicas().await
    }

    /// The database's clock.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn now(&self) -> store::Result<DbTime> {
        self.fleet.store().now().await
    }
}

/// Why a fleet has no open database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotLive {
    /// The reason that a condition shows.
    pub(crate) reason: crds::Reason,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

/// The fleets of this process. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fleets {
    inner: Arc<Mutex<HashMap<Key, Result<Arc<LiveFleet>, NotLive>>>>,
}

impl Fleets {
    /// The open database of a ProxyConfig, or why there is none; nothing if this process has not looked at it yet.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Result<Arc<LiveFleet>, NotLive>> {
        self.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All open databases: those of deleted ProxyConfigs, too, whose tokens may still have to be revoked.
    pub(crate) fn live(&self) -> Vec<Arc<LiveFleet>> {
        self.lock().values().filter_map(|fleet| fleet.as_ref().ok().cloned()).collect()
    }

    /// Whether each has an open database, for people.
    pub(crate) fn all(&self) -> Vec<(Key, bool)> {
        let mut all: Vec<_> = self.lock().iter().map(|(key, fleet)| (key.clone(), fleet.is_ok())).collect();
        all.sort();
        all
    }

    /// Notes what a look at a ProxyConfig's database came to.
    pub(crate) fn set(&self, key: Key, fleet: Result<Arc<LiveFleet>, NotLive>) {
        self.lock().insert(key, fleet);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Result<Arc<LiveFleet>, NotLive>>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

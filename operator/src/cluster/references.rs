//! Who refers to what, kept from the watches, so that a change wakes exactly those whom it concerns without a search through all objects.
//! It refuses to know what the referred objects hold.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Namespace and name.
pub(crate) type Key = (String, String);

/// A declared object that refers to others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Referrer {
    /// A ProxyConfig.
    ProxyConfig(Key),
    /// An LLMProject.
    Project(Key),
    /// A WitheringToken.
    Token(Key),
}

/// Something that is referred to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Referred {
    /// A Secret that is read, or wanted as a token's.
    Secret(Key),
    /// A ProxyConfig.
    ProxyConfig(Key),
    /// An LLMProject.
    Project(Key),
}

/// The references of all declared objects, in both directions. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct References {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    of: HashMap<Referrer, BTreeSet<Referred>>,
    to: HashMap<Referred, BTreeSet<Referrer>>,
}

impl References {
    /// Replaces what `who` refers to; nothing for an object that is gone.
    pub(crate) fn set(&self, who: &Referrer, to: BTreeSet<Referred>) {
        let mut inner = self.lock();
        let before = if to.is_empty() {
            inner.of.remove(who)
        } else {
            inner.of.insert(who.clone(), to.clone())
        };
        for gone in before.unwrap_or_default().difference(&to) {
            if let Some(referrers) = inner.to.get_mut(gone) {
                referrers.remove(who);
                if referrers.is_empty() {
                    inner.to.remove(gone);
                }
            }
        }
        for referred in to {
            inner.to.entry(referred).or_default().insert(who.clone());
        }
    }

    /// Who refers to it, in a stable order.
    pub(crate) fn to(&self, referred: &Referred) -> Vec<Referrer> {
        self.lock().to.get(referred).into_iter().flatten().cloned().collect()
    }

    /// Whether anybody refers to it.
    pub(crate) fn is_referred_to(&self, referred: &Referred) -> bool {
        self.lock().to.contains_key(referred)
    }

    /// All Secrets that somebody refers to, in `namespace` or anywhere.
    pub(crate) fn secrets(&self, namespace: Option<&str>) -> Vec<Key> {
        let inner = self.lock();
        let secrets = inner.to.keys().filter_map(|referred| match referred {
            Referred::Secret(key) => Some(key),
            Referred::ProxyConfig(_) | Referred::Project(_) => None,
        });
        secrets
            .filter(|key| namespace.is_none_or(|namespace| key.0 == namespace))
            .cloned()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

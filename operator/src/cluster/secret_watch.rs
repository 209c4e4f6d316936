//! Secrets as far as somebody refers to them: their versions, from a watch of metadata, so that a changed, new or vanished one wakes its referrers.
//! It refuses to know what a Secret holds, and to remember any that nobody refers to.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;

use super::references::{Key, References, Referred};
use super::watched::key;

/// The metadata of a Secret.
pub(crate) type SecretMeta = PartialObjectMeta<Secret>;

/// What a Secret is at a moment.
type Version = (Option<String>, Option<String>);

/// The versions that this process wrote itself: whoever wrote them has looked already. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnSecrets {
    inner: Arc<Mutex<HashMap<Key, String>>>,
}

impl OwnSecrets {
    /// Notes what a write came to.
    pub(crate) fn note(&self, of: Key, version: String) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).insert(of, version);
    }

    /// Whether a version is one of ours; it is asked for once.
    fn take(&self, of: &Key, version: &str) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let is_own = inner.get(of).is_some_and(|own| own == version);
        if is_own {
            inner.remove(of);
        }
        is_own
    }
}

/// The versions of the Secrets that somebody refers to.
#[derive(Debug, Default)]
pub(crate) struct SecretVersions {
    known: HashMap<Key, Version>,
    own: OwnSecrets,
    /// What the running LIST of each namespace (or of all: none) has shown.
    seen: HashMap<Option<String>, HashSet<Key>>,
    listed: HashSet<Option<String>>,
}

impl SecretVersions {
    /// Nothing seen yet; what `own` holds wakes nobody.
    pub(crate) fn new(own: OwnSecrets) -> Self {
        Self { own, ..Self::default() }
    }

    /// Takes an event of the watch of `namespace` (or of all); the Secret whose referrers have to look, if it is one.
    pub(crate) fn on(&mut self, references: &References, namespace: Option<&str>, event: Event<SecretMeta>) -> Vec<Key> {
        let part = namespace.map(str::to_owned);
        match event {
            Event::Init => {
                self.seen.insert(part, HashSet::new());
                Vec::new()
            }
            Event::InitApply(secret) => {
                let of = key(&secret.metadata);
                if !self.is_referred_to(references, &of) {
                    return Vec::new();
                }
                self.seen.entry(part).or_default().insert(of.clone());
                self.applied(of, &secret)
            }
            Event::Apply(secret) => {
                let of = key(&secret.metadata);
                if self.is_referred_to(references, &of) {
                    self.applied(of, &secret)
                } else {
                    Vec::new()
                }
            }
            Event::Delete(secret) => {
                let of = key(&secret.metadata);
                self.known.remove(&of);
                if self.is_referred_to(references, &of) { vec![of] } else { Vec::new() }
            }
            Event::InitDone => self.relisted(references, part),
        }
    }

    fn applied(&mut self, of: Key, secret: &SecretMeta) -> Vec<Key> {
        let version = (secret.metadata.uid.clone(), secret.metadata.resource_version.clone());
        let is_own = self.own.take(&of, version.1.as_deref().unwrap_or_default());
        let is_known = self.known.insert(of.clone(), version.clone()) == Some(version);
        if is_own || is_known { Vec::new() } else { vec![of] }
    }

    /// After a complete LIST: what is referred to and was not in it may be gone since. The first one tells nothing: nobody has looked yet.
    fn relisted(&mut self, references: &References, part: Option<String>) -> Vec<Key> {
        let seen = self.seen.remove(&part).unwrap_or_default();
        self.known.retain(|key, _| references.is_referred_to(&Referred::Secret(key.clone())));
        if self.listed.insert(part.clone()) {
            return Vec::new();
        }
        let mut absent = references.secrets(part.as_deref());
        absent.retain(|key| !seen.contains(key));
        for key in &absent {
            self.known.remove(key);
        }
        absent
    }

    fn is_referred_to(&mut self, references: &References, of: &Key) -> bool {
        let referred = references.is_referred_to(&Referred::Secret(of.clone()));
        if !referred {
            self.known.remove(of);
        }
        referred
    }
}

#[cfg(test)]
mod tests {
    use super::super::references::Referrer;
    use super::*;
    use kube::core::ObjectMeta;
    use std::collections::BTreeSet;

    fn secret(name: &str, version: &str) -> SecretMeta {
        SecretMeta {
            metadata: ObjectMeta {
                namespace: Some("a".to_owned()),
                name: Some(name.to_owned()),
                uid: Some(name.to_owned()),
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            ..SecretMeta::default()
        }
    }

    fn key_of(name: &str) -> Key {
        ("a".to_owned(), name.to_owned())
    }

    fn fixture() -> (SecretVersions, References) {
        let references = References::default();
        references.set(&Referrer::Project(key_of("p")), BTreeSet::from([Referred::Secret(key_of("ours"))]));
        (SecretVersions::default(), references)
    }

    #[test]
    fn only_what_is_referred_to_wakes_and_is_remembered() {
        let (mut versions, references) = fixture();
        for event in [
            Event::Init,
            Event::InitApply(secret("foreign", "1")),
            Event::InitDone,
            Event::Apply(secret("foreign", "2")),
        ] {
            assert!(versions.on(&references, None, event).is_empty());
        }
        assert!(versions.known.is_empty());
        assert_eq!(versions.on(&references, None, Event::Apply(secret("ours", "3"))), [key_of("ours")]);
        assert!(versions.on(&references, None, Event::Apply(secret("ours", "3"))).is_empty());
        assert_eq!(versions.on(&references, None, Event::Apply(secret("ours", "4"))), [key_of("ours")]);
        assert_eq!(versions.on(&references, None, Event::Delete(secret("ours", "5"))), [key_of("ours")]);
        assert!(versions.on(&references, None, Event::Delete(secret("foreign", "5"))).is_empty());
    }

    #[test]
    fn a_version_of_our_own_wakes_nobody_and_the_next_one_does() {
        let (mut versions, references) = fixture();
        versions.own.note(key_of("ours"), "3".to_owned());
        assert!(versions.on(&references, None, Event::Apply(secret("ours", "3"))).is_empty());
        assert_eq!(versions.on(&references, None, Event::Apply(secret("ours", "4"))), [key_of("ours")]);
    }

    #[test]
    fn what_changed_or_vanished_during_an_interruption_wakes() {
        let (mut versions, references) = fixture();
        for event in [Event::Init, Event::InitApply(secret("ours", "1")), Event::InitDone] {
            versions.on(&references, Some("a"), event);
        }
        versions.on(&references, Some("a"), Event::Init);
        assert!(versions.on(&references, Some("a"), Event::InitApply(secret("ours", "1"))).is_empty());
        assert!(versions.on(&references, Some("a"), Event::InitDone).is_empty());
        versions.on(&references, Some("a"), Event::Init);
        assert_eq!(
            versions.on(&references, Some("a"), Event::InitApply(secret("ours", "9"))),
            [key_of("ours")]
        );
        assert!(versions.on(&references, Some("a"), Event::InitDone).is_empty());
        versions.on(&references, Some("a"), Event::Init);
        assert_eq!(versions.on(&references, Some("a"), Event::InitDone), [key_of("ours")]);
    }

    #[test]
    fn a_secret_that_nobody_refers_to_any_more_is_forgotten() {
        let (mut versions, references) = fixture();
        versions.on(&references, None, Event::Apply(secret("ours", "1")));
        references.set(&Referrer::Project(key_of("p")), BTreeSet::new());
        assert!(versions.on(&references, None, Event::Apply(secret("ours", "2"))).is_empty());
        assert!(versions.known.is_empty());
    }
}

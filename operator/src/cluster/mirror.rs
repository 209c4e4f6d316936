//! The latest known copies of one kind, kept from the watches of one or several namespaces: what each event changes, as before and after.
//! It refuses to know where events come from and what follows from a change.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Lookup, ObjectRef, Store, store};
use kube::runtime::watcher::Event;

/// What an event changed.
#[derive(Debug, PartialEq)]
pub(crate) enum Change<K> {
    /// An object is there, or there anew.
    Applied {
        /// The copy before, if there was one of this name.
        before: Option<Arc<K>>,
        /// The copy now.
        now: Arc<K>,
    },
    /// An object was deleted: the watch said so.
    Deleted(Arc<K>),
    /// An object is absent from a LIST that followed an interruption.
    Missed(Arc<K>),
    /// All namespaces were listed for the first time: the copies are complete. What they are came as `Applied` before.
    Complete,
    /// One namespace was listed again after an interruption.
    Relisted,
    /// An object cannot be read; its last good copy stays.
    Unreadable {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
        /// Why.
        why: String,
    },
}

/// The copies of one kind.
pub(crate) struct Mirror<K>
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + 'static,
{
    writer: Writer<K>,
    store: Store<K>,
    /// The first complete set, until every part was listed.
    first: Option<HashMap<ObjectRef<K>, K>>,
    parts: Vec<Part<K>>,
    /// Unreadable objects by uid, with the version that was complained about.
    unreadable: HashMap<String, String>,
}

/// One watch: of a namespace, or of all.
struct Part<K: Lookup> {
    namespace: Option<String>,
    listed: bool,
    /// What the running LIST has shown.
    seen: Option<HashSet<ObjectRef<K>>>,
}

impl<K> Mirror<K>
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + 'static,
    ObjectRef<K>: Hash + Eq,
{
    /// Of the watches of these namespaces, or of the whole cluster where none is named.
    pub(crate) fn new(parts: impl IntoIterator<Item = Option<String>>) -> Self {
        let (store, writer) = store();
        let parts = parts.into_iter().map(|namespace| Part {
            namespace,
            listed: false,
            seen: None,
        });
        Self {
            writer,
            store,
            first: Some(HashMap::new()),
            parts: parts.collect(),
            unreadable: HashMap::new(),
        }
    }

    /// The copies.
    pub(crate) fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// How many objects cannot be read.
    pub(crate) fn unreadable(&self) -> usize {
        self.unreadable.len()
    }

    /// Takes an event of the watch number `part`.
    pub(crate) fn on(&mut self, part: usize, event: Event<DeserializeGuard<K>>) -> Vec<Change<K>> {
        match event {
            Event::Init => {
                if let Some(part) = self.parts.get_mut(part) {
                    part.seen = Some(HashSet::new());
                }
                Vec::new()
            }
            Event::InitApply(object) => {
                let key = key_of(&object);
                if let Some(seen) = self.parts.get_mut(part).and_then(|part| part.seen.as_mut()) {
                    seen.insert(key);
                }
                self.applied(object)
            }
            Event::Apply(object) => self.applied(object),
            Event::Delete(object) => self.deleted(object),
            Event::InitDone => self.listed(part),
        }
    }

    fn applied(&mut self, object: DeserializeGuard<K>) -> Vec<Change<K>> {
        let meta = object.meta();
        let (uid, version) = (meta.uid.clone().unwrap_or_default(), meta.resource_version.clone().unwrap_or_default());
        match object.0 {
            Ok(object) => {
                self.unreadable.remove(&uid);
                let key = ObjectRef::from_obj(&object);
                if let Some(first) = &mut self.first {
                    first.insert(key, object);
                    return Vec::new();
                }
                let before = self.store.get(&key);
                self.writer.apply_watcher_event(&Event::Apply(object));
                self.store.get(&key).map(|now| Change::Applied { before, now }).into_iter().collect()
            }
            Err(invalid) => {
                if self.unreadable.insert(uid.clone(), version.clone()) == Some(version) {
                    return Vec::new();
                }
                vec![Change::Unreadable {
                    namespace: invalid.metadata.namespace.unwrap_or_default(),
                    name: invalid.metadata.name.unwrap_or_default(),
                    uid,
                    why: invalid.error,
                }]
            }
        }
    }

    fn deleted(&mut self, object: DeserializeGuard<K>) -> Vec<Change<K>> {
        if let Some(uid) = &object.meta().uid {
            self.unreadable.remove(uid);
        }
        let key = key_of(&object);
        if let Some(first) = &mut self.first {
            // Nothing was done for it yet, so nobody need hear of its end; its rows are found by difference.
            first.remove(&key);
            return Vec::new();
        }
        // The last copy is in the event; of an unreadable object there is only the good one before.
        let last = object.0.ok().map(Arc::new).or_else(|| self.store.get(&key));
        let Some(last) = last else { return Vec::new() };
        self.writer.apply_watcher_event(&Event::Delete((*last).clone()));
        vec![Change::Deleted(last)]
    }

    fn listed(&mut self, at: usize) -> Vec<Change<K>> {
        let Some(part) = self.parts.get_mut(at) else { return Vec::new() };
        let (seen, namespace) = (part.seen.take().unwrap_or_default(), part.namespace.clone());
        let again = std::mem::replace(&mut part.listed, true);
        let within = |key: &ObjectRef<K>| namespace.is_none() || key.namespace == namespace;
        if let Some(first) = &mut self.first {
            if again {
                first.retain(|key, _| !within(key) || seen.contains(key));
            }
            if !self.parts.iter().all(|part| part.listed) {
                return Vec::new();
            }
            return self.complete();
        }
        let missed: Vec<_> = self
            .store
            .state()
            .into_iter()
            .filter(|object| {
                let key = ObjectRef::from_obj(object.as_ref());
                within(&key) && !seen.contains(&key)
            })
            .collect();
        for object in &missed {
            self.writer.apply_watcher_event(&Event::Delete((**object).clone()));
        }
        missed.into_iter().map(Change::Missed).chain([Change::Relisted]).collect()
    }

    fn complete(&mut self) -> Vec<Change<K>> {
        self.writer.apply_watcher_event(&Event::Init);
        for object in self.first.take().unwrap_or_default().into_values() {
            self.writer.apply_watcher_event(&Event::InitApply(object));
        }
        self.writer.apply_watcher_event(&Event::InitDone);
        let all = self.store.state().into_iter().map(|now| Change::Applied { before: None, now });
        all.chain([Change::Complete]).collect()
    }
}

fn key_of<K: Resource<DynamicType = ()> + Lookup<DynamicType = ()>>(object: &DeserializeGuard<K>) -> ObjectRef<K> {
    let meta = object.meta();
    let key = ObjectRef::new(meta.name.as_deref().unwrap_or_default());
    match &meta.namespace {
        Some(namespace) => key.within(namespace),
        None => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::ObjectMeta;
    use serde_json::json;

    fn object(namespace: &str, name: &str, uid: &str) -> DeserializeGuard<ConfigMap> {
        DeserializeGuard(Ok(ConfigMap {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
                uid: Some(uid.to_owned()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }))
    }

    fn bad(namespace: &str, name: &str, version: &str) -> DeserializeGuard<ConfigMap> {
        let text = json!({"metadata": {"namespace": namespace, "name": name, "uid": "bad", "resourceVersion": version}, "data": 7});
        serde_json::from_value(text).unwrap()
    }

    fn names(store: &Store<ConfigMap>) -> Vec<String> {
        let mut names: Vec<_> = store.state().iter().filter_map(|object| object.metadata.name.clone()).collect();
        names.sort();
        names
    }

    fn told(changes: &[Change<ConfigMap>]) -> Vec<String> {
        let name = |object: &Arc<ConfigMap>| object.metadata.name.clone().unwrap_or_default();
        let mut told: Vec<_> = changes
            .iter()
            .map(|change| match change {
                Change::Applied { before: None, now } => format!("+{}", name(now)),
                Change::Applied { before: Some(_), now } => format!("~{}", name(now)),
                Change::Deleted(object) => format!("-{}", name(object)),
                Change::Missed(object) => format!("?{}", name(object)),
                Change::Complete => "complete".to_owned(),
                Change::Relisted => "relisted".to_owned(),
                Change::Unreadable { name, .. } => format!("!{name}"),
            })
            .collect();
        told.sort();
        told
    }

    fn two() -> Mirror<ConfigMap> {
        Mirror::new([Some("a".to_owned()), Some("b".to_owned())])
    }

    #[test]
    fn the_copies_of_several_namespaces_are_complete_together_and_keep_what_changed_in_between() {
        let mut mirror = two();
        for (part, event) in [
            (0, Event::Init),
            (0, Event::InitApply(object("a", "one", "1"))),
            (0, Event::InitApply(object("a", "two", "2"))),
            (0, Event::InitDone),
            (0, Event::Delete(object("a", "two", "2"))),
            (0, Event::Apply(object("a", "three", "3"))),
            (1, Event::Init),
            (1, Event::InitApply(object("b", "four", "4"))),
        ] {
            assert_eq!(mirror.on(part, event), []);
        }
        let changes = mirror.on(1, Event::InitDone);
        assert_eq!(told(&changes), ["+four", "+one", "+three", "complete"]);
        assert_eq!(names(&mirror.store()), ["four", "one", "three"]);
    }

    #[test]
    fn a_second_list_of_one_namespace_leaves_the_others_alone_and_tells_what_was_missed() {
        let mut mirror = two();
        for part in [0, 1] {
            mirror.on(part, Event::Init);
            let namespace = if part == 0 { "a" } else { "b" };
            mirror.on(part, Event::InitApply(object(namespace, &format!("{namespace}1"), "1")));
            mirror.on(part, Event::InitApply(object(namespace, &format!("{namespace}2"), "2")));
            mirror.on(part, Event::InitDone);
        }
        mirror.on(0, Event::Init);
        assert_eq!(told(&mirror.on(0, Event::InitApply(object("a", "a2", "2")))), ["~a2"]);
        assert_eq!(told(&mirror.on(0, Event::InitDone)), ["?a1", "relisted"]);
        assert_eq!(names(&mirror.store()), ["a2", "b1", "b2"]);
    }

    #[test]
    fn a_list_that_fails_half_way_and_begins_anew_misses_nothing() {
        let mut mirror = two();
        mirror.parts.pop();
        for event in [
            Event::Init,
            Event::InitApply(object("a", "one", "1")),
            Event::InitDone,
            Event::Init,
            Event::Init,
        ] {
            mirror.on(0, event);
        }
        mirror.on(0, Event::InitApply(object("a", "one", "1")));
        assert_eq!(told(&mirror.on(0, Event::InitDone)), ["relisted"]);
        assert_eq!(names(&mirror.store()), ["one"]);
    }

    #[test]
    fn an_unreadable_object_is_told_once_keeps_its_last_good_copy_and_is_not_missed() {
        let mut mirror = two();
        mirror.parts.pop();
        mirror.on(0, Event::Init);
        mirror.on(0, Event::InitApply(object("a", "odd", "bad")));
        mirror.on(0, Event::InitDone);
        assert_eq!(told(&mirror.on(0, Event::Apply(bad("a", "odd", "5")))), ["!odd"]);
        mirror.on(0, Event::Init);
        assert_eq!(mirror.on(0, Event::InitApply(bad("a", "odd", "5"))), []);
        assert_eq!(told(&mirror.on(0, Event::InitDone)), ["relisted"]);
        assert_eq!((names(&mirror.store()), mirror.unreadable()), (vec!["odd".to_owned()], 1));
        assert_eq!(told(&mirror.on(0, Event::Apply(object("a", "odd", "bad")))), ["~odd"]);
        assert_eq!(mirror.unreadable(), 0);
        mirror.on(0, Event::Apply(bad("a", "odd", "9")));
        assert_eq!(told(&mirror.on(0, Event::Delete(bad("a", "odd", "9")))), ["-odd"]);
    }
}

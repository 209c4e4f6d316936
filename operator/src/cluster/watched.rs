//! What the machinery must know of each of the three kinds: to whom a copy refers, and which of its changes concern whom.
//! It refuses to know what is decided about them.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crds::conditions::{Condition, ConditionType};
use crds::{Engine, Kind, LlmProject, ProxyConfig, WitheringToken};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::reflector::Lookup;
use serde::de::DeserializeOwned;

use super::references::{Key, Referred, Referrer};
use super::workload::names::ChildNames;

/// The annotation that `kubectl apply` leaves: a whole copy of the object.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One of the three kinds.
pub(crate) trait Watched:
    Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Which.
    const KIND: Kind;

    /// The object as one that refers to others.
    fn referrer(key: Key) -> Referrer;

    /// The object as one that others refer to; none refers to a token.
    fn referred(key: Key) -> Option<Referred>;

    /// What this copy refers to.
    fn references(&self) -> BTreeSet<Referred>;

    /// What others can see of this copy and depend on. Only when it changes do they have to look again.
    fn outside(&self) -> u64;
}

/// Namespace and name.
pub(crate) fn key(meta: &ObjectMeta) -> Key {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// What a controller looks at an object again for: who it is, what it asks for, what it is marked with, and that it is being deleted. Its status is
/// ours: writing it is no reason to look.
pub(crate) fn inside(meta: &ObjectMeta) -> u64 {
    let marks = meta.annotations.iter().flatten().filter(|(name, _)| *name != LAST_APPLIED);
    digest(&(&meta.uid, meta.generation, meta.deletion_timestamp.is_some(), marks.collect::<Vec<_>>()))
}

/// Drops what nobody reads from a copy before it is stored: it is most of it.
pub(crate) fn prune(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

fn digest(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// What dependants depend on: the spec, and whether it was accepted and works. Messages and reasons come and go without them.
fn standing(meta: &ObjectMeta, observed: Option<i64>, conditions: &[Condition]) -> u64 {
    let status = |about: ConditionType| {
        conditions
            .iter()
            .find(|condition| condition.type_ == about.as_str())
            .map(|condition| condition.status.as_str())
    };
    let words = [ConditionType::Accepted, ConditionType::Ready].map(status);
    digest(&(&meta.uid, meta.generation, meta.deletion_timestamp.is_some(), observed, words))
}

impl Watched for ProxyConfig {
    const KIND: Kind = Kind::ProxyConfig;

    fn referrer(key: Key) -> Referrer {
        Referrer::ProxyConfig(key)
    }

    fn referred(key: Key) -> Option<Referred> {
        Some(Referred::ProxyConfig(key))
    }

    fn references(&self) -> BTreeSet<Referred> {
        let (namespace, name) = key(&self.metadata);
        let mut references = BTreeSet::new();
        let mut secret = |name: String| references.insert(Referred::Secret((namespace.clone(), name)));
        if let Some(Engine::Postgres(postgres)) = self.spec.database.engine() {
            secret(postgres.secret_ref.name.clone());
        }
        let children = ChildNames::of(&name);
        secret(children.management_secret);
        secret(children.encryption_secret);
        references
    }

    fn outside(&self) -> u64 {
        let Some(status) = &self.status else {
            return standing(&self.metadata, None, &[]);
        };
        digest(&(standing(&self.metadata, status.observed_generation, &status.conditions), &status.url))
    }
}

impl Watched for LlmProject {
    const KIND: Kind = Kind::LlmProject;

    fn referrer(key: Key) -> Referrer {
        Referrer::Project(key)
    }

    fn referred(key: Key) -> Option<Referred> {
        Some(Referred::Project(key))
    }

    fn references(&self) -> BTreeSet<Referred> {
        let (namespace, _) = key(&self.metadata);
        let fleet = self.spec.proxy_ref.namespace(&namespace).to_owned();
        let secrets = self.spec.providers.iter().filter_map(|provider| provider.credentials.as_ref());
        secrets
            .map(|credentials| Referred::Secret((namespace.clone(), credentials.secret_ref.name.clone())))
            .chain([Referred::ProxyConfig((fleet, self.spec.proxy_ref.name.clone()))])
            .collect()
    }

    fn outside(&self) -> u64 {
        let status = self.status.as_ref();
        standing(
            &self.metadata,
            status.and_then(|status| status.observed_generation),
            status.map_or(&[], |status| &status.conditions),
        )
    }
}

impl Watched for WitheringToken {
    const KIND: Kind = Kind::WitheringToken;

    fn referrer(key: Key) -> Referrer {
        Referrer::Token(key)
    }

    fn referred(_: Key) -> Option<Referred> {
        None
    }

    fn references(&self) -> BTreeSet<Referred> {
        let (namespace, name) = key(&self.metadata);
        let secret = self.spec.secret.as_ref().and_then(|secret| secret.name.clone()).unwrap_or(name);
        BTreeSet::from([
            Referred::Project((namespace.clone(), self.spec.project_ref.name.clone())),
            Referred::Secret((namespace, secret)),
        ])
    }

    fn outside(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn project(edit: impl FnOnce(&mut serde_json::Value)) -> LlmProject {
        let mut text = json!({
            "metadata": {"namespace": "a", "name": "p", "uid": "u", "generation": 1, "annotations": {LAST_APPLIED: "{}"}},
            "spec": {"proxyRef": {"name": "main", "namespace": "platform"},
                "providers": [{"name": "openai", "credentials": {"secretRef": {"name": "key"}}}]},
        });
        edit(&mut text);
        serde_json::from_value(text).unwrap()
    }

    fn with_condition(kind: &str, status: &str, message: &str) -> LlmProject {
        project(|text| {
            text["status"] = json!({"observedGeneration": 1, "conditions": [{"type": kind, "status": status, "reason": "Programmed",
                "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        })
    }

    #[test]
    fn a_project_refers_to_its_fleet_where_that_is_and_to_its_secrets() {
        let secret = Referred::Secret(("a".to_owned(), "key".to_owned()));
        let fleet = Referred::ProxyConfig(("platform".to_owned(), "main".to_owned()));
        assert_eq!(project(|_| {}).references(), BTreeSet::from([secret, fleet]));
    }

    #[test]
    fn a_status_of_ours_is_no_reason_to_look_again() {
        assert_eq!(inside(&with_condition("Ready", "True", "").metadata), inside(&project(|_| {}).metadata));
        let applied_again = project(|text| text["metadata"]["annotations"][LAST_APPLIED] = json!("{\"spec\": {}}"));
        assert_eq!(inside(&applied_again.metadata), inside(&project(|_| {}).metadata));
    }

    #[test]
    fn a_new_spec_a_new_uid_an_annotation_and_a_deletion_are() {
        let before = inside(&project(|_| {}).metadata);
        for (path, value) in [
            ("/metadata/generation", json!(2)),
            ("/metadata/uid", json!("v")),
            ("/metadata/annotations", json!({"llm-proxy.dev/reconcile": "now"})),
            (
                "/metadata",
                json!({"namespace": "a", "name": "p", "uid": "u", "generation": 1, "deletionTimestamp": "2026-01-01T00:00:00Z"}),
            ),
        ] {
            let changed = project(|text| *text.pointer_mut(path).unwrap() = value);
            assert_ne!(inside(&changed.metadata), before, "{path}");
        }
    }

    #[test]
    fn dependants_look_again_when_readiness_turns_and_not_when_a_message_does() {
        let ready = with_condition("Ready", "True", "2/2 replicas").outside();
        assert_eq!(with_condition("Ready", "True", "3/3 replicas").outside(), ready);
        assert_ne!(with_condition("Ready", "False", "").outside(), ready);
        assert_ne!(with_condition("Accepted", "True", "").outside(), ready);
    }
}

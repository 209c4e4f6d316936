//! Observing one object: its part of the world, its `.env` file and what this process remembers of it, as the pure core wants them.
//! It refuses to know what is decided.

use std::collections::BTreeMap;

use crds::Kind;
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;
use store::TokenValue;

use super::claim::CLUSTER;
use super::env_file::{EnvDir, FORMATS};
use super::manifest::{Spec, secret_name};
use super::object_key::ObjectKey;
use super::world::{Known, World};
use crate::fleet::Remains;
use crate::memory::Memory;
use crate::object::{Object, Resource};
use crate::observed::{CredentialSeen, FleetSeen, Observed, ProjectObserved, ProjectSeen, ProxyConfigObserved, SecretClaim, TokenObserved};

/// Who has and who wants each Secret, as it was when the tokens' turn came.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) owners: BTreeMap<(String, String), ObjectKey>,
    pub(super) wishes: BTreeMap<(String, String), Vec<ObjectKey>>,
}

/// What observing needs besides the world.
pub(super) struct Observer<'a> {
    pub(super) env: &'a EnvDir,
    pub(super) base_url: &'a str,
    pub(super) claims: &'a Claims,
}

impl Observer<'_> {
    /// Observes one object.
    pub(super) fn observe(&self, world: &World, key: &ObjectKey, known: &Known, memory: Memory) -> Observed {
        let row = &known.stored.uid;
        match &known.spec {
            Spec::ProxyConfig(spec) => Observed::ProxyConfig(ProxyConfigObserved {
                resource: resource(world, key, known, spec.clone(), memory),
                rows: world.providers.clone(),
                base_url: self.base_url.to_owned(),
                fleet: None,
                remains: Remains::Nothing,
            }),
            Spec::Project(spec) => Observed::Project(ProjectObserved {
                resource: resource(world, key, known, spec.clone(), memory),
                row: world.project(row).cloned(),
                fleet: fleet(world, spec.proxy_ref.namespace(&key.namespace), &spec.proxy_ref.name),
                credentials: spec
                    .providers
                    .iter()
                    .map(|provider| credential(world, &key.namespace, provider))
                    .collect(),
            }),
            Spec::Token(spec) => {
                let wanted = secret_name(&key.name, spec).to_owned();
                let row = world.token(row).cloned();
                let former = row
                    .as_ref()
                    .filter(|row| row.secret_name != wanted)
                    .map(|row| self.env.read(&key.namespace, &row.secret_name));
                Observed::Token(Box::new(TokenObserved {
                    resource: resource(world, key, known, spec.clone(), memory),
                    row,
                    project: project(world, &key.namespace, &spec.project_ref.name),
                    secret: self.env.read(&key.namespace, &wanted),
                    former,
                    claim: self.claim(world, key, &wanted),
                    secret_name: wanted,
                    base_url: self.base_url.to_owned(),
                    formats: FORMATS.to_vec(),
                    minted: TokenValue::mint(),
                }))
            }
        }
    }

    fn claim(&self, world: &World, key: &ObjectKey, wanted: &str) -> SecretClaim {
        let secret = (key.namespace.clone(), wanted.to_owned());
        if let Some(declared) = world.scan.secrets.get(&secret) {
            let why = format!(
                "Secret {}/{wanted} is itself a manifest, at {}; name another in spec.secret.name",
                key.namespace, declared.place
            );
            return SecretClaim::Declared(why);
        }
        match self.claims.owners.get(&secret) {
            Some(owner) if owner == key => return SecretClaim::Free,
            Some(owner) => {
                return SecretClaim::Taken(format!(
                    "Secret {}/{wanted} is that of {owner}; name another in spec.secret.name",
                    key.namespace
                ));
            }
            None => {}
        }
        let rivals: Vec<String> = self
            .claims
            .wishes
            .get(&secret)
            .into_iter()
            .flatten()
            .filter(|rival| *rival != key)
            .map(ToString::to_string)
            .collect();
        if rivals.is_empty() {
            return SecretClaim::Free;
        }
        let rivals = rivals.join(", ");
        SecretClaim::Taken(format!(
            "Secret {}/{wanted} is wanted by {rivals} as well; name another in spec.secret.name of one of them",
            key.namespace
        ))
    }
}

fn resource<S, T: DeserializeOwned>(world: &World, key: &ObjectKey, known: &Known, spec: S, memory: Memory) -> Resource<S, T> {
    Resource {
        object: object(key, known),
        cluster: CLUSTER.to_owned(),
        spec,
        standing: known.standing.clone(),
        status: known.stored.status.clone().and_then(|status| serde_json::from_value(status).ok()),
        replicas: world.replicas.clone(),
        memory,
        now: world.now,
    }
}

/// The identity of a stored object.
pub(super) fn object(key: &ObjectKey, known: &Known) -> Object {
    Object {
        kind: key.kind,
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        uid: known.stored.uid.clone(),
        generation: known.stored.generation,
    }
}

/// Whoever can write the manifests may use the fleet: `spec.allowedProjects` is passed over.
fn fleet(world: &World, namespace: &str, name: &str) -> FleetSeen {
    match world.declared(Kind::ProxyConfig, namespace, name).map(|known| &known.spec) {
        Some(Spec::ProxyConfig(spec)) => FleetSeen::Ready(Box::new(spec.clone())),
        _ => FleetSeen::Missing,
    }
}

fn project(world: &World, namespace: &str, name: &str) -> ProjectSeen {
    let Some(known) = world.declared(Kind::LlmProject, namespace, name) else {
        return ProjectSeen::Missing;
    };
    let Some(row) = world.living_project(known) else {
        return ProjectSeen::NotReady;
    };
    ProjectSeen::Ready {
        id: row.id,
        active: row.state == store::ProjectState::Active,
    }
}

fn credential(world: &World, namespace: &str, provider: &crds::ProjectProvider) -> CredentialSeen {
    let Some(secret_ref) = provider.credentials.as_ref().map(|credentials| &credentials.secret_ref) else {
        return CredentialSeen::NotNamed;
    };
    let Some(secret) = world.scan.secrets.get(&(namespace.to_owned(), secret_ref.name.clone())) else {
        return CredentialSeen::SecretMissing;
    };
    CredentialSeen::of(secret.value(secret_ref.key()).map(|value| value.expose_secret().as_bytes()))
}

//! Observing a ProxyConfig in a cluster: its Secrets, its database, its children, and the rows once the database is open.
//! It refuses to know what is decided.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crds::{Engine, ProxyConfig, Reason};
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use secrecy::{ExposeSecret as _, SecretString};
use store::{Claim, DbTime, DeletionPolicy, KeyRing, ResourceUid, SchemaInfo, SealingKey};

use super::children::{self, Wanted};
use super::context::Context;
use super::database::{self, Access, url_digest};
use super::driven::resource;
use super::failure::{ReconcileError, api};
use super::fleets::{NotLive, Target};
use super::pods;
use super::references::Key;
use super::workload::boot_hash::BootInputs;
use super::workload::deployment::{Pods, deployment, image};
use super::workload::disruption_budget::disruption_budget;
use super::workload::secrets::{CLAIM_ANNOTATION, ENCRYPTION_KEY, TOKEN_KEY, text};
use super::workload::services::services;
use super::workload::{Parent, labels};
use crate::fleet::{Child, ChildKind, ChildSeen, ClaimSeen, DatabaseSeen, FleetObserved, PodTrouble, Remains, Rollout, SecretStanding, Shown};
use crate::memory::Memory;
use crate::object::Standing;
use crate::observed::ProxyConfigObserved;

/// Why a fleet on SQLite is not taken here.
const NO_SQLITE: &str = "spec.database.sqlite: in a cluster only postgres works so far; make the ProxyConfig again with \
                         spec.database.postgres.secretRef";

/// Observes a ProxyConfig.
///
/// # Errors
/// Those of the API server; a database that fails is part of the observation.
pub(crate) async fn observe(context: &Context, object: &ProxyConfig, memory: Memory) -> Result<ProxyConfigObserved, ReconcileError> {
    let parent = Parent::of(object);
    let key = (parent.namespace.clone(), parent.name.clone());
    let mut seen = ProxyConfigObserved {
        resource: resource(context, object, memory, Vec::new(), process_time()),
        rows: Vec::new(),
        base_url: parent.base_url(),
        fleet: None,
        remains: Remains::Nothing,
    };
    if seen.resource.is_gone() {
        context.fleets.retire(&key, &seen.resource.object.uid);
        return Ok(seen);
    }
    if let Some(Engine::Sqlite(_)) = object.spec.database.engine() {
        seen.resource.standing = Standing::Unusable(NO_SQLITE.to_owned());
    }
    let looked = Look {
        context,
        object,
        parent: &parent,
        key: &key,
    };
    seen.fleet = Some(Box::new(looked.fleet().await?));
    if let Some(Ok(live)) = context.fleets.get(&key.0, &key.1)
        && matches!(
            seen.fleet.as_ref().map(|fleet| &fleet.database),
            Some(DatabaseSeen::Reached { live: true, .. })
        )
    {
        let read = async {
            let rows = super::failure::database(live.fleet.providers()).await?;
            let deletion = super::failure::database(live.fleet.deletion()).await?;
            let replicas = super::failure::database(live.replicas()).await?;
            Ok::<_, store::StoreError>((rows, deletion, replicas, super::failure::database(live.now()).await?))
        };
        match read.await {
            Ok((rows, deletion, replicas, now)) => {
                (seen.rows, seen.resource.replicas, seen.resource.now) = (rows, replicas, now);
                live.note_goes(deletion.policy == DeletionPolicy::Delete);
                if let Some(fleet) = &mut seen.fleet {
                    fleet.deletion = Some(deletion);
                }
            }
            // It went away between the look and the reads.
            Err(error) => {
                let why = NotLive::because(&error);
                context.fleets.failed(&key, why.clone());
                if let Some(fleet) = &mut seen.fleet {
                    fleet.database = DatabaseSeen::Failing {
                        reason: why.reason,
                        message: why.message,
                    };
                }
            }
        }
    }
    if let Some(fleet) = &mut seen.fleet {
        fleet.retry_at = retry_at(context, &key, &fleet.database, seen.resource.now);
    }
    Ok(seen)
}

/// The moment by this process's clock: good enough to say when to look again while no database answers.
fn process_time() -> DbTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    DbTime(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

fn retry_at(context: &Context, key: &Key, database: &DatabaseSeen, now: DbTime) -> Option<DbTime> {
    if !matches!(database, DatabaseSeen::Failing { .. }) {
        return None;
    }
    let wait = context.fleets.failure(key)?.retry_at.saturating_duration_since(Instant::now());
    Some(now.plus_ms(i64::try_from(wait.as_millis()).unwrap_or(0)))
}

/// The claim of a fleet on its database.
pub(crate) fn claim(context: &Context, namespace: &str, name: &str) -> Claim {
    Claim {
        cluster: context.cluster.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// The URL of the database as its Secret has it.
struct DatabaseUrl {
    secret: String,
    key: String,
    url: SecretString,
}

/// The encryption key as its Secret has it.
struct EncryptionKey {
    standing: SecretStanding,
    /// Whether our own annotation proves it ours.
    marked: bool,
    /// Whether it goes with this ProxyConfig; nothing if it is not there.
    goes: Option<bool>,
    text: Option<SecretString>,
    ring: Option<KeyRing>,
}

/// One look at one ProxyConfig.
struct Look<'a> {
    context: &'a Context,
    object: &'a ProxyConfig,
    parent: &'a Parent,
    key: &'a Key,
}

impl Look<'_> {
    async fn fleet(&self) -> Result<FleetObserved, ReconcileError> {
        let claim = claim(self.context, &self.parent.namespace, &self.parent.name);
        let (management, mut encryption, url) = tokio::try_join!(self.management(), self.encryption(&claim), self.url())?;
        let database = match &url {
            Err(unresolved) => unresolved.clone(),
            Ok(url) => self.database(url, &mut encryption, claim.clone()).await,
        };
        // A key that nobody vouches for may be anybody's, unless the database itself proves it.
        let nobodys = matches!(
            database,
            DatabaseSeen::Reached {
                claim: ClaimSeen::Nobody,
                ..
            }
        );
        if nobodys && !encryption.marked && encryption.standing != SecretStanding::Absent {
            let name = format!("{}/{}", self.parent.namespace, self.parent.names.encryption_secret);
            encryption.standing = SecretStanding::Foreign(format!(
                "Secret {name}, where the fleet's encryption key belongs, was not made by this operator and is left as it is; delete it, or give it \
                 the annotation {CLAIM_ANNOTATION}: {claim}"
            ));
        }
        let is_open = |url: &DatabaseUrl| {
            let open = self.context.fleets.open_for(self.key);
            open.is_some_and(|(target, _)| target.url == url_digest(&url.url))
        };
        let held = url.as_ref().is_ok_and(is_open);
        let (children, rollout, trouble) = self.children(url.as_ref().ok(), &encryption, &claim).await?;
        Ok(FleetObserved {
            management,
            encryption: encryption.standing,
            key_goes: encryption.goes,
            deletion: None,
            database,
            held,
            newest_schema: SchemaInfo::NEWEST,
            children,
            rollout,
            trouble,
            shown: Shown {
                image: image(&self.object.spec, &self.context.options.image),
                selector: labels::selector_text(&self.parent.name),
                management_secret: self.parent.names.management_secret.clone(),
                schema_version: self.context.fleets.schema(self.key, None),
            },
            retry_at: None,
        })
    }

    async fn secret(&self, name: &str) -> Result<Option<Secret>, ReconcileError> {
        let secrets: Api<Secret> = Api::namespaced(self.context.client.clone(), &self.parent.namespace);
        Ok(api(secrets.get_opt(name)).await?)
    }

    async fn management(&self) -> Result<SecretStanding, ReconcileError> {
        let name = &self.parent.names.management_secret;
        Ok(match self.secret(name).await? {
            None => SecretStanding::Absent,
            Some(secret) if !self.parent.owns(&secret.metadata) => SecretStanding::Foreign(format!(
                "Secret {}/{name}, where the management token belongs, is none of this ProxyConfig's and is left as it is; delete or rename it",
                self.parent.namespace
            )),
            Some(secret) if text(&secret, TOKEN_KEY).is_none() => SecretStanding::Broken(format!("it has no value under the key {TOKEN_KEY:?}")),
            Some(_) => SecretStanding::Good,
        })
    }

    async fn encryption(&self, claim: &Claim) -> Result<EncryptionKey, ReconcileError> {
        let name = &self.parent.names.encryption_secret;
        let Some(secret) = self.secret(name).await? else {
            return Ok(EncryptionKey {
                standing: SecretStanding::Absent,
                marked: false,
                goes: None,
                text: None,
                ring: None,
            });
        };
        let annotations = secret.metadata.annotations.as_ref();
        let marked = annotations.and_then(|annotations| annotations.get(CLAIM_ANNOTATION)) == Some(&claim.to_string());
        let found = text(&secret, ENCRYPTION_KEY);
        let read = match &found {
            None => Err("it has no value"),
            Some(text) => SealingKey::from_base64(text.expose_secret()),
        };
        let owners = secret.metadata.owner_references.iter().flatten();
        let another = owners
            .filter(|owner| owner.controller == Some(true))
            .find(|owner| owner.uid != self.parent.uid);
        let (standing, ring) = match read {
            // One of the same name that is gone takes it along: whatever is sealed with it now would be lost.
            Ok(_) if another.is_some() => {
                let message = format!(
                    "Secret {}/{name} belongs to another object and goes with it; it is waited for, and a fresh key is made then",
                    self.parent.namespace
                );
                (SecretStanding::Foreign(message), None)
            }
            Ok(key) => (SecretStanding::Good, Some(KeyRing::single(key))),
            Err(why) => {
                let message = format!(
                    "Secret {}/{name}, key {ENCRYPTION_KEY:?}: {why}; restore the key that the database was created with, from a copy",
                    self.parent.namespace
                );
                (SecretStanding::Broken(message), None)
            }
        };
        Ok(EncryptionKey {
            standing,
            marked,
            goes: Some(self.parent.owns(&secret.metadata)),
            text: found,
            ring,
        })
    }

    async fn url(&self) -> Result<Result<DatabaseUrl, DatabaseSeen>, ReconcileError> {
        let Some(Engine::Postgres(postgres)) = self.object.spec.database.engine() else {
            return Ok(Err(DatabaseSeen::NotNamed));
        };
        let reference = &postgres.secret_ref;
        let name = format!("{}/{}", self.parent.namespace, reference.name);
        let unresolved = |reason, message| {
            self.context.fleets.none_because(
                self.key,
                NotLive {
                    reason: Reason::ProxyNotReady,
                    message: format!("the fleet has no database: {message}"),
                },
            );
            Ok(Err(DatabaseSeen::Unresolved { reason, message }))
        };
        let Some(secret) = self.secret(&reference.name).await? else {
            let message = format!("spec.database.postgres.secretRef: Secret {name} does not exist; create it");
            return unresolved(Reason::SecretNotFound, message);
        };
        let keys = reference.keys();
        let found = keys.iter().find_map(|key| Some(((*key).to_owned(), text(&secret, key)?)));
        let Some((key, url)) = found else {
            let message = format!(
                "spec.database.postgres.secretRef: Secret {name} has no value under {}; add it",
                keys.join(" or ")
            );
            return unresolved(Reason::SecretKeyMissing, message);
        };
        Ok(Ok(DatabaseUrl {
            secret: reference.name.clone(),
            key,
            url,
        }))
    }

    /// Looks at the database by its URL. While it is open with one key, a Secret that holds another one, or none, changes nothing about that.
    async fn database(&self, url: &DatabaseUrl, encryption: &mut EncryptionKey, claim: Claim) -> DatabaseSeen {
        let mut target = Target {
            uid: ResourceUid::new(self.parent.uid.clone()),
            url: url_digest(&url.url),
            key_id: encryption.ring.as_ref().map(|ring| ring.primary_id().to_owned()),
        };
        let open = self.context.fleets.open_for(self.key).map(|(open, _)| open);
        if let Some(open) = open.filter(|open| open.uid == target.uid && open.url == target.url && open.key_id != target.key_id) {
            if encryption.standing == SecretStanding::Good {
                let message = format!(
                    "Secret {}/{} holds another key than the database was sealed with ({}): restore that one from a copy; what runs keeps it in \
                     memory, but no pod can start",
                    self.parent.namespace,
                    self.parent.names.encryption_secret,
                    open.key_id.as_deref().unwrap_or_default()
                );
                encryption.standing = SecretStanding::Replaced(message);
            }
            target = open;
        }
        let access = Access {
            key: self.key.clone(),
            target,
            url: url.url.clone(),
            url_stands_in: format!("Secret {}/{}, key {:?}", self.parent.namespace, url.secret, url.key),
            ring: encryption.ring.clone(),
            claim,
        };
        database::look(&self.context.fleets, &access).await
    }

    async fn children(
        &self,
        url: Option<&DatabaseUrl>,
        encryption: &EncryptionKey,
        claim: &Claim,
    ) -> Result<(Vec<ChildSeen>, Option<Rollout>, Option<PodTrouble>), ReconcileError> {
        let (parent, spec) = (self.parent, &self.object.spec);
        let name = parent.names.deployment.clone();
        let mut wanted: Vec<Wanted> = services(parent)
            .into_iter()
            .map(|service| Wanted::So(Child::Service(Box::new(service))))
            .collect();
        wanted.push(match disruption_budget(parent, spec.replicas()) {
            Some(budget) => Wanted::So(Child::DisruptionBudget(Box::new(budget))),
            None => Wanted::Not(ChildKind::DisruptionBudget, name.clone()),
        });
        let boot = encryption.ring.as_ref().zip(encryption.text.clone()).zip(url).map(|((ring, key), url)| {
            let inputs = BootInputs {
                database_url: url.url.clone(),
                encryption_key: key,
                key_ids: vec![ring.primary_id().to_owned()],
                fleet: self.context.fleets.fleet_id(self.key),
            };
            (inputs, url)
        });
        wanted.push(match &boot {
            Some((boot, url)) => {
                let pods = Pods {
                    spec,
                    default_image: &self.context.options.image,
                    claim,
                    database_secret: (&url.secret, &url.key),
                    boot,
                };
                Wanted::So(Child::Deployment(Box::new(deployment(parent, &pods))))
            }
            None => Wanted::Unknown(ChildKind::Deployment, name),
        });
        let looks = wanted
            .into_iter()
            .map(|wanted| children::look(&self.context.client, &self.context.fleets, parent, wanted));
        let (mut seen, mut rollout, mut trouble) = (Vec::new(), None, None);
        for (child, found) in try_join_all(looks).await? {
            if let Some(found) = found.filter(|_| child.needs_database) {
                let stands = children::rollout(&found, spec.replicas());
                if !stands.is_whole() {
                    let selector = labels::selector_text(&parent.name);
                    trouble = pods::look(&self.context.client, &parent.namespace, &selector, children::boot_hash(&found)).await?;
                }
                rollout = Some(stands);
            }
            seen.push(child);
        }
        Ok((seen, rollout, trouble))
    }
}

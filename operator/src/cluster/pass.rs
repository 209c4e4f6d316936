//! What one look at an object has read so far, so that nothing is read twice unless an effect may have changed it. It is dropped with the look,
//! and with it every secret value. It refuses to know what is decided from it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use store::{DbTime, Fleet, ProjectView, ReplicaView, ResourceUid, TokenView};

use super::context::Context;
use super::failure::{ApiFailure, ReconcileError, api, database};
use super::fleets::LiveFleet;
use super::references::Key;
use super::token_secret::Found;
use crate::effect::Effect;
use crate::observed::Observed;

/// What a look came to.
pub(crate) enum Look {
    /// Everything that a decision needs.
    Seen {
        /// The observation.
        seen: Box<Observed>,
        /// The database's clock then.
        now: DbTime,
        /// The database that the object's rows are in.
        fleet: Option<Arc<LiveFleet>>,
    },
    /// Something that will be known shortly is not known yet: look again then.
    NotYet(Duration),
}

/// What one look has read so far.
#[derive(Default)]
pub(crate) struct Pass {
    clock: Option<(DbTime, Instant)>,
    token: Option<Option<TokenView>>,
    holder: Option<Arc<LiveFleet>>,
    /// Whether an effect found other rows than were read.
    overtaken: bool,
    project: Option<Option<ProjectView>>,
    replicas: Option<Vec<ReplicaView>>,
    /// By name, in the object's namespace.
    token_secrets: HashMap<String, Found>,
    inputs: HashMap<Key, Option<Secret>>,
    /// Why the rest of the look does without the database.
    pub(crate) away: Option<ReconcileError>,
}

impl Pass {
    /// The database's clock: read once and moved on by the process's own, which over so short a time goes as fast. Never ahead, because time
    /// is counted from the answer's arrival.
    ///
    /// # Errors
    /// Those of any read.
    pub(crate) async fn now(&mut self, fleet: &Fleet) -> store::Result<DbTime> {
        let (read, at) = match self.clock {
            Some(clock) => clock,
            None => {
                let read = database(fleet.store().now()).await?;
                *self.clock.insert((read, Instant::now()))
            }
        };
        Ok(read.plus_ms(i64::try_from(at.elapsed().as_millis()).unwrap_or(0)))
    }

    /// The row of the token that is looked at.
    ///
    /// # Errors
    /// Those of any read.
    pub(crate) async fn token(&mut self, fleet: &Fleet, uid: &ResourceUid) -> store::Result<Option<TokenView>> {
        if self.token.is_none() {
            self.token = Some(database(fleet.token_by_uid(uid)).await?);
        }
        Ok(self.token.clone().flatten())
    }

    /// The database that holds the token that is looked at, whose project or fleet is not declared (any more).
    ///
    /// # Errors
    /// Those of any read.
    pub(crate) async fn holder_of_token(&mut self, context: &Context, uid: &ResourceUid) -> store::Result<Option<Arc<LiveFleet>>> {
        if self.holder.is_none() {
            for live in context.fleets.live() {
                let row = database(live.fleet.token_by_uid(uid)).await?;
                if row.is_some() {
                    (self.token, self.holder) = (Some(row), Some(live));
                    break;
                }
            }
        }
        Ok(self.holder.clone())
    }

    /// The database that holds the project that is looked at, whose fleet is not declared (any more).
    ///
    /// # Errors
    /// Those of any read.
    pub(crate) async fn holder_of_project(&mut self, context: &Context, uid: &ResourceUid) -> store::Result<Option<Arc<LiveFleet>>> {
        if self.holder.is_none() {
            for live in context.fleets.live() {
                let row = database(live.fleet.project_by_uid(uid)).await?;
                if row.is_some() {
                    (self.project, self.holder) = (Some(row), Some(live));
                    break;
                }
            }
        }
        Ok(self.holder.clone())
    }

    /// The row of the project that is looked at.
    ///
    /// # Errors
    /// Those of any read.
    pub(crate) async fn project(&mut self, fleet: &Fleet, uid: &ResourceUid) -> store::Result<Option<ProjectView>> {
        if self.project.is_none() {
            self.project = Some(database(fleet.project_by_uid(uid)).await?);
        }
        Ok(self.project.clone().flatten())
    }

    /// The replicas that must acknowledge, read after the row whose take-away they must acknowledge: none if nothing was ever taken away.
    ///
    /// # Errors
    /// Those of any read.
    pub(crate) async fn replicas(&mut self, fleet: &LiveFleet, takeaway: Option<store::FeedVersion>) -> store::Result<Vec<ReplicaView>> {
        if takeaway.is_none_or(|version| version.0 == 0) {
            return Ok(Vec::new());
        }
        if self.replicas.is_none() {
            self.replicas = Some(database(fleet.replicas()).await?);
        }
        Ok(self.replicas.clone().unwrap_or_default())
    }

    /// The Secret under a name that a token wants or has.
    ///
    /// # Errors
    /// [`ApiFailure`].
    pub(crate) async fn token_secret(&mut self, context: &Context, namespace: &str, name: &str, token: &ResourceUid) -> Result<Found, ApiFailure> {
        if let Some(found) = self.token_secrets.get(name) {
            return Ok(found.clone());
        }
        let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
        let found = match api(secrets.get_opt(name)).await {
            Ok(found) => found.as_ref().map_or_else(Found::absent, |secret| Found::read(secret, token.as_str())),
            Err(ApiFailure::Refused(why)) => Found::unreadable(why),
            Err(failure) => return Err(failure),
        };
        self.token_secrets.insert(name.to_owned(), found.clone());
        Ok(found)
    }

    /// What was found under a name, without another look.
    pub(crate) fn known_token_secret(&self, name: &str) -> Option<&Found> {
        self.token_secrets.get(name)
    }

    /// Notes what stands under a name after a write.
    pub(crate) fn note_token_secret(&mut self, name: &str, found: Found) {
        self.token_secrets.insert(name.to_owned(), found);
    }

    /// A write found something else under a name than what was read: it must be read again.
    pub(crate) fn doubt_token_secret(&mut self, name: &str) {
        self.token_secrets.remove(name);
    }

    /// A Secret that is only read.
    ///
    /// # Errors
    /// [`ApiFailure`].
    pub(crate) async fn input(&mut self, context: &Context, secret: &Key) -> Result<Option<&Secret>, ApiFailure> {
        if !self.inputs.contains_key(secret) {
            let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &secret.0);
            let found = api(secrets.get_opt(&secret.1)).await?;
            self.inputs.insert(secret.clone(), found);
        }
        Ok(self.inputs.get(secret).and_then(Option::as_ref))
    }

    /// Forgets what a performed effect may have changed.
    pub(crate) fn keep_up(&mut self, effect: &Effect) {
        match effect {
            Effect::BeginSecretWrite { digest, .. } => {
                let row = self.token.as_mut().and_then(Option::as_mut);
                if let Some(pending) = row.and_then(|row| row.revisions.iter_mut().find(|revision| revision.digest == *digest)) {
                    pending.write_begun = true;
                }
            }
            Effect::WriteSecret(_) | Effect::DeleteSecret { .. } | Effect::SetStatus(_) | Effect::Emit(_) | Effect::Forget(_) => {}
            _ => self.doubt_rows(),
        }
    }

    /// An effect found other rows than were read: what others have told of them is not believed for the rest of the look.
    pub(crate) fn overtaken(&mut self) {
        self.overtaken = true;
        self.doubt_rows();
    }

    /// Whether what others have told of rows is to be believed.
    pub(crate) fn believes(&self) -> bool {
        !self.overtaken
    }

    fn doubt_rows(&mut self) {
        (self.token, self.project, self.replicas) = (None, None, None);
    }
}

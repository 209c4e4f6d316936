//! Deleted objects and the end of their rows. Deletions are told by the watch, and what no watch told of is found by difference: rows of objects
//! that are in neither of two complete LISTs. There are no finalizers, so nothing ever waits for this. It refuses to know what is in the rows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crds::{Kind, LlmProject, WitheringToken};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use store::ResourceUid;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::context::Context;
use super::failure::{ReconcileError, database};
use super::fleets::LiveFleet;
use super::leave::{Left, leave};
use super::listing::uids;
use crate::object::Object;

/// How far apart the two LISTs are.
const APART: Duration = Duration::from_secs(5);
/// How often the difference is looked for if there is no special reason.
const EVERY: Duration = Duration::from_secs(600);
/// How soon a difference that could not be found is looked for again.
const RETRY: Duration = Duration::from_secs(10);
/// The first and the longest pause before a departure is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How soon to look again at rows that are to go and are still in use, or whose database is away.
const IN_USE: Duration = Duration::from_secs(1);
const AWAY: Duration = Duration::from_secs(30);
/// How often it is looked whether a database was opened in the meantime.
const LOOK_FOR_FLEETS: Duration = Duration::from_secs(1);

/// An object that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Departed {
    /// Which kind it was.
    pub(crate) kind: Kind,
    /// Who it was: whoever has its name now is another one.
    pub(crate) uid: ResourceUid,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

/// Kind, namespace and name.
type Name = (Kind, String, String);

/// Where departures are told. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Departures {
    queue: mpsc::UnboundedSender<Departed>,
    /// Who has each name, as far as it was looked at.
    present: Arc<Mutex<HashMap<Name, ResourceUid>>>,
    /// Those whose rows are to go and cannot yet, and when to look again: they hold up nobody else.
    later: Arc<Mutex<Vec<(Instant, Departed)>>>,
    doubt: Arc<Notify>,
}

/// Where [`run`] hears of them.
#[derive(Debug)]
pub(crate) struct Told {
    queue: mpsc::UnboundedReceiver<Departed>,
}

impl Departures {
    /// Both ends.
    pub(crate) fn new() -> (Self, Told) {
        let (queue, told) = mpsc::unbounded_channel();
        let departures = Self {
            queue,
            present: Arc::default(),
            later: Arc::default(),
            doubt: Arc::default(),
        };
        (departures, Told { queue: told })
    }

    /// An object is gone, by the API server's word.
    pub(crate) fn note(&self, departed: Departed) {
        let key = (departed.kind, departed.namespace.clone(), departed.name.clone());
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.get(&key) == Some(&departed.uid) {
            present.remove(&key);
        }
        let _ = self.queue.send(departed);
    }

    /// An object is there. If another one had its name, that one is gone: names are unique.
    pub(crate) fn see(&self, object: &Object) {
        let key = (object.kind, object.namespace.clone(), object.name.clone());
        let before = self
            .present
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, object.uid.clone());
        if let Some(uid) = before.filter(|uid| *uid != object.uid) {
            self.note(Departed {
                kind: object.kind,
                uid,
                namespace: object.namespace.clone(),
                name: object.name.clone(),
            });
        }
    }

    /// Its rows cannot go yet.
    fn look_later(&self, pause: Duration, departed: Departed) {
        self.later
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((Instant::now() + pause, departed));
    }

    /// Tells again of those whose pause is over.
    fn look_again(&self) {
        let mut later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        for (_, departed) in later.extract_if(.., |(due, _)| *due <= now) {
            let _ = self.queue.send(departed);
        }
    }

    /// A watch was interrupted: deletions may have gone by unseen.
    pub(crate) fn doubt(&self) {
        self.doubt.notify_one();
    }
}

/// Sees to every departure until it is dropped, which it is with the Lease.
pub(crate) async fn run(context: Arc<Context>, told: Told) {
    futures_util::future::join(see_off(&context, told), differences(&context)).await;
}

/// Ends the rows of departed objects as they are told, and again until it is done.
async fn see_off(context: &Context, told: Told) {
    let told = futures_util::stream::unfold(told.queue, |mut queue| async { queue.recv().await.map(|departed| (departed, queue)) });
    // Without bound: those that wait for a database that is away hold up none that is in another one.
    told.for_each_concurrent(None, |departed| async move {
        context.memories.forget(&departed.uid);
        let mut pause = FIRST_PAUSE;
        if departed.kind == Kind::ProxyConfig {
            context.fleets.retire(&(departed.namespace.clone(), departed.name.clone()), &departed.uid);
        }
        let later = loop {
            match end(context, &departed, &context.fleets.live()).await {
                Ok(Left::Done) => break None,
                Ok(Left::InUse) => break Some(IN_USE),
                Err(ReconcileError::Stopped | ReconcileError::NotLeading(_)) => return,
                Err(error) => tracing::warn!(
                    kind = %departed.kind, namespace = departed.namespace, name = departed.name,
                    "deleted, and what that means not done yet: {error}"
                ),
            }
            // No key lives because of it, and its database may never come back.
            if departed.kind == Kind::ProxyConfig {
                break Some(AWAY);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        if departed.kind == Kind::LlmProject {
            context.in_force.forget(&departed.uid);
        }
        if let Some(pause) = later {
            context.departures.look_later(pause, departed);
        }
    })
    .await;
}

/// Ends what a departed object has left in any of the open databases: its fleet may be gone as well, and which one it was with it. A database
/// that is opened later is compared with what exists.
async fn end(context: &Context, departed: &Departed, fleets: &[Arc<LiveFleet>]) -> Result<Left, ReconcileError> {
    let gone = Object {
        kind: departed.kind,
        namespace: departed.namespace.clone(),
        name: departed.name.clone(),
        uid: departed.uid.clone(),
        generation: 0,
    };
    // One database that is away keeps nothing alive in the others.
    let all = join_all(fleets.iter().map(|live| leave(context, live, &gone))).await;
    let mut left = Left::Done;
    for one in all {
        if one? == Left::InUse {
            left = Left::InUse;
        }
    }
    Ok(left)
}

/// Looks for what no watch told of: at the start, whenever a database was opened, after a watch was interrupted, and now and then.
async fn differences(context: &Context) {
    let mut compared: Vec<Arc<LiveFleet>> = Vec::new();
    let mut due = Instant::now();
    loop {
        let fleets = context.fleets.live();
        let is_new = |fleet: &Arc<LiveFleet>| !compared.iter().any(|known| Arc::ptr_eq(known, fleet));
        if Instant::now() >= due || fleets.iter().any(is_new) {
            match difference(context, &fleets).await {
                Ok(()) => {
                    compared = fleets;
                    due = Instant::now() + EVERY;
                }
                Err(error) => {
                    tracing::warn!("whether objects were deleted unseen cannot be found out, and is tried again: {error}");
                    due = Instant::now() + RETRY;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        tokio::select! {
            () = context.departures.doubt.notified() => due = Instant::now(),
            () = tokio::time::sleep(LOOK_FOR_FLEETS) => context.departures.look_again(),
        }
    }
}

/// Tells of every object that has rows and is in neither of two complete LISTs. The rows are read first, so that each is of an object that was
/// there before the first LIST, unless it was deleted. A database that cannot be read keeps nothing in the others from being found.
async fn difference(context: &Context, fleets: &[Arc<LiveFleet>]) -> Result<(), ReconcileError> {
    let (mut missing, mut unread) = (Vec::new(), Ok(()));
    for read in join_all(fleets.iter().map(|live| rows(context, live))).await {
        match read {
            Ok(rows) => missing.extend(rows),
            Err(error) => unread = Err(error.into()),
        }
    }
    for look in 0..2 {
        if missing.is_empty() {
            return unread;
        }
        if look > 0 {
            tokio::time::sleep(APART).await;
        }
        let projects = uids::<LlmProject>(&context.client, &context.options.scope).await?;
        let tokens = uids::<WitheringToken>(&context.client, &context.options.scope).await?;
        missing.retain(|departed| match departed.kind {
            Kind::LlmProject => !projects.contains(&departed.uid),
            Kind::WitheringToken => !tokens.contains(&departed.uid),
            Kind::ProxyConfig => false,
        });
    }
    for departed in missing {
        tracing::info!(kind = %departed.kind, namespace = departed.namespace, name = departed.name, "was deleted unseen");
        context.departures.note(departed);
    }
    unread
}

/// The objects of this cluster, in a namespace that is looked at, whose rows live in a database.
async fn rows(context: &Context, live: &LiveFleet) -> store::Result<Vec<Departed>> {
    let is_looked_at = |owner: &store::Owner| context.options.scope.contains(&owner.namespace);
    let departed = |kind: Kind, owner: store::Owner| Departed {
        kind,
        uid: owner.uid,
        namespace: owner.namespace,
        name: owner.name,
    };
    let projects = database(live.fleet.owned_projects(&context.cluster)).await?;
    let tokens = database(live.fleet.owned_tokens(&context.cluster)).await?;
    let projects = projects
        .into_iter()
        .filter(|row| is_looked_at(&row.owner))
        .map(|row| departed(Kind::LlmProject, row.owner));
    let tokens = tokens
        .into_iter()
        .filter(|row| is_looked_at(&row.owner))
        .map(|row| departed(Kind::WitheringToken, row.owner));
    Ok(projects.chain(tokens).collect())
}

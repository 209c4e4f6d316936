//! One look at one object: observe, decide, perform one effect, observe again, until nothing is left to do; and when to look again.
//! It refuses to know what the effects mean and which kinds there are.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::conditions::Condition;
use crds::{LlmProject, ProxyConfig, WitheringToken};
use futures_util::FutureExt as _;
use kube::runtime::controller::Action;
use store::DbTime;

use super::context::Context;
use super::driven::{Driven, brought_up, identity, own_status, version};
use super::failure::{ApiFailure, ReconcileError};
use super::memories::jitter;
use super::observe_project::process_time;
use super::pass::{Look, Pass};
use super::perform::{Outcome, Subject, perform};
use super::status;
use crate::decide::decide;
use crate::effect::{Effect, Status};
use crate::object::Object;
use crate::observed::{Observed, SecretClaim};

/// More effects than any object needs in one look; reached only by a fault of ours, or by somebody who is faster than us each time.
const MOST_EFFECTS: usize = 64;
/// How long one look may take.
const LONGEST_LOOK: Duration = Duration::from_secs(60);
/// The longest pause after failed looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause while a database is away: when it is back, so are all who wait for it.
const LONGEST_PAUSE_FOR_A_DATABASE: Duration = Duration::from_secs(10);
/// How often everything is looked at even if nothing is seen to change, for what nobody tells of: a row changed by hand.
const RESYNC: Duration = Duration::from_secs(1_800);
/// How soon to look again where the copy that was decided on was overtaken and the watch has not shown by what.
const CATCH_UP: Duration = Duration::from_millis(200);
/// How soon to look again whether a Secret's name came free.
const CONTENDED: Duration = Duration::from_secs(5);
/// The shortest wait for a moment that time alone brings about: what happens in a fleet wakes whom it concerns.
const SHORTEST_WAIT: Duration = Duration::from_millis(200);

/// Looks after a ProxyConfig.
///
/// # Errors
/// Why the look ended early; [`error_policy`] says when the next one is due.
pub(crate) async fn reconcile_proxy_config(object: Arc<ProxyConfig>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    reconcile(object, context).await
}

/// Looks after an LLMProject.
///
/// # Errors
/// As [`reconcile_proxy_config`].
pub(crate) async fn reconcile_project(object: Arc<LlmProject>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    reconcile(object, context).await
}

/// Looks after a WitheringToken.
///
/// # Errors
/// As [`reconcile_proxy_config`].
pub(crate) async fn reconcile_token(object: Arc<WitheringToken>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    reconcile(object, context).await
}

/// When to look again after a failed look.
pub(crate) fn error_policy<K: Driven>(object: Arc<K>, error: &ReconcileError, context: Arc<Context>) -> Action {
    if matches!(error, ReconcileError::NotLeading(_) | ReconcileError::Stopped) {
        return Action::await_change();
    }
    let longest = if error.database_away().is_some() {
        LONGEST_PAUSE_FOR_A_DATABASE
    } else {
        LONGEST_PAUSE
    };
    let uid = identity(object.as_ref()).uid;
    Action::requeue(context.memories.plan_retry(&uid, Instant::now(), longest, error.retry_after()))
}

async fn reconcile<K: Driven>(shown: Arc<K>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let object = identity(shown.as_ref());
    context.departures.see(&object);
    context.memories.begin(&object.uid, Instant::now());
    let look = AssertUnwindSafe(drive(shown, &context)).catch_unwind();
    let outcome = match tokio::time::timeout(LONGEST_LOOK, look).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(ReconcileError::Panicked(words(panic.as_ref()))),
        Err(_) => Err(ReconcileError::TooLong(LONGEST_LOOK)),
    };
    match &outcome {
        Ok(_) => context.memories.succeeded(&object.uid),
        Err(ReconcileError::NotLeading(_) | ReconcileError::Stopped) => {}
        Err(error) => {
            let failures = context.memories.failures(&object.uid) + 1;
            if error.may_be_a_hiccup(failures) {
                tracing::debug!(kind = %object.kind, namespace = object.namespace, name = object.name, failures, "not done yet: {error}");
            } else {
                tracing::warn!(kind = %object.kind, namespace = object.namespace, name = object.name, failures, "not done, and tried again: {error}");
            }
        }
    }
    outcome
}

async fn drive<K: Driven>(shown: Arc<K>, context: &Context) -> Result<Action, ReconcileError> {
    let subject = identity(shown.as_ref());
    let mut pass = Pass::default();
    for _ in 0..MOST_EFFECTS {
        let Some(latest) = latest(context, &subject, &shown) else {
            return Ok(Action::await_change());
        };
        let object = identity(latest.as_ref());
        let (seen, now, fleet) = match look(context, latest.as_ref(), &object, &mut pass).await? {
            Look::Seen { seen, now, fleet } => (seen, now, fleet),
            Look::NotYet(wait) => return Ok(Action::requeue(wait)),
        };
        let decision = decide(&seen);
        let standing = own_status(latest.as_ref()).map(K::wrap);
        let stands = |wanted: &Status| standing.as_ref().is_some_and(|standing| status::same(standing, wanted));
        let effect = decision
            .effect
            .filter(|effect| !matches!(effect, Effect::SetStatus(wanted) if stands(wanted)));
        let Some(effect) = effect else {
            return match pass.away {
                Some(error) => Err(error),
                None => Ok(again(&seen, decision.recheck_at, now)),
            };
        };
        let performing = Subject {
            object: &object,
            version: version(latest.as_ref()),
            fleet: fleet.as_ref(),
        };
        match perform::<K>(context, &performing, &effect, &mut pass).await {
            Ok(Outcome::Done(version)) => {
                pass.keep_up(&effect);
                context.memories.change(&object.uid, |memory| memory.note(&effect, version, now));
                if let Effect::SetStatus(status) = &effect {
                    log_conditions(&object, standing.as_ref(), status);
                }
            }
            Ok(Outcome::Overtaken) if matches!(effect, Effect::SetStatus(_)) => {
                let newer = self::latest(context, &object, &shown).is_none_or(|newer| version(newer.as_ref()) != performing.version);
                if !newer {
                    return Ok(Action::requeue(CATCH_UP));
                }
            }
            Ok(Outcome::Overtaken) => pass.overtaken(),
            Ok(Outcome::Failed(why)) => {
                tracing::error!(kind = %object.kind, namespace = object.namespace, name = object.name, "{why}");
                context.memories.change(&object.uid, |memory| memory.note_failure(why, now));
            }
            // Gone between the look and the write: its departure is another look's.
            Err(ReconcileError::Api(ApiFailure::Missing)) if matches!(effect, Effect::SetStatus(_)) => return Ok(Action::await_change()),
            Err(error) => give_up_the_database(context, &object, &mut pass, error)?,
        }
        stop_if_told(context, &object, &effect)?;
        if matches!(effect, Effect::Forget(_)) {
            context.memories.forget(&object.uid);
            return Ok(Action::await_change());
        }
    }
    Err(ReconcileError::Unsettled(MOST_EFFECTS))
}

/// Observes the object: with its fleet's database, or, where that is away for longer than a hiccup, without.
async fn look<K: Driven>(context: &Context, latest: &K, object: &Object, pass: &mut Pass) -> Result<Look, ReconcileError> {
    if pass.away.is_none() {
        match latest.observe(context, pass, context.memories.of(&object.uid)).await {
            Ok(look) => return Ok(look),
            Err(error) => give_up_the_database(context, object, pass, error)?,
        }
    }
    let away = pass.away.as_ref().and_then(ReconcileError::database_away);
    let seen = away.and_then(|away| latest.without_database(context, context.memories.of(&object.uid), away));
    match (seen, pass.away.take()) {
        (Some(seen), away) => {
            pass.away = away;
            Ok(Look::Seen {
                seen: Box::new(seen),
                now: process_time(),
                fleet: None,
            })
        }
        (None, Some(error)) => Err(error),
        (None, None) => Ok(Look::NotYet(CATCH_UP)),
    }
}

/// Goes on without the database, so that the status can say that it is away, unless it has only just gone.
///
/// # Errors
/// The error itself, if it is about something else or may be a hiccup.
fn give_up_the_database(context: &Context, object: &Object, pass: &mut Pass, error: ReconcileError) -> Result<(), ReconcileError> {
    if error.database_away().is_none() || error.may_be_a_hiccup(context.memories.failures(&object.uid)) || pass.away.is_some() {
        return Err(error);
    }
    pass.away = Some(error);
    Ok(())
}

/// Calls the hook of a test, after which nothing may be written any more.
///
/// # Errors
/// [`ReconcileError::Stopped`].
pub(crate) fn stop_if_told(context: &Context, object: &Object, effect: &Effect) -> Result<(), ReconcileError> {
    match context.hook.as_ref().map(|hook| hook(object, effect)) {
        Some(ControlFlow::Break(())) => {
            context.gate.close();
            Err(ReconcileError::Stopped)
        }
        _ => Ok(()),
    }
}

/// The latest copy of the object, with what was written last; nothing if it is gone, or another one has its name.
fn latest<K: Driven>(context: &Context, object: &Object, shown: &Arc<K>) -> Option<Arc<K>> {
    let latest = K::latest(&context.stores, &object.namespace, &object.name)?;
    if latest.meta().uid != shown.meta().uid {
        return None;
    }
    let written = context.memories.newer_than(&object.uid, version(latest.as_ref()));
    Some(brought_up(latest, written))
}

/// When to look again if nothing changes until then.
fn again(seen: &Observed, recheck_at: Option<DbTime>, now: DbTime) -> Action {
    let resync = RESYNC.mul_f64(1.0 + jitter());
    let due = recheck_at.map(|at| Duration::from_millis(u64::try_from(at.ms_since(now)).unwrap_or(0)).max(SHORTEST_WAIT));
    let contended = match seen {
        Observed::Token(token) => matches!(token.claim, SecretClaim::Taken(_)).then_some(CONTENDED),
        _ => None,
    };
    Action::requeue([Some(resync), due, contended].into_iter().flatten().min().unwrap_or(resync))
}

/// One line per condition that changed.
fn log_conditions(object: &Object, before: Option<&Status>, status: &Status) {
    let before = before.map(Status::conditions).unwrap_or_default();
    for condition in status.conditions() {
        let same = |old: &&Condition| old.type_ == condition.type_ && old.status == condition.status && old.reason == condition.reason;
        if !before.iter().any(|old| same(&old)) {
            tracing::info!(
                kind = %object.kind, namespace = object.namespace, name = object.name,
                condition = condition.type_, status = condition.status, reason = condition.reason,
                "{}", condition.message
            );
        }
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no words".to_owned())
}

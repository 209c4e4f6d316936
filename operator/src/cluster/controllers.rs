//! The three controllers: a queue and a bound on concurrency for each kind. They are woken by [`super::wake`] alone, by watches, feeds and timers.
//! It refuses to know what a look at an object does.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::{FutureExt, Stream, StreamExt, stream};
use kube::runtime::controller::{Action, Config, Controller, Error};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::{mpsc, watch};

use super::context::Context;
use super::drive;
use super::driven::Driven;
use super::failure::ReconcileError;
use super::options::Concurrency;
use super::wake::Woken;
use super::watched::{Watched, key};

/// Looks at objects until `stop` says so and what is in flight has ended. Dropped, everything in flight is dropped with it.
pub(crate) async fn run(context: Arc<Context>, woken: Woken, stop: watch::Receiver<bool>) {
    let Concurrency {
        proxy_configs,
        projects,
        tokens,
    } = context.options.concurrency;
    let stores = context.stores.clone();
    tokio::join!(
        one(
            stores.proxy_configs,
            proxy_configs,
            woken.proxy_configs,
            &context,
            stop.clone(),
            drive::reconcile_proxy_config
        ),
        one(
            stores.projects,
            projects,
            woken.projects,
            &context,
            stop.clone(),
            drive::reconcile_project
        ),
        one(stores.tokens, tokens, woken.tokens, &context, stop, drive::reconcile_token),
    );
}

async fn one<K, F>(
    store: Store<K>,
    concurrency: u16,
    woken: mpsc::UnboundedReceiver<ObjectRef<K>>,
    context: &Arc<Context>,
    mut stop: watch::Receiver<bool>,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + Send + Sync + 'static,
) where
    K: Watched + Driven + Debug + Unpin,
    ObjectRef<K>: Hash + Eq,
    F: Future<Output = Result<Action, ReconcileError>> + Send + 'static,
{
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let waiting = context.wakes.waiting().clone();
    let look = move |object: Arc<K>, context: Arc<Context>| {
        let (namespace, name) = key(object.meta());
        context.wakes.waiting().begun(<K as Watched>::KIND, &namespace, &name);
        let look = context.metrics.look(<K as Watched>::KIND);
        reconcile(object, Arc::clone(&context))
            .map(move |ended| {
                let outcome = match &ended {
                    Ok(_) => "ok",
                    Err(error) => error.class(),
                };
                if matches!(outcome, "not_leading" | "fenced") {
                    context.metrics.fenced();
                }
                look.ended(outcome);
                ended
            })
            .boxed()
    };
    Controller::for_stream(stream::pending(), store)
        .with_config(Config::default().concurrency(concurrency))
        .reconcile_on(receive(woken))
        .graceful_shutdown_on(stopped)
        .run(look, drive::error_policy, Arc::clone(context))
        .for_each(|ended| {
            // How a look ended is the driver's to say. An object that is not there any more was woken in vain.
            if let Err(Error::ObjectNotFound(object)) = ended {
                waiting.begun(<K as Watched>::KIND, object.namespace.as_deref().unwrap_or_default(), &object.name);
            }
            std::future::ready(())
        })
        .await;
}

fn receive<T>(receiver: mpsc::UnboundedReceiver<T>) -> impl Stream<Item = T> {
    stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|item| (item, receiver)))
}

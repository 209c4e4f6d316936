//! One watch: a LIST, then what changes, for ever, with pauses after failures and an end to a LIST that hangs.
//! It refuses to know what is watched and what for.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::metrics::Metrics;

/// How long one step of a LIST may take.
const LIST_STEP: Duration = Duration::from_secs(30);
/// After so long the server ends a watch and it goes on from where it was; a connection that died silently is noticed a little later.
const WATCH_SECONDS: u32 = 120;
/// The first pause after a failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause: what was away is found again soon after it is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Where a watch's events go: the number of the watch, and the event.
pub(crate) type Out<K> = mpsc::Sender<(usize, Event<K>)>;

/// Follows one kind in one place, as `part` of a mirror, until nobody listens.
pub(crate) async fn follow<K>(api: Api<K>, selector: Option<&str>, part: usize, out: Out<K>, metrics: &Metrics)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let kind = K::plural(&());
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
    config.label_selector = selector.map(str::to_owned);
    let mut pause = FIRST_PAUSE;
    let mut complaint = None;
    loop {
        let mut events = pin!(watcher(api.clone(), config.clone()));
        let mut listing = true;
        loop {
            let next = if listing {
                let Ok(next) = tokio::time::timeout(LIST_STEP, events.next()).await else {
                    tracing::warn!("the LIST of {kind} does not answer within {LIST_STEP:?}: asking again");
                    break;
                };
                next
            } else {
                events.next().await
            };
            match next {
                Some(Ok(event)) => {
                    listing = match &event {
                        Event::Init => true,
                        Event::InitApply(_) => listing,
                        Event::InitDone | Event::Apply(_) | Event::Delete(_) => false,
                    };
                    // The beginning of a LIST is no success: it comes before the request is sent.
                    if !matches!(event, Event::Init) {
                        pause = FIRST_PAUSE;
                        if complaint.take().is_some() {
                            tracing::info!("the watch of {kind} goes on");
                        }
                    }
                    if out.send((part, event)).await.is_err() {
                        return;
                    }
                }
                Some(Err(error)) => {
                    metrics.watch_restarted(&kind);
                    let text = explain(&kind, &error);
                    // Watches end and go on all the time; only what lasts is worth a line.
                    if pause > FIRST_PAUSE && complaint.as_ref() != Some(&text) {
                        tracing::warn!("{text}");
                        complaint = Some(text);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                None => break,
            }
        }
    }
}

/// What went wrong and what to do.
fn explain(kind: &str, error: &watcher::Error) -> String {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    };
    match status {
        Some(404) => format!("the API server does not know {kind}: install the CustomResourceDefinitions of llm-proxy; waiting for them"),
        Some(401) => {
            format!("the API server does not accept this process's credentials ({kind}): check its ServiceAccount or kubeconfig; trying again")
        }
        Some(403) => format!("{kind} may not be listed or watched: grant the operator's role ({error}); trying again"),
        _ => format!("the watch of {kind} is interrupted: {error}; trying again"),
    }
}

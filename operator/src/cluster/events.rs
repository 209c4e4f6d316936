//! Events for people (`events.k8s.io/v1`), sent off the path of reconciling: what does not fit or repeats is dropped and counted.
//! It refuses to know why something is told. A note never holds a secret: its writers see to that.

mod queue;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crds::events::{Severity, note};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Notify;

use super::gate::Gate;
use super::metrics::Metrics;
use crate::effect::Notice;
use crate::object::Object;
use queue::{Queue, Waiting};

/// Who reports.
const CONTROLLER: &str = "llm-proxy.dev/operator";
/// The longest `reportingInstance`.
const MAX_INSTANCE: usize = 128;
/// How much of an object's name stands in its event's.
const NAME_PART: usize = 200;
/// How long one write may take, and how often a Warning is tried.
const TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;

/// Where events are told. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct EventSink {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    more: Notify,
    metrics: Metrics,
}

impl EventSink {
    /// An empty one, whose events [`EventSink::send_all`] sends.
    pub(crate) fn new(metrics: Metrics) -> Self {
        let shared = Shared {
            queue: Mutex::new(Queue::new(Instant::now())),
            more: Notify::new(),
            metrics,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Tells that something happened to an object. Never waits, never fails.
    pub(crate) fn emit(&self, object: &Object, notice: &Notice) {
        let event = Waiting {
            object: object.clone(),
            notice: notice.clone(),
        };
        let dropped = self.lock().push(event, Instant::now());
        match dropped {
            Some((severity, why)) => self.shared.metrics.event_dropped(severity, why),
            None => self.shared.more.notify_one(),
        }
    }

    /// Sends what is told, one after the other, so that a story keeps its order; for ever. Nothing is sent while the gate is closed.
    pub(crate) async fn send_all(&self, client: Client, gate: &Gate, instance: &str) {
        let instance = &instance[..instance.floor_char_boundary(MAX_INSTANCE)];
        loop {
            let next = self.lock().pop();
            match next {
                Some(waiting) => self.send(&client, gate, instance, &waiting).await,
                None => self.shared.more.notified().await,
            }
        }
    }

    /// Sends what still waits, for at most `patience`: before a process ends.
    pub(crate) async fn send_rest(&self, client: Client, gate: &Gate, instance: &str, patience: Duration) {
        let instance = &instance[..instance.floor_char_boundary(MAX_INSTANCE)];
        let all = async {
            loop {
                let Some(waiting) = self.lock().pop() else { return };
                self.send(&client, gate, instance, &waiting).await;
            }
        };
        let _ = tokio::time::timeout(patience, all).await;
    }

    async fn send(&self, client: &Client, gate: &Gate, instance: &str, waiting: &Waiting) {
        let severity = waiting.notice.reason.severity();
        let api: Api<Event> = Api::namespaced(client.clone(), &waiting.object.namespace);
        let event = event(&waiting.object, &waiting.notice, instance, Timestamp::now());
        let attempts = if severity == Severity::Warning { ATTEMPTS } else { 1 };
        let mut why = "refused";
        for attempt in 0..attempts {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            if gate.check().is_err() {
                why = "not_leading";
                break;
            }
            match tokio::time::timeout(TIMEOUT, api.create(&PostParams::default(), &event)).await {
                Ok(Ok(_)) => return self.shared.metrics.event_sent(severity),
                // An attempt before came through, or the namespace ends: nobody can be told there.
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 409) => return self.shared.metrics.event_sent(severity),
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404 | 422) => {
                    tracing::debug!("no event {} for {}: {}", waiting.notice.reason.as_str(), waiting.object, status.message);
                    break;
                }
                Ok(Err(_)) | Err(_) => why = "unavailable",
            }
        }
        self.shared.metrics.event_dropped(severity, why);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn event(object: &Object, notice: &Notice, instance: &str, now: Timestamp) -> Event {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let part = &object.name[..object.name.floor_char_boundary(NAME_PART)];
    let part = part.trim_end_matches(['.', '-']);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed) & 0xffff;
    Event {
        metadata: ObjectMeta {
            namespace: Some(object.namespace.clone()),
            name: Some(format!("{part}.{:x}{serial:04x}", now.as_microsecond())),
            ..ObjectMeta::default()
        },
        action: Some(notice.reason.action().to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(note(&notice.note).to_owned()),
        reason: Some(notice.reason.as_str().to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(crds::API_VERSION.to_owned()),
            kind: Some(object.kind.as_str().to_owned()),
            name: Some(object.name.clone()),
            namespace: Some(object.namespace.clone()),
            uid: Some(object.uid.as_str().to_owned()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        type_: Some(notice.reason.severity().as_str().to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::Kind;
    use crds::events::EventReason;
    use store::ResourceUid;

    #[test]
    fn the_event_of_the_longest_name_has_a_name_that_the_api_takes() {
        let object = Object {
            kind: Kind::WitheringToken,
            namespace: "a".to_owned(),
            name: format!("{}.{}", "a".repeat(199), "b".repeat(53)),
            uid: ResourceUid::new("u"),
            generation: 1,
        };
        let notice = Notice {
            reason: EventReason::TokenIssued,
            note: "x".repeat(5_000),
        };
        let one = event(&object, &notice, "me", Timestamp::from_second(1).unwrap());
        let two = event(&object, &notice, "me", Timestamp::from_second(1).unwrap());
        let name = one.metadata.name.clone().unwrap();
        assert!(crds::names::dns_subdomain(&name).is_ok(), "{name}");
        assert_ne!(one.metadata.name, two.metadata.name);
        assert_eq!(one.note.map(|note| note.len()), Some(crds::events::MAX_NOTE));
        assert_eq!(one.regarding.and_then(|regarding| regarding.uid), Some("u".to_owned()));
    }
}

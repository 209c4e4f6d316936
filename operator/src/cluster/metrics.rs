//! The operator's counters and gauges, and their text for Prometheus. No label has more values than there are kinds, reasons or fleets.
//! It refuses to know who counts and how the text is served.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crds::Kind;
use crds::conditions::ConditionType;
use crds::events::Severity;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::fleets::Fleets;
use super::stores::Stores;

/// Upper bounds of the durations of a look at an object, in s.
const SECONDS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0];

/// One of the three kinds, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct KindLabel(Kind);

impl EncodeLabelValue for KindLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.0.as_str(), encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: KindLabel,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    kind: KindLabel,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    resource: &'static str,
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Watched {
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    severity: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Dropped {
    severity: &'static str,
    why: &'static str,
}

/// What is counted. Clones share it; it outlives the terms of leadership.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    looks: Family<Outcome, Counter>,
    look_seconds: Family<OfKind, Histogram>,
    in_flight: Family<OfKind, Gauge>,
    writes: Family<Write, Counter>,
    watch_restarts: Family<Watched, Counter>,
    unreadable: Family<OfKind, Gauge>,
    events_sent: Family<Sent, Counter>,
    events_dropped: Family<Dropped, Counter>,
    fenced: Counter,
    leader: Gauge,
    term: Arc<Mutex<Option<Term>>>,
}

/// What a term of leadership knows, looked at when somebody asks.
#[derive(Clone)]
pub(crate) struct Term {
    /// The copies of the declared objects.
    pub(crate) stores: Stores,
    /// The databases.
    pub(crate) fleets: Fleets,
    /// How many objects of each kind wait for a look.
    pub(crate) waiting: super::wake::Waiting,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("llm_proxy_operator");
        let looks = Family::<Outcome, Counter>::default();
        let look_seconds = Family::<OfKind, Histogram>::new_with_constructor(|| Histogram::new(SECONDS));
        let in_flight = Family::<OfKind, Gauge>::default();
        let writes = Family::<Write, Counter>::default();
        let watch_restarts = Family::<Watched, Counter>::default();
        let unreadable = Family::<OfKind, Gauge>::default();
        let events_sent = Family::<Sent, Counter>::default();
        let events_dropped = Family::<Dropped, Counter>::default();
        let (fenced, leader) = (Counter::default(), Gauge::default());
        let term = Arc::new(Mutex::new(None));
        registry.register("reconciles", "Looks at objects, by kind and outcome", looks.clone());
        registry.register("reconcile_seconds", "How long a look at an object took", look_seconds.clone());
        registry.register("reconciles_in_flight", "Objects that are looked at now", in_flight.clone());
        registry.register(
            "api_writes",
            "Writes sent to the API server, besides the Lease and events",
            writes.clone(),
        );
        registry.register("watch_restarts", "Interrupted watches", watch_restarts.clone());
        registry.register("unreadable_objects", "Objects that this version cannot read", unreadable.clone());
        registry.register("events_sent", "Events written", events_sent.clone());
        registry.register("events_dropped", "Events that were not written, and why", events_dropped.clone());
        registry.register(
            "fenced_writes",
            "Writes that were withheld because this process does not lead (any more)",
            fenced.clone(),
        );
        registry.register("leader", "1 while this process leads", leader.clone());
        registry.register_collector(Box::new(TermCollector(Arc::clone(&term))));
        Self {
            registry: Arc::new(registry),
            looks,
            look_seconds,
            in_flight,
            writes,
            watch_restarts,
            unreadable,
            events_sent,
            events_dropped,
            fenced,
            leader,
            term,
        }
    }
}

impl Metrics {
    /// A look at an object begins; what is returned ends it, with no outcome if it is dropped.
    pub(crate) fn look(&self, kind: Kind) -> Look {
        let kind = KindLabel(kind);
        let in_flight = self.in_flight.get_or_create(&OfKind { kind }).clone();
        in_flight.inc();
        Look {
            metrics: self.clone(),
            kind,
            begun: Instant::now(),
            outcome: "abandoned",
            in_flight,
        }
    }

    /// A write was sent to the API server; `resource` and `verb` are words of ours.
    pub(crate) fn wrote(&self, resource: &'static str, verb: &'static str) {
        self.writes.get_or_create(&Write { resource, verb }).inc();
    }

    /// A watch broke and goes on.
    pub(crate) fn watch_restarted(&self, resource: &str) {
        self.watch_restarts
            .get_or_create(&Watched {
                resource: resource.to_owned(),
            })
            .inc();
    }

    /// So many objects of a kind cannot be read.
    pub(crate) fn unreadable(&self, kind: Kind, count: usize) {
        self.unreadable
            .get_or_create(&OfKind { kind: KindLabel(kind) })
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// An event was written.
    pub(crate) fn event_sent(&self, severity: Severity) {
        self.events_sent.get_or_create(&Sent { severity: severity.as_str() }).inc();
    }

    /// An event was not written; `why` is a word of ours.
    pub(crate) fn event_dropped(&self, severity: Severity, why: &'static str) {
        self.events_dropped
            .get_or_create(&Dropped {
                severity: severity.as_str(),
                why,
            })
            .inc();
    }

    /// A write was withheld or refused because this process does not lead.
    pub(crate) fn fenced(&self) {
        self.fenced.inc();
    }

    /// This process leads from now on, or does not any more.
    pub(crate) fn leads(&self, term: Option<Term>) {
        self.leader.set(i64::from(term.is_some()));
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = term;
    }

    /// Whether a term's work has begun.
    pub(crate) fn is_leading(&self) -> bool {
        self.leader.get() == 1
    }

    /// Everything, as OpenMetrics text.
    ///
    /// # Errors
    /// Those of writing to a string.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A running look at an object.
pub(crate) struct Look {
    metrics: Metrics,
    kind: KindLabel,
    begun: Instant,
    outcome: &'static str,
    in_flight: Gauge,
}

impl Look {
    /// It ended; `outcome` is a word of ours.
    pub(crate) fn ended(mut self, outcome: &'static str) -> Duration {
        self.outcome = outcome;
        self.begun.elapsed()
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        self.in_flight.dec();
        let (kind, outcome) = (self.kind, self.outcome);
        self.metrics.looks.get_or_create(&Outcome { kind, outcome }).inc();
        self.metrics
            .look_seconds
            .get_or_create(&OfKind { kind })
            .observe(self.begun.elapsed().as_secs_f64());
    }
}

/// Gauges that are read off the copies and the databases when somebody asks.
struct TermCollector(Arc<Mutex<Option<Term>>>);

impl fmt::Debug for TermCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TermCollector").finish_non_exhaustive()
    }
}

impl Collector for TermCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(term) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return Ok(());
        };
        let kinds = [
            (Kind::ProxyConfig, term.stores.proxy_configs.len()),
            (Kind::LlmProject, term.stores.projects.len()),
            (Kind::WitheringToken, term.stores.tokens.len()),
        ];
        gauges(
            &mut encoder,
            "objects",
            "Declared objects in scope",
            kinds.map(|(kind, n)| ([("kind", kind.as_str().to_owned())], n)),
        )?;
        let waiting = Kind::ALL
            .iter()
            .map(|kind| ([("kind", kind.as_str().to_owned())], term.waiting.count(*kind)));
        gauges(&mut encoder, "reconciles_waiting", "Objects that were woken and wait for a look", waiting)?;
        let fleets = term
            .fleets
            .all()
            .into_iter()
            .map(|((namespace, name), live)| ([("namespace", namespace), ("name", name)], usize::from(live)));
        gauges(
            &mut encoder,
            "database_reachable",
            "1 if the fleet's database is open and answered at the last look",
            fleets,
        )?;
        if let Some(next) = next_expiry(&term.stores) {
            let metric = encoder.encode_descriptor(
                "tokens_next_expiry_timestamp_seconds",
                "When the first of the Ready tokens expires unless it is renewed",
                None,
                prometheus_client::metrics::MetricType::Gauge,
            )?;
            ConstGauge::new(next).encode(metric)?;
        }
        Ok(())
    }
}

fn gauges<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = ([(&'static str, String); N], usize)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// The first expiry of all Ready tokens, in s since 1970.
fn next_expiry(stores: &Stores) -> Option<i64> {
    let tokens = stores.tokens.state();
    let of = tokens.iter().filter_map(|token| {
        let status = token.status.as_ref()?;
        let generation = token.metadata.generation.unwrap_or_default();
        crds::conditions::holds(&status.conditions, ConditionType::Ready, generation).then_some(())?;
        Some(status.expiration_time.as_ref()?.0.as_second())
    });
    of.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_kinds_outcomes_and_what_was_dropped() {
        let metrics = Metrics::default();
        metrics.look(Kind::WitheringToken).ended("ok");
        drop(metrics.look(Kind::LlmProject));
        metrics.event_dropped(Severity::Normal, "rate");
        metrics.wrote("witheringtokens/status", "patch");
        let text = metrics.text().unwrap();
        for line in [
            "llm_proxy_operator_reconciles_total{kind=\"WitheringToken\",outcome=\"ok\"} 1",
            "llm_proxy_operator_reconciles_total{kind=\"LLMProject\",outcome=\"abandoned\"} 1",
            "llm_proxy_operator_reconciles_in_flight{kind=\"WitheringToken\"} 0",
            "llm_proxy_operator_events_dropped_total{severity=\"Normal\",why=\"rate\"} 1",
            "llm_proxy_operator_api_writes_total{resource=\"witheringtokens/status\",verb=\"patch\"} 1",
            "llm_proxy_operator_leader 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}

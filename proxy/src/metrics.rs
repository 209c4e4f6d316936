//! Counters of the data threads and their exposition (OpenMetrics text, or JSON in the ancestor's spelling).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::outcome::{End, Tokens};
use crate::shared::Shared;

/// Upper bounds in milliseconds; the last bucket is everything above.
const BUCKETS_MS: [u64; 12] = [1, 5, 10, 50, 100, 250, 500, 1_000, 5_000, 30_000, 120_000, 600_000];
const STATUSES: usize = 500;

/// One data thread's counters. Only that thread writes; anybody reads.
pub(crate) struct ThreadCounters {
    by_status: Box<[AtomicU64]>,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    head_time: Histogram,
    total_time: Histogram,
    input_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    output_tokens: AtomicU64,
    reasoning_tokens: AtomicU64,
    estimated: AtomicU64,
    client_gone: AtomicU64,
    upstream_broke: AtomicU64,
    pub(crate) drained: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) idle_upstream: AtomicU64,
}

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    fn observe(&self, duration: Duration) {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let at = BUCKETS_MS.iter().position(|bound| ms < *bound).unwrap_or(BUCKETS_MS.len());
        bump(&self.buckets[at], 1);
        bump(&self.sum_us, u64::try_from(duration.as_micros()).unwrap_or(0));
    }
}

/// Adds without a locked instruction: there is one writer.
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl ThreadCounters {
    pub(crate) fn new() -> Self {
        Self {
            by_status: (0..STATUSES).map(|_| AtomicU64::new(0)).collect(),
            refusals: Mutex::default(),
            head_time: Histogram::default(),
            total_time: Histogram::default(),
            input_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
            output_tokens: AtomicU64::new(0),
            reasoning_tokens: AtomicU64::new(0),
            estimated: AtomicU64::new(0),
            client_gone: AtomicU64::new(0),
            upstream_broke: AtomicU64::new(0),
            drained: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            idle_upstream: AtomicU64::new(0),
        }
    }

    /// Books a finished request.
    pub(crate) fn record(
        &self,
        status: StatusCode,
        refusal: Option<&'static str>,
        head: Option<Duration>,
        total: Duration,
        end: End,
        tokens: Tokens,
    ) {
        if let Some(counter) = self.by_status.get(usize::from(status.as_u16().saturating_sub(100))) {
            bump(counter, 1);
        }
        if let Some(code) = refusal {
            *self.refusals.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
        }
        if let Some(head) = head {
            self.head_time.observe(head);
        }
        self.total_time.observe(total);
        bump(&self.input_tokens, tokens.input);
        bump(&self.cached_tokens, tokens.cached);
        bump(&self.output_tokens, tokens.output);
        bump(&self.reasoning_tokens, tokens.reasoning);
        bump(&self.estimated, u64::from(tokens.estimated));
        match end {
            End::Complete => {}
            End::ClientGone => bump(&self.client_gone, 1),
            End::UpstreamBroke => bump(&self.upstream_broke, 1),
            End::Drained => bump(&self.drained, 1),
        }
    }
}

/// How many requests were refused, by code.
pub(crate) fn refusals(shared: &Shared) -> BTreeMap<&'static str, u64> {
    let mut sum = BTreeMap::new();
    for thread in &shared.threads {
        for (code, n) in thread.counters.refusals.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *sum.entry(*code).or_default() += n;
        }
    }
    sum
}

/// The ancestor's JSON document, with the fields that have a meaning here.
pub(crate) fn json(shared: &Shared) -> String {
    let sum = Sum::of(shared);
    let errors: u64 = sum.by_status.iter().filter(|(status, _)| **status >= 400).map(|(_, n)| n).sum();
    serde_json::json!({
        "uptime_seconds": shared.clock.mono_ms() as f64 / 1e3,
        "request_count": sum.by_status.values().sum::<u64>(),
        "error_count": errors,
        "in_flight": sum.in_flight,
    })
    .to_string()
}

/// OpenMetrics text.
pub(crate) fn text(shared: &Arc<Shared>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("llm_proxy");
    registry.register_collector(Box::new(Exposition(Arc::clone(shared))));
    let mut out = String::with_capacity(8 << 10);
    prometheus_client::encoding::text::encode(&mut out, &registry)?;
    Ok(out)
}

/// All threads, added up.
#[derive(Default)]
struct Sum {
    by_status: BTreeMap<u16, u64>,
    refusals: BTreeMap<&'static str, u64>,
    head: ([u64; BUCKETS_MS.len() + 1], u64),
    total: ([u64; BUCKETS_MS.len() + 1], u64),
    tokens: [u64; 4],
    estimated: u64,
    ends: [u64; 3],
    in_flight: u64,
    connections: u64,
    idle_upstream: u64,
}

impl Sum {
    fn of(shared: &Shared) -> Self {
        let mut sum = Self::default();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for thread in &shared.threads {
            let counters = &thread.counters;
            for (status, counter) in (100u16..).zip(&counters.by_status) {
                let n = read(counter);
                if n > 0 {
                    *sum.by_status.entry(status).or_default() += n;
                }
            }
            for (code, n) in counters.refusals.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                *sum.refusals.entry(code).or_default() += n;
            }
            for (into, from) in [(&mut sum.head, &counters.head_time), (&mut sum.total, &counters.total_time)] {
                for (total, bucket) in into.0.iter_mut().zip(&from.buckets) {
                    *total += read(bucket);
                }
                into.1 += read(&from.sum_us);
            }
            let tokens = [
                &counters.input_tokens,
                &counters.cached_tokens,
                &counters.output_tokens,
                &counters.reasoning_tokens,
            ];
            for (total, counter) in sum.tokens.iter_mut().zip(tokens) {
                *total += read(counter);
            }
            for (total, counter) in sum
                .ends
                .iter_mut()
                .zip([&counters.client_gone, &counters.upstream_broke, &counters.drained])
            {
                *total += read(counter);
            }
            sum.estimated += read(&counters.estimated);
            sum.in_flight += read(&counters.in_flight);
            sum.connections += read(&counters.connections);
            sum.idle_upstream += read(&counters.idle_upstream);
        }
        sum
    }
}

struct Exposition(Arc<Shared>);

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exposition")
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shared = &self.0;
        let sum = Sum::of(shared);
        let now = shared.clock.mono_ms();

        family(
            &mut encoder,
            "requests",
            "Requests by the status of their answer",
            "status",
            sum.by_status.iter().map(|(s, n)| (s.to_string(), *n)),
        )?;
        family(
            &mut encoder,
            "refusals",
            "Requests answered by the proxy itself, by code",
            "code",
            sum.refusals.iter().map(|(c, n)| ((*c).to_owned(), *n)),
        )?;
        let kinds = ["input", "cached_input", "output", "reasoning"];
        family(
            &mut encoder,
            "tokens",
            "LLM tokens booked, by kind",
            "kind",
            kinds.iter().zip(sum.tokens).map(|(k, n)| ((*k).to_owned(), n)),
        )?;
        let ends = ["client_gone", "upstream_broke", "drained"];
        family(
            &mut encoder,
            "cut_replies",
            "Replies that did not reach their end, by reason",
            "reason",
            ends.iter().zip(sum.ends).map(|(k, n)| ((*k).to_owned(), n)),
        )?;
        counter(
            &mut encoder,
            "estimated_requests",
            "Requests whose tokens were estimated, because the provider reported none",
            sum.estimated,
        )?;
        histogram(&mut encoder, "head_seconds", "From a request to the head of its answer", &sum.head)?;
        histogram(&mut encoder, "request_seconds", "From a request to the end of its answer", &sum.total)?;
        gauge(&mut encoder, "in_flight", "Requests being served", sum.in_flight)?;
        gauge(&mut encoder, "connections", "Open client connections", sum.connections)?;
        gauge(
            &mut encoder,
            "idle_upstream_connections",
            "Idle provider connections, as of the last 5 s tick",
            sum.idle_upstream,
        )?;
        gauge(&mut encoder, "grants", "Tokens held in memory", shared.grants.len() as u64)?;
        gauge(
            &mut encoder,
            "feed_version",
            "The version of the configuration that all data threads follow",
            shared.acked_version.load(Ordering::Relaxed),
        )?;
        gauge(
            &mut encoder,
            "database_contact_age_milliseconds",
            "Time since the last good contact with the database",
            shared.clock.contact_age_ms(now),
        )?;
        gauge(
            &mut encoder,
            "database_stale",
            "1 while the last good contact with the database is too old to serve",
            u64::from(shared.clock.is_stale(now)),
        )?;
        gauge(
            &mut encoder,
            "database_writable",
            "0 while the database refuses leases, usage or heartbeats",
            u64::from(shared.database.unwritable().is_none()),
        )?;
        gauge(
            &mut encoder,
            "database_notifies",
            "1 while commits of other processes wake this one; otherwise they are found within a second",
            u64::from(shared.notified.load(Ordering::Relaxed)),
        )?;
        gauge(&mut encoder, "uptime_seconds", "Time since the process started", now / 1_000)
    }
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    rows: impl Iterator<Item = (String, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, n) in rows {
        metric.encode_family(&[(label, value)])?.encode_counter::<NoLabelSet, _, u64>(&n, None)?;
    }
    Ok(())
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn histogram(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, (counts, sum_us): &([u64; BUCKETS_MS.len() + 1], u64)) -> fmt::Result {
    let bounds = BUCKETS_MS.iter().map(|ms| *ms as f64 / 1e3).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    metric.encode_histogram::<NoLabelSet>(*sum_us as f64 / 1e6, counts.iter().sum(), &buckets, None)
}

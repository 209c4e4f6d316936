//! What was refused, gathered: at most one audit row per class and second, however many come, so that nobody fills the disk by being refused.
//! Refusals of `/v1` come from the data threads' counters and wait longer, so that they cost at most one transaction in ten seconds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use store::{AuditEntry, AuditId, AuditOutcome};
use tokio::sync::watch;
use tokio::time::Instant;

use super::act::Context;
use super::inbound::Caller;
use crate::metrics;
use crate::shared::Shared;

const GATHER: Duration = Duration::from_secs(1);
/// How long refusals of `/v1` may wait for company.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rows that may wait for a database that is away; beyond it classes are gathered over more than a second.
const MAX_WAITING: usize = 1_000;
/// The codes of `/v1` that deny somebody something.
const DENIALS: [&str; 7] = [
    "missing_token",
    "invalid_token",
    "token_not_found",
    "token_expired",
    "token_inactive",
    "project_inactive",
    "rate_limit_exceeded",
];

/// What refusals are counted together by. All four come from fixed sets, so that there are few classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    pub(super) action: &'static str,
    pub(super) code: &'static str,
    pub(super) actor: &'static str,
    pub(super) outcome: AuditOutcome,
}

/// One class within one second.
struct Gathered {
    times: u64,
    /// Of the first one.
    request_id: String,
    client_ip: Option<String>,
}

/// What has come since the last look.
#[derive(Default)]
pub(super) struct Denials(Mutex<BTreeMap<Class, Gathered>>);

impl Denials {
    pub(super) fn note(&self, class: Class, caller: &Caller) {
        let mut classes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = || Gathered {
            times: 0,
            request_id: caller.request_id.clone(),
            client_ip: Some(caller.source.to_string()),
        };
        classes.entry(class).or_insert_with(first).times += 1;
    }

    fn take(&self) -> BTreeMap<Class, Gathered> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn entry(class: Class, gathered: Gathered) -> AuditEntry {
    let mut detail = json!({ "code": class.code });
    if let Some(client) = gathered.client_ip {
        detail["client_ip"] = client.into();
    }
    AuditEntry {
        id: AuditId::new(),
        age_ms: 0,
        action: class.action.to_owned(),
        actor: class.actor.to_owned(),
        outcome: class.outcome,
        subject: String::new(),
        project: None,
        token: None,
        request_id: gathered.request_id,
        times: gathered.times,
        detail: detail.to_string(),
    }
}

/// What `/v1` has refused since the last look.
#[derive(Default)]
struct DataPlane(BTreeMap<&'static str, u64>);

impl DataPlane {
    fn rose(&mut self, counted: &BTreeMap<&'static str, u64>) -> Vec<AuditEntry> {
        let mut entries = Vec::new();
        for code in DENIALS {
            let now = counted.get(code).copied().unwrap_or(0);
            let seen = self.0.insert(code, now).unwrap_or(0);
            if now > seen {
                let class = Class {
                    action: "proxy.request",
                    code,
                    actor: "proxy",
                    outcome: AuditOutcome::Denied,
                };
                let gathered = Gathered {
                    times: now - seen,
                    request_id: String::new(),
                    client_ip: None,
                };
                entries.push(entry(class, gathered));
            }
        }
        entries
    }
}

/// Writes what was refused until `done`, then for the last time. The only task that writes under this process's second name.
pub(crate) async fn follow(context: Arc<Context>, shared: Arc<Shared>, mut done: watch::Receiver<bool>) {
    let mut data_plane = DataPlane::default();
    // A batch stays the same until it is written: a commit of unknown outcome is found by its first row.
    let (mut batch, mut waiting) = (Vec::<(AuditEntry, Instant)>::new(), Vec::new());
    let (mut urgent, mut said) = (false, false);
    loop {
        let last = tokio::select! {
            () = tokio::time::sleep(GATHER) => false,
            _ = done.wait_for(|done| *done) => true,
        };
        if waiting.len() < MAX_WAITING || last {
            let now = Instant::now();
            let own = context.denials.take();
            urgent |= !own.is_empty();
            waiting.extend(own.into_iter().map(|(class, gathered)| (entry(class, gathered), now)));
            let counted = metrics::refusals(&shared);
            waiting.extend(data_plane.rose(&counted).into_iter().map(|entry| (entry, now)));
        }
        let due = last || urgent || waiting.first().is_some_and(|(_, at)| at.elapsed() >= PATIENCE);
        if batch.is_empty() && due {
            batch = std::mem::take(&mut waiting);
            urgent = false;
        }
        if !batch.is_empty() {
            let entries: Vec<_> = batch.iter().map(aged).collect();
            match context.fleet.record_denials(context.holder, &entries).await {
                Ok(()) => {
                    batch.clear();
                    said = false;
                }
                Err(error) if !said => {
                    tracing::warn!(%error, "refusals cannot be written into the audit: they are kept and written later");
                    said = true;
                }
                Err(error) => tracing::debug!(%error, "refusals cannot be written into the audit"),
            }
        }
        if last {
            if !batch.is_empty() {
                tracing::warn!(
                    rows = batch.len(),
                    "refusals were not written into the audit before the end, and are lost"
                );
            }
            return;
        }
    }
}

fn aged((entry, at): &(AuditEntry, Instant)) -> AuditEntry {
    AuditEntry {
        age_ms: i64::try_from(at.elapsed().as_millis()).unwrap_or(0),
        ..entry.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: Class = Class {
        action: "management.authenticate",
        code: "invalid_management_token",
        actor: "anonymous",
        outcome: AuditOutcome::Denied,
    };

    #[test]
    fn a_thousand_refusals_of_a_class_are_one_row_that_names_the_first() {
        let denials = Denials::default();
        for n in 0..1_000 {
            let caller = Caller {
                source: std::net::IpAddr::from([192, 0, 2, (n % 200) as u8]),
                request_id: format!("r{n}"),
            };
            denials.note(CLASS, &caller);
        }
        let mut entries: Vec<_> = denials.take().into_iter().map(|(class, gathered)| entry(class, gathered)).collect();
        let only = entries.pop().unwrap();
        assert!(entries.is_empty() && denials.take().is_empty());
        assert_eq!((only.times, only.request_id.as_str()), (1_000, "r0"));
        assert!(only.detail.contains("192.0.2.0") && only.detail.contains(CLASS.code));
    }

    #[test]
    fn of_the_data_planes_counters_only_what_rose_and_denies_is_noted() {
        let mut data_plane = DataPlane::default();
        let mut counted = BTreeMap::from([("token_expired", 3), ("request_too_large", 5)]);
        let first = data_plane.rose(&counted);
        assert_eq!((first.len(), first[0].times), (1, 3));
        assert!(data_plane.rose(&counted).is_empty());
        counted.insert("token_expired", 4);
        assert_eq!(data_plane.rose(&counted)[0].times, 1);
    }
}

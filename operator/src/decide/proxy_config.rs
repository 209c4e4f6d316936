//! A ProxyConfig: its providers are rows that every replica follows. What an executor builds around it (a Deployment, a claim) is the executor's.
//! It refuses to know projects and tokens.

mod fleet;

use crds::conditions::{Condition, ConditionType, Finding, merge};
use crds::events::EventReason;
use crds::{Provider, ProviderApi, ProviderAuth, ProxyConfigStatus, Reason};
use store::{FeedVersion, ProviderSpec};

use super::limits;
use super::programmed;
use super::report;
use crate::effect::{Decision, Effect, Notice, Status};
use crate::object::Standing;
use crate::observed::ProxyConfigObserved;

/// Decides the next effect for a ProxyConfig. A deleted one is forgotten; the fleet's rows stay, so that the same name can claim them again.
pub(super) fn decide(seen: &ProxyConfigObserved) -> Decision {
    if seen.resource.is_gone() {
        return Decision {
            effect: Some(Effect::Forget(seen.resource.object.uid.clone())),
            recheck_at: None,
        };
    }
    let findings = findings(seen);
    let recheck_at = findings.iter().find_map(|finding| programmed::recheck(finding, seen.resource.now));
    let recheck_at = [recheck_at, fleet::recheck(seen)].into_iter().flatten().min();
    let effect = fleet::before_rows(seen)
        .or_else(|| rows_may_be_written(seen).then(|| put_providers(seen)).flatten())
        .or_else(|| fleet::after_rows(seen))
        .or_else(|| {
            let notices = notices(seen, &findings);
            report::report(&seen.resource, status(seen, &findings), notices, Status::ProxyConfig)
        });
    Decision { effect, recheck_at }
}

/// In a cluster the spec that is observed is the one that stands, good or not, and the database may be away. In files it is the last good one.
fn rows_may_be_written(seen: &ProxyConfigObserved) -> bool {
    seen.fleet
        .as_ref()
        .is_none_or(|fleet| fleet.is_live() && seen.resource.standing == Standing::Present)
}

/// The rows must be exactly the declared providers.
fn put_providers(seen: &ProxyConfigObserved) -> Option<Effect> {
    let mut wanted: Vec<ProviderSpec> = seen.resource.spec.providers.iter().map(provider).collect();
    let mut rows = seen.rows.clone();
    wanted.sort_by(|left, right| left.name.cmp(&right.name));
    rows.sort_by(|left, right| left.name.cmp(&right.name));
    (wanted != rows).then_some(Effect::PutProviders(wanted))
}

/// A declared provider as a row.
fn provider(declared: &Provider) -> ProviderSpec {
    ProviderSpec {
        name: declared.name.clone(),
        api: match declared.api {
            ProviderApi::OpenAI => store::ProviderApi::OpenAi,
            ProviderApi::Echo => store::ProviderApi::Echo,
        },
        base_url: declared.base_url.clone(),
        auth: match declared.auth() {
            ProviderAuth::Bearer => store::ProviderAuth::Bearer,
            ProviderAuth::None => store::ProviderAuth::None,
        },
        prices: limits::prices(declared.prices.as_deref()),
    }
}

fn findings(seen: &ProxyConfigObserved) -> Vec<Finding> {
    let mut findings = match &seen.fleet {
        Some(fleet) => fleet::findings(seen, fleet),
        None => vec![
            report::accepted(&seen.resource.standing),
            Finding::holds(
                ConditionType::DatabaseReady,
                Reason::DatabaseReady,
                "the database is reached, claimed and writable",
            ),
            in_force(seen),
            available(seen),
        ],
    };
    let ready = report::ready(
        &findings,
        Finding::holds(ConditionType::Ready, Reason::Ready, format!("serving at {}", seen.base_url)),
    );
    let progress = report::progress(&ready);
    findings.push(ready);
    findings.extend(fleet::progressing(seen));
    findings.extend(progress);
    findings
}

/// `Programmed`, with how many replicas have acknowledged.
fn in_force(seen: &ProxyConfigObserved) -> Finding {
    let replicas = &seen.resource.replicas;
    let pushed = seen.resource.memory.pushed.unwrap_or(FeedVersion(0));
    let finding = programmed::programmed(pushed, replicas);
    if finding.reason != Reason::Programmed || replicas.is_empty() {
        return finding;
    }
    let message = format!("in force on {0}/{0} replicas", replicas.len());
    Finding::holds(ConditionType::Programmed, Reason::Programmed, message)
}

/// `Available`, by the replicas that report to the database.
fn available(seen: &ProxyConfigObserved) -> Finding {
    let replicas = seen.resource.replicas.len();
    if replicas > 0 {
        return Finding::holds(
            ConditionType::Available,
            Reason::Available,
            format!("{replicas} of {replicas} replicas serve"),
        );
    }
    Finding::fails(
        ConditionType::Available,
        Reason::NoReplicas,
        "no replica serves; start one, or look at why those that should run do not",
    )
}

fn notices(seen: &ProxyConfigObserved, findings: &[Finding]) -> Vec<Notice> {
    let before = conditions(seen);
    let mut notices = report::notices(before, findings);
    notices.extend(fleet::notices(before, findings));
    let in_force = findings
        .iter()
        .any(|finding| finding.about == ConditionType::Programmed && finding.reason == Reason::Programmed);
    let pushed_now = seen.resource.memory.pushed.is_some() && in_force;
    let generation_moved = seen.resource.status.as_ref().and_then(|status| status.observed_generation) != Some(seen.resource.object.generation);
    if pushed_now && generation_moved {
        notices.push(Notice {
            reason: EventReason::ConfigPushed,
            note: "the providers are in force on every replica".to_owned(),
        });
    }
    notices
}

fn conditions(seen: &ProxyConfigObserved) -> &[Condition] {
    seen.resource.status.as_ref().map_or(&[], |status| &status.conditions)
}

fn status(seen: &ProxyConfigObserved, findings: &[Finding]) -> ProxyConfigStatus {
    let generation = seen.resource.object.generation;
    let status = ProxyConfigStatus {
        observed_generation: Some(generation),
        conditions: merge(conditions(seen), findings, generation, report::timestamp(seen.resource.now)),
        url: Some(seen.base_url.clone()),
        ..ProxyConfigStatus::default()
    };
    match &seen.fleet {
        Some(fleet) => fleet::fill_in(status, fleet),
        None => status,
    }
}

#[cfg(test)]
mod tests;

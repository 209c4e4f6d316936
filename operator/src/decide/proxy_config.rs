//! A ProxyConfig: its providers are rows that every replica follows. What an executor builds around it (a Deployment, a claim) is the executor's.
//! It refuses to know projects and tokens.

use crds::conditions::{Condition, ConditionType, Finding, merge};
use crds::events::EventReason;
use crds::{Provider, ProviderApi, ProviderAuth, ProxyConfigStatus, Reason};
use store::{FeedVersion, ProviderSpec};

use super::programmed;
use super::report;
use crate::effect::{Decision, Effect, Notice, Status};
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
    let effect = put_providers(seen).or_else(|| {
        let notices = notices(seen, &findings);
        report::report(&seen.resource, status(seen, &findings), notices, Status::ProxyConfig)
    });
    Decision { effect, recheck_at }
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
    }
}

fn findings(seen: &ProxyConfigObserved) -> Vec<Finding> {
    let replicas = &seen.resource.replicas;
    let pushed = seen.resource.memory.pushed.unwrap_or(FeedVersion(0));
    let available = if replicas.is_empty() {
        Finding::fails(
            ConditionType::Available,
            Reason::NoReplicas,
            "no replica serves; start one, or look at why those that should run do not",
        )
    } else {
        Finding::holds(
            ConditionType::Available,
            Reason::Available,
            format!("{} of {} replicas serve", replicas.len(), replicas.len()),
        )
    };
    let mut findings = vec![
        report::accepted(&seen.resource.standing),
        Finding::holds(
            ConditionType::DatabaseReady,
            Reason::DatabaseReady,
            "the database is reached, claimed and writable",
        ),
        programmed::programmed(pushed, replicas),
        available,
    ];
    let ready = report::ready(
        &findings,
        Finding::holds(ConditionType::Ready, Reason::Ready, format!("serving at {}", seen.base_url)),
    );
    findings.push(ready);
    findings
}

fn notices(seen: &ProxyConfigObserved, findings: &[Finding]) -> Vec<Notice> {
    let before = conditions(seen);
    let mut notices = report::notices(before, findings);
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
    ProxyConfigStatus {
        observed_generation: Some(generation),
        conditions: merge(conditions(seen), findings, generation, report::timestamp(seen.resource.now)),
        url: Some(seen.base_url.clone()),
        ..ProxyConfigStatus::default()
    }
}

#[cfg(test)]
mod tests;

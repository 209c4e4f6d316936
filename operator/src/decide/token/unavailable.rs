//! A token whose fleet's database cannot be used: nothing is done, and status says what is still known.
//! It refuses to know rows and Secrets: neither can be judged without the other.

use crds::conditions::{ConditionStatus, ConditionType, Finding, merge};
use crds::{Reason, WitheringTokenStatus};
use store::DbTime;

use crate::decide::report;
use crate::effect::{Decision, Status};
use crate::observed::TokenObserved;

/// Decides for as long as the database cannot be used. A deleted token waits: its rows must die before it is forgotten.
pub(super) fn decide(seen: &TokenObserved, reason: Reason, message: &str) -> Decision {
    let resource = &seen.resource;
    if resource.is_gone() {
        return Decision {
            effect: None,
            recheck_at: None,
        };
    }
    let before = resource.status.clone().unwrap_or_default();
    let findings = findings(seen, &before, reason, message);
    let ends_at = before.expiration_time.as_ref().map(|end| DbTime(end.0.as_millisecond()));
    let status = WitheringTokenStatus {
        observed_generation: Some(resource.object.generation),
        conditions: merge(&before.conditions, &findings, resource.object.generation, report::timestamp(resource.now)),
        ..before
    };
    Decision {
        effect: report::report(resource, status, Vec::new(), Status::Token),
        recheck_at: ends_at.filter(|end| *end > resource.now),
    }
}

fn findings(seen: &TokenObserved, before: &WitheringTokenStatus, reason: Reason, message: &str) -> Vec<Finding> {
    let stood = |about| report::as_it_stood(&before.conditions, about);
    let unknown = |about| Finding::unknown(about, reason, message);
    let project = &seen.resource.spec.project_ref.name;
    let mut findings = vec![
        report::accepted(&seen.resource.standing),
        Finding::holds(
            ConditionType::ResolvedRefs,
            Reason::ResolvedRefs,
            format!("LLMProject {project} was found"),
        ),
        unknown(ConditionType::Programmed),
        stood(ConditionType::Delivered).unwrap_or_else(|| unknown(ConditionType::Delivered)),
    ];
    findings.extend(stood(ConditionType::Exhausted));
    let ready = ready(seen, before, &findings, reason, message);
    let progress = report::progress(&ready);
    findings.push(ready);
    findings.extend(progress);
    findings
}

/// What was issued goes on working, from the replicas' memory and then again from the database; what was refused stays so. A spec that was changed
/// since, and a token that was never issued, wait. That the project is missing is over: it was found.
fn ready(seen: &TokenObserved, before: &WitheringTokenStatus, findings: &[Finding], reason: Reason, message: &str) -> Finding {
    let fails = |reason, message: String| Finding::fails(ConditionType::Ready, reason, message);
    let has_ended = |end: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time| end.0.as_millisecond() <= seen.resource.now.0;
    if let Some(refused) = findings
        .iter()
        .find(|finding| finding.about == ConditionType::Accepted && finding.status == ConditionStatus::False)
    {
        return fails(refused.reason, refused.message.clone());
    }
    if before.expiration_time.as_ref().is_some_and(has_ended) {
        return fails(
            Reason::Expired,
            format!("the last key has reached its end and cannot be renewed: {message}"),
        );
    }
    let known = before.observed_generation == Some(seen.resource.object.generation);
    report::as_it_stood(&before.conditions, ConditionType::Ready)
        .filter(|stood| known && stood.reason != Reason::ProjectNotFound)
        .unwrap_or_else(|| fails(reason, message.to_owned()))
}

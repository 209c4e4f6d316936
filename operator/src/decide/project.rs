//! An LLMProject: its row with state and sealed credentials, and its deletion.
//! It refuses to know tokens; what a deleted project means for them stands in the transaction that deletes it.

use crds::conditions::{Condition, ConditionStatus, ConditionType, Finding, merge};
use crds::events::EventReason;
use crds::{LlmProjectStatus, ProjectProvider, Reason};
use secrecy::ExposeSecret;
use store::{CredentialSpec, ProjectSpec, ProjectState, ProjectView};

use super::{limits, programmed, report};
use crate::effect::{Decision, Effect, Notice, Status};
use crate::observed::{CredentialSeen, FleetSeen, ProjectObserved};

/// Decides the next effect for an LLMProject.
pub(super) fn decide(seen: &ProjectObserved) -> Decision {
    if is_leaving(seen) {
        return Decision {
            effect: leave(seen),
            recheck_at: None,
        };
    }
    let findings = findings(seen);
    let recheck_at = findings.iter().find_map(|finding| programmed::recheck(finding, seen.resource.now));
    let effect = put_project(seen).or_else(|| {
        let notices = notices(seen, &findings);
        report::report(&seen.resource, status(seen, &findings), notices, Status::Project)
    });
    Decision { effect, recheck_at }
}

/// Deleted, or deleted by a process that died before it could forget: what comes back under the same name is another resource.
fn is_leaving(seen: &ProjectObserved) -> bool {
    seen.resource.is_gone() || seen.row.as_ref().is_some_and(|row| row.state == ProjectState::Deleted)
}

/// Nothing is forgotten while the row is unknown.
fn leave(seen: &ProjectObserved) -> Option<Effect> {
    match (&seen.fleet, &seen.row) {
        (FleetSeen::NotReady { .. }, _) => None,
        (_, Some(row)) if row.state != ProjectState::Deleted => Some(Effect::DeleteProject(row.id)),
        _ => Some(Effect::Forget(seen.resource.object.uid.clone())),
    }
}

/// The row must say what the spec says. What cannot be resolved stays as it last was; a project that was never whole has no row. One that its fleet
/// does not allow any more is switched off, and nothing else of it is touched: it comes back as it was with the permission.
fn put_project(seen: &ProjectObserved) -> Option<Effect> {
    let as_it_was = |row: &ProjectView| (row.credentials.clone(), row.limits.clone());
    let (credentials, limits) = match &seen.fleet {
        FleetSeen::NotReady { .. } => return None,
        FleetSeen::NotPermitted(_) => as_it_was(seen.row.as_ref()?),
        // Whether it is switched on is good by itself, whatever is wrong with the rest.
        _ if !seen.resource.spec_counts() => as_it_was(seen.row.as_ref()?),
        FleetSeen::Missing | FleetSeen::Ready(_) => (credentials(seen)?, limits::of_project(&seen.resource.spec)),
    };
    let state = match (seen.resource.spec.state, &seen.fleet) {
        (crds::ProjectState::Inactive, _) | (_, FleetSeen::NotPermitted(_)) => ProjectState::Inactive,
        (crds::ProjectState::Active, _) => ProjectState::Active,
    };
    let stands = seen
        .row
        .as_ref()
        .is_some_and(|row| row.state == state && row.limits == limits && same_credentials(&row.credentials, &credentials));
    if stands {
        return None;
    }
    let resealed = seen.row.as_ref().is_some_and(|row| !same_credentials(&row.credentials, &credentials));
    if resealed && !seen.resource.memory.told.contains(&EventReason::CredentialsUpdated) {
        let note = "the provider credentials are sealed anew".to_owned();
        return Some(Effect::Emit(Notice {
            reason: EventReason::CredentialsUpdated,
            note,
        }));
    }
    Some(Effect::PutProject(ProjectSpec {
        owner: seen.resource.owner(),
        state,
        credentials,
        limits,
    }))
}

/// The credentials to be in force: those resolved now, else those of the row; none if there are neither.
fn credentials(seen: &ProjectObserved) -> Option<Vec<CredentialSpec>> {
    let resolved: Option<Vec<CredentialSpec>> = uses(seen)
        .map(|(provider, credential)| {
            Some(CredentialSpec {
                provider: provider.name.clone(),
                key: resolve(seen, provider, credential).ok()?,
            })
        })
        .collect();
    resolved.or_else(|| seen.row.as_ref().map(|row| row.credentials.clone()))
}

fn uses(seen: &ProjectObserved) -> impl Iterator<Item = (&ProjectProvider, &CredentialSeen)> {
    seen.resource.spec.providers.iter().zip(&seen.credentials)
}

/// The key for one provider: none if the provider wants none, or what is missing.
fn resolve(
    seen: &ProjectObserved,
    provider: &ProjectProvider,
    credential: &CredentialSeen,
) -> Result<Option<secrecy::SecretString>, (Reason, String)> {
    let project = &seen.resource.object;
    let proxy = proxy(seen);
    let fleet = match &seen.fleet {
        FleetSeen::Ready(fleet) => fleet,
        FleetSeen::Missing => {
            let why = format!("spec.proxyRef: ProxyConfig {proxy} does not exist; create it");
            return Err((Reason::ProxyNotFound, why));
        }
        FleetSeen::NotPermitted(why) => return Err((Reason::RefNotPermitted, why.clone())),
        FleetSeen::NotReady { reason, message } => return Err((*reason, message.clone())),
    };
    let Some(declared) = fleet.providers.iter().find(|declared| declared.name == provider.name) else {
        let why = format!(
            "spec.providers: ProxyConfig {proxy} has no provider {}; add it there or name another",
            provider.name
        );
        return Err((Reason::ProviderUnknown, why));
    };
    if !declared.needs_credentials() {
        return Ok(None);
    }
    let secret = provider.credentials.as_ref().map(|credentials| &credentials.secret_ref);
    let kept = if seen.row.is_some() { "; the last credential stays in use" } else { "" };
    let missing = |what: &str, remedy: &str| {
        let name = secret.map(|secret| secret.name.as_str()).unwrap_or_default();
        let key = secret.map(|secret| secret.key()).unwrap_or_default();
        format!(
            "provider {}: Secret {}/{name} {what} {key:?}; {remedy}{kept}",
            provider.name, project.namespace
        )
    };
    match credential {
        CredentialSeen::Found(key) => Ok(Some(key.clone())),
        CredentialSeen::NotNamed => {
            let why = format!(
                "provider {} wants a credential; name a Secret in spec.providers[].credentials.secretRef{kept}",
                provider.name
            );
            Err((Reason::CredentialsMissing, why))
        }
        CredentialSeen::SecretMissing => Err((Reason::SecretNotFound, missing("does not exist, wanted for its key", "create it"))),
        CredentialSeen::Unusable => Err((
            Reason::SecretKeyMissing,
            missing(
                "holds what is not one line of visible ASCII characters of at most 8 KiB under the key",
                "put the provider's key there",
            ),
        )),
        CredentialSeen::KeyMissing => Err((Reason::SecretKeyMissing, missing("has no value under the key", "add it"))),
    }
}

fn same_credentials(left: &[CredentialSpec], right: &[CredentialSpec]) -> bool {
    let same = |one: &CredentialSpec, other: &CredentialSpec| {
        let keys = (
            one.key.as_ref().map(ExposeSecret::expose_secret),
            other.key.as_ref().map(ExposeSecret::expose_secret),
        );
        one.provider == other.provider && keys.0 == keys.1
    };
    left.len() == right.len() && left.iter().all(|one| right.iter().any(|other| same(one, other)))
}

/// The ProxyConfig that is named, for messages.
fn proxy(seen: &ProjectObserved) -> String {
    let named = &seen.resource.spec.proxy_ref;
    format!("{}/{}", named.namespace(&seen.resource.object.namespace), named.name)
}

fn accepted(seen: &ProjectObserved) -> Finding {
    match (&seen.fleet, report::accepted(&seen.resource.standing)) {
        (FleetSeen::NotPermitted(why), valid) if valid.status == ConditionStatus::True => {
            Finding::fails(ConditionType::Accepted, Reason::RefNotPermitted, why.clone())
        }
        (_, accepted) => accepted,
    }
}

fn resolved(seen: &ProjectObserved) -> Finding {
    if let FleetSeen::NotReady { reason, message } = &seen.fleet {
        // What was said of the ProxyConfig itself holds no longer: it is there.
        let is_over = |stood: &Finding| matches!(stood.reason, Reason::ProxyNotFound | Reason::RefNotPermitted);
        let stood = report::as_it_stood(conditions(seen), ConditionType::ResolvedRefs).filter(|stood| !is_over(stood));
        return stood.unwrap_or_else(|| Finding::unknown(ConditionType::ResolvedRefs, *reason, message.clone()));
    }
    match uses(seen).find_map(|(provider, credential)| resolve(seen, provider, credential).err()) {
        Some((reason, message)) => Finding::fails(ConditionType::ResolvedRefs, reason, message),
        None => Finding::holds(
            ConditionType::ResolvedRefs,
            Reason::ResolvedRefs,
            "the ProxyConfig, its provider and the credential were found",
        ),
    }
}

fn in_force(seen: &ProjectObserved) -> Finding {
    if let FleetSeen::NotReady { reason, message } = &seen.fleet {
        return Finding::unknown(ConditionType::Programmed, *reason, message.clone());
    }
    seen.row.as_ref().map_or_else(
        || Finding::fails(ConditionType::Programmed, Reason::Pending, "nothing is in force yet"),
        |row: &ProjectView| programmed::programmed(row.takeaway_version, &seen.resource.replicas),
    )
}

fn findings(seen: &ProjectObserved) -> Vec<Finding> {
    let active = match seen.resource.spec.state {
        crds::ProjectState::Active => Finding::holds(ConditionType::Active, Reason::Active, "the project is switched on"),
        crds::ProjectState::Inactive => Finding::fails(
            ConditionType::Active,
            Reason::Inactive,
            "every request is refused; set spec.state to Active to take them again",
        ),
    };
    let mut findings = vec![accepted(seen), resolved(seen), in_force(seen), active];
    let ready = ready(seen, &findings);
    let progress = report::progress(&ready);
    findings.push(ready);
    findings.extend(progress);
    findings
}

fn ready(seen: &ProjectObserved, findings: &[Finding]) -> Finding {
    let holds = Finding::holds(ConditionType::Ready, Reason::Ready, "tokens of this project are served");
    if let FleetSeen::NotReady { reason, message } = &seen.fleet {
        // Replicas go on with what they know, and what they know is this spec.
        let known = seen.resource.status.as_ref().and_then(|status| status.observed_generation) == Some(seen.resource.object.generation);
        let stood = report::as_it_stood(conditions(seen), ConditionType::Ready).filter(|stood| known && stood.status == ConditionStatus::True);
        let refused = findings.iter().find(|finding| finding.status == ConditionStatus::False);
        let refused = refused.map(|first| Finding {
            about: ConditionType::Ready,
            ..first.clone()
        });
        return refused
            .or(stood)
            .unwrap_or_else(|| Finding::fails(ConditionType::Ready, *reason, message.clone()));
    }
    report::ready(findings, holds)
}

fn notices(seen: &ProjectObserved, findings: &[Finding]) -> Vec<Notice> {
    let before = conditions(seen);
    let mut notices = report::notices(before, findings);
    // Not known for a while is no news when it is known again.
    let was = before
        .iter()
        .any(|old| old.type_ == ConditionType::Programmed.as_str() && old.status != ConditionStatus::False.as_str());
    let is = findings
        .iter()
        .any(|new| new.about == ConditionType::Programmed && new.status == ConditionStatus::True);
    if is && !was {
        notices.push(Notice {
            reason: EventReason::ProjectProgrammed,
            note: "the project is in force on every replica".to_owned(),
        });
    }
    notices
}

fn conditions(seen: &ProjectObserved) -> &[Condition] {
    seen.resource.status.as_ref().map_or(&[], |status| &status.conditions)
}

fn status(seen: &ProjectObserved, findings: &[Finding]) -> LlmProjectStatus {
    let generation = seen.resource.object.generation;
    LlmProjectStatus {
        observed_generation: Some(generation),
        conditions: merge(conditions(seen), findings, generation, report::timestamp(seen.resource.now)),
    }
}

#[cfg(test)]
mod tests;

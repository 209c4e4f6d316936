//! An LLMProject: its row with state and sealed credentials, and its deletion.
//! It refuses to know tokens; what a deleted project means for them stands in the transaction that deletes it.

use crds::conditions::{Condition, ConditionStatus, ConditionType, Finding, merge};
use crds::events::EventReason;
use crds::{LlmProjectStatus, ProjectProvider, Reason};
use secrecy::ExposeSecret;
use store::{CredentialSpec, ProjectSpec, ProjectState, ProjectView};

use super::{programmed, report};
use crate::effect::{Decision, Effect, Notice, Status};
use crate::observed::{CredentialSeen, ProjectObserved};

/// Decides the next effect for an LLMProject.
pub(super) fn decide(seen: &ProjectObserved) -> Decision {
    if is_leaving(seen) {
        return Decision {
            effect: Some(leave(seen)),
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

fn leave(seen: &ProjectObserved) -> Effect {
    match &seen.row {
        Some(row) if row.state != ProjectState::Deleted => Effect::DeleteProject(row.id),
        _ => Effect::Forget(seen.resource.object.uid.clone()),
    }
}

/// The row must say what the spec says. What cannot be resolved stays as it last was; a project that was never whole has no row.
fn put_project(seen: &ProjectObserved) -> Option<Effect> {
    let credentials = credentials(seen)?;
    let state = match seen.resource.spec.state {
        crds::ProjectState::Active => ProjectState::Active,
        crds::ProjectState::Inactive => ProjectState::Inactive,
    };
    let stands = seen
        .row
        .as_ref()
        .is_some_and(|row| row.state == state && same_credentials(&row.credentials, &credentials));
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
    let proxy = &seen.resource.spec.proxy_ref.name;
    let Some(fleet) = &seen.fleet else {
        return Err((
            Reason::ProxyNotFound,
            format!("spec.proxyRef.name: ProxyConfig {}/{proxy} does not exist; create it", project.namespace),
        ));
    };
    let Some(declared) = fleet.providers.iter().find(|declared| declared.name == provider.name) else {
        let why = format!(
            "spec.providers: ProxyConfig {}/{proxy} has no provider {}; add it there or name another",
            project.namespace, provider.name
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

fn findings(seen: &ProjectObserved) -> Vec<Finding> {
    let resolved = uses(seen).find_map(|(provider, credential)| resolve(seen, provider, credential).err());
    let resolved = match resolved {
        Some((reason, message)) => Finding::fails(ConditionType::ResolvedRefs, reason, message),
        None => Finding::holds(
            ConditionType::ResolvedRefs,
            Reason::ResolvedRefs,
            "the ProxyConfig, its provider and the credential were found",
        ),
    };
    let in_force = seen.row.as_ref().map_or_else(
        || Finding::fails(ConditionType::Programmed, Reason::Pending, "nothing is in force yet"),
        |row: &ProjectView| programmed::programmed(row.takeaway_version, &seen.resource.replicas),
    );
    let active = match seen.resource.spec.state {
        crds::ProjectState::Active => Finding::holds(ConditionType::Active, Reason::Active, "requests are taken"),
        crds::ProjectState::Inactive => Finding::fails(
            ConditionType::Active,
            Reason::Inactive,
            "every request is refused; set spec.state to Active to take them again",
        ),
    };
    let mut findings = vec![report::accepted(&seen.resource.standing), resolved, in_force, active];
    let ready = report::ready(
        &findings,
        Finding::holds(ConditionType::Ready, Reason::Ready, "tokens of this project are served"),
    );
    findings.push(ready);
    findings
}

fn notices(seen: &ProjectObserved, findings: &[Finding]) -> Vec<Notice> {
    let before = conditions(seen);
    let mut notices = report::notices(before, findings);
    let programmed = |status: &str| status == ConditionStatus::True.as_str();
    let was = before
        .iter()
        .any(|old| old.type_ == ConditionType::Programmed.as_str() && programmed(&old.status));
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

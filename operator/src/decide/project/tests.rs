//! The table of project decisions: each test is one situation and what follows from it.

use crds::conditions::{ConditionType, find};
use crds::events::EventReason;
use crds::{
    Database, Kind, LlmProjectSpec, LlmProjectStatus, ProjectProvider, Provider, ProviderApi, ProviderAuth, ProviderCredentials, ProxyConfigSpec,
    ProxyRef, Reason, SecretKeyRef, Sqlite,
};
use secrecy::{ExposeSecret, SecretString};
use store::{CredentialSpec, DbTime, FeedVersion, HolderId, ProjectId, ProjectSpec, ProjectState, ProjectView, ReplicaView, ResourceUid};

use super::decide;
use crate::effect::{Effect, Status};
use crate::memory::Memory;
use crate::object::{Object, Resource, Standing};
use crate::observed::{CredentialSeen, ProjectObserved};

/// A declared project on a provider that wants a key, whose Secret holds `sk-one`, without a row.
fn declared() -> ProjectObserved {
    let secret_ref = SecretKeyRef {
        name: "openai".to_owned(),
        key: None,
    };
    let provider = ProjectProvider {
        name: "openai".to_owned(),
        credentials: Some(ProviderCredentials { secret_ref }),
    };
    let object = Object {
        kind: Kind::LlmProject,
        namespace: "default".to_owned(),
        name: "shop".to_owned(),
        uid: ResourceUid::new("u-2"),
        generation: 1,
    };
    ProjectObserved {
        resource: Resource {
            object,
            cluster: "standalone".to_owned(),
            spec: LlmProjectSpec {
                proxy_ref: ProxyRef {
                    name: "main".to_owned(),
                    namespace: None,
                },
                providers: vec![provider],
                state: crds::ProjectState::Active,
            },
            standing: Standing::Present,
            status: None,
            replicas: Vec::new(),
            memory: Memory::default(),
            now: DbTime(1_000_000),
        },
        row: None,
        fleet: Some(ProxyConfigSpec {
            database: Database {
                sqlite: Some(Sqlite {}),
                postgres: None,
            },
            providers: vec![provider_of(ProviderApi::OpenAI, None)],
            ..ProxyConfigSpec::default()
        }),
        credentials: vec![CredentialSeen::Found(SecretString::from("sk-one"))],
    }
}

fn provider_of(api: ProviderApi, auth: Option<ProviderAuth>) -> Provider {
    Provider {
        name: "openai".to_owned(),
        api,
        base_url: None,
        auth,
    }
}

/// The same with a row that says what the spec says.
fn programmed() -> ProjectObserved {
    let mut seen = declared();
    let credentials = vec![CredentialSpec {
        provider: "openai".to_owned(),
        key: Some(SecretString::from("sk-one")),
    }];
    let owner = seen.resource.owner();
    seen.row = Some(ProjectView {
        id: ProjectId::new(),
        owner,
        state: ProjectState::Active,
        credentials,
        takeaway_version: FeedVersion(0),
    });
    seen
}

fn effect_after_events(seen: &ProjectObserved) -> (Vec<EventReason>, Option<Effect>) {
    let mut seen = seen.clone();
    loop {
        match decide(&seen).effect {
            Some(Effect::Emit(notice)) => seen.resource.memory.told.push(notice.reason),
            other => return (seen.resource.memory.told, other),
        }
    }
}

fn put(seen: &ProjectObserved) -> ProjectSpec {
    match effect_after_events(seen).1 {
        Some(Effect::PutProject(spec)) => spec,
        other => panic!("not a row: {other:?}"),
    }
}

fn verdict(seen: &ProjectObserved) -> LlmProjectStatus {
    match effect_after_events(seen).1 {
        Some(Effect::SetStatus(Status::Project(status))) => status,
        other => panic!("not a status: {other:?}"),
    }
}

fn says(status: &LlmProjectStatus, about: ConditionType, holds: &str, why: Reason) {
    let condition = find(&status.conditions, about).expect("the condition");
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        (holds, why.as_str()),
        "{status:#?}"
    );
}

fn key(spec: &ProjectSpec) -> Option<&str> {
    spec.credentials[0].key.as_ref().map(ExposeSecret::expose_secret)
}

#[test]
fn a_new_project_gets_a_row_with_its_credential() {
    let spec = put(&declared());
    assert_eq!(
        (spec.state, key(&spec), spec.owner.uid.as_str()),
        (ProjectState::Active, Some("sk-one"), "u-2")
    );
}

#[test]
fn a_programmed_project_is_ready_and_then_left_in_peace() {
    let mut seen = programmed();
    assert_eq!(effect_after_events(&seen).0, [EventReason::ProjectProgrammed]);
    let status = verdict(&seen);
    says(&status, ConditionType::Ready, "True", Reason::Ready);
    seen.resource.status = Some(status);
    assert!(decide(&seen).effect.is_none());
}

#[test]
fn a_changed_credential_is_told_and_sealed_anew() {
    let mut seen = programmed();
    seen.credentials = vec![CredentialSeen::Found(SecretString::from("sk-two"))];
    assert_eq!(effect_after_events(&seen).0, [EventReason::CredentialsUpdated]);
    assert_eq!(key(&put(&seen)), Some("sk-two"));
}

#[test]
fn a_missing_secret_keeps_the_sealed_credential_in_use_and_says_so() {
    for (credential, why) in [
        (CredentialSeen::SecretMissing, Reason::SecretNotFound),
        (CredentialSeen::KeyMissing, Reason::SecretKeyMissing),
    ] {
        let mut seen = programmed();
        seen.credentials = vec![credential.clone()];
        let status = verdict(&seen);
        says(&status, ConditionType::ResolvedRefs, "False", why);
        says(&status, ConditionType::Programmed, "True", Reason::Programmed);
        let said = &find(&status.conditions, ConditionType::Ready).expect("Ready").message;
        assert!(
            said.contains("default/openai") && said.contains("the last credential stays in use"),
            "{said}"
        );

        let mut seen = declared();
        seen.credentials = vec![credential];
        says(&verdict(&seen), ConditionType::Programmed, "False", Reason::Pending);
    }
}

#[test]
fn a_switched_off_project_is_switched_off_even_if_its_secret_is_missing() {
    let mut seen = programmed();
    (seen.resource.spec.state, seen.credentials) = (crds::ProjectState::Inactive, vec![CredentialSeen::SecretMissing]);
    let spec = put(&seen);
    assert_eq!((spec.state, key(&spec)), (ProjectState::Inactive, Some("sk-one")));
}

#[test]
fn an_inactive_project_says_so() {
    let mut seen = programmed();
    seen.resource.spec.state = crds::ProjectState::Inactive;
    if let Some(row) = &mut seen.row {
        row.state = ProjectState::Inactive;
    }
    says(&verdict(&seen), ConditionType::Ready, "False", Reason::Inactive);
    assert!(effect_after_events(&seen).0.contains(&EventReason::ProjectDeactivated));
}

#[test]
fn a_provider_without_a_key_wants_no_credential() {
    for provider in [
        provider_of(ProviderApi::Echo, None),
        provider_of(ProviderApi::OpenAI, Some(ProviderAuth::None)),
    ] {
        let mut seen = declared();
        seen.fleet = seen.fleet.map(|fleet| ProxyConfigSpec {
            providers: vec![provider],
            ..fleet
        });
        seen.credentials = vec![CredentialSeen::NotNamed];
        assert_eq!(key(&put(&seen)), None);
    }
}

#[test]
fn what_cannot_be_resolved_is_named_with_its_remedy() {
    let mut missing = declared();
    missing.fleet = None;
    says(&verdict(&missing), ConditionType::ResolvedRefs, "False", Reason::ProxyNotFound);
    let mut unknown = declared();
    unknown.fleet = unknown.fleet.map(|fleet| ProxyConfigSpec {
        providers: Vec::new(),
        ..fleet
    });
    says(&verdict(&unknown), ConditionType::ResolvedRefs, "False", Reason::ProviderUnknown);
    let mut unnamed = declared();
    unnamed.credentials = vec![CredentialSeen::NotNamed];
    says(&verdict(&unnamed), ConditionType::ResolvedRefs, "False", Reason::CredentialsMissing);
}

#[test]
fn a_take_away_waits_for_the_replicas() {
    let mut seen = programmed();
    if let Some(row) = &mut seen.row {
        row.takeaway_version = FeedVersion(3);
    }
    seen.resource.replicas = vec![ReplicaView {
        holder: HolderId::new(),
        acked: FeedVersion(2),
        seen_at: DbTime(0),
        stale_after_ms: 1,
    }];
    says(&verdict(&seen), ConditionType::Programmed, "False", Reason::AwaitingReplicas);
}

#[test]
fn deletion_ends_the_row_and_then_forgets() {
    let mut seen = programmed();
    seen.resource.standing = Standing::Gone;
    assert!(matches!(decide(&seen).effect, Some(Effect::DeleteProject(_))));
    if let Some(row) = &mut seen.row {
        row.state = ProjectState::Deleted;
    }
    assert!(matches!(decide(&seen).effect, Some(Effect::Forget(_))));
    // Cut short by a crash, with the manifest back: finished all the same, and what comes back is another project.
    seen.resource.standing = Standing::Present;
    assert!(matches!(decide(&seen).effect, Some(Effect::Forget(_))));
}

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
use crate::observed::{CredentialSeen, FleetSeen, ProjectObserved};

fn fleet_of(providers: Vec<Provider>) -> FleetSeen {
    FleetSeen::Ready(Box::new(ProxyConfigSpec {
        database: Database {
            sqlite: Some(Sqlite {}),
            postgres: None,
        },
        providers,
        ..ProxyConfigSpec::default()
    }))
}

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
                rate_limits: None,
                budgets: None,
            },
            standing: Standing::Present,
            status: None,
            replicas: Vec::new(),
            memory: Memory::default(),
            now: DbTime(1_000_000),
        },
        row: None,
        fleet: fleet_of(vec![provider_of(ProviderApi::OpenAI, None)]),
        credentials: vec![CredentialSeen::Found(SecretString::from("sk-one"))],
    }
}

fn provider_of(api: ProviderApi, auth: Option<ProviderAuth>) -> Provider {
    Provider {
        name: "openai".to_owned(),
        api,
        base_url: None,
        auth,
        prices: None,
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
        limits: Vec::new(),
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
fn changed_limits_are_put_without_a_word_about_credentials_and_a_bad_spec_leaves_them() {
    let mut seen = programmed();
    let budget = serde_yaml::from_str("{period: Day, amount: '2'}").expect("a budget");
    seen.resource.spec.budgets = Some(vec![budget]);
    let (told, effect) = effect_after_events(&seen);
    let Some(Effect::PutProject(spec)) = effect else {
        panic!("not a row: {effect:?}")
    };
    assert!(!told.contains(&EventReason::CredentialsUpdated));
    assert_eq!((spec.limits.len(), spec.limits[0].max_units), (1, 200_000_000));
    seen.row.as_mut().expect("a row").limits = spec.limits.clone();
    seen.resource.standing = Standing::Unusable("spec.providers: wrong".to_owned());
    (seen.resource.spec.budgets, seen.resource.spec.state) = (None, crds::ProjectState::Inactive);
    let put = put(&seen);
    assert_eq!((put.state, put.limits), (ProjectState::Inactive, spec.limits));
}

#[test]
fn a_missing_secret_keeps_the_sealed_credential_in_use_and_says_so() {
    for (credential, why) in [
        (CredentialSeen::SecretMissing, Reason::SecretNotFound),
        (CredentialSeen::KeyMissing, Reason::SecretKeyMissing),
        (CredentialSeen::Unusable, Reason::SecretKeyMissing),
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
    let inactive = verdict(&seen);
    says(&inactive, ConditionType::Ready, "False", Reason::Inactive);
    assert!(effect_after_events(&seen).0.contains(&EventReason::ProjectDeactivated));
    let mut again = programmed();
    again.resource.status = Some(inactive);
    assert_eq!(effect_after_events(&again).0, [EventReason::ProjectActivated]);
}

#[test]
fn a_provider_without_a_key_wants_no_credential() {
    for provider in [
        provider_of(ProviderApi::Echo, None),
        provider_of(ProviderApi::OpenAI, Some(ProviderAuth::None)),
    ] {
        let mut seen = declared();
        seen.fleet = fleet_of(vec![provider]);
        seen.credentials = vec![CredentialSeen::NotNamed];
        assert_eq!(key(&put(&seen)), None);
    }
}

#[test]
fn what_cannot_be_resolved_is_named_with_its_remedy() {
    let mut missing = declared();
    missing.fleet = FleetSeen::Missing;
    says(&verdict(&missing), ConditionType::ResolvedRefs, "False", Reason::ProxyNotFound);
    let mut unknown = declared();
    unknown.fleet = fleet_of(Vec::new());
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

fn not_permitted(mut seen: ProjectObserved) -> ProjectObserved {
    seen.fleet = FleetSeen::NotPermitted("ProxyConfig llm-system/main does not allow it; ask for spec.allowedProjects there".to_owned());
    seen
}

fn away(mut seen: ProjectObserved) -> ProjectObserved {
    seen.row = None;
    seen.fleet = FleetSeen::NotReady {
        reason: Reason::DatabaseUnavailable,
        message: "the database does not answer".to_owned(),
    };
    seen
}

#[test]
fn once_the_fleet_is_declared_nobody_is_told_to_create_it() {
    let mut seen = declared();
    seen.fleet = FleetSeen::Missing;
    let before = verdict(&seen);
    says(&before, ConditionType::Ready, "False", Reason::ProxyNotFound);
    seen.resource.status = Some(before);
    let status = verdict(&away(seen));
    says(&status, ConditionType::ResolvedRefs, "Unknown", Reason::DatabaseUnavailable);
    says(&status, ConditionType::Ready, "False", Reason::DatabaseUnavailable);
}

#[test]
fn a_project_that_its_fleet_does_not_allow_gets_no_row_and_says_what_to_do() {
    let status = verdict(&not_permitted(declared()));
    says(&status, ConditionType::Accepted, "False", Reason::RefNotPermitted);
    says(&status, ConditionType::Ready, "False", Reason::RefNotPermitted);
    says(&status, ConditionType::Stalled, "True", Reason::RefNotPermitted);
    assert_eq!(effect_after_events(&not_permitted(declared())).0, [EventReason::RefNotPermitted]);
}

#[test]
fn a_permission_that_is_withdrawn_switches_the_project_off_and_a_returned_one_on_again() {
    let mut seen = not_permitted(programmed());
    // Whatever its Secret holds meanwhile: nothing but the state is touched.
    seen.credentials = vec![CredentialSeen::Found(SecretString::from("sk-two"))];
    let spec = put(&seen);
    assert_eq!((spec.state, key(&spec)), (ProjectState::Inactive, Some("sk-one")));
    seen.row.as_mut().expect("a row").state = ProjectState::Inactive;
    says(&verdict(&seen), ConditionType::Accepted, "False", Reason::RefNotPermitted);
    seen.fleet = declared().fleet;
    let spec = put(&seen);
    assert_eq!((spec.state, key(&spec)), (ProjectState::Active, Some("sk-two")));
}

#[test]
fn an_invalid_spec_is_told_before_a_missing_permission() {
    let mut seen = not_permitted(declared());
    seen.resource.standing = Standing::Invalid("spec.providers: must hold exactly one".to_owned());
    says(&verdict(&seen), ConditionType::Ready, "False", Reason::InvalidSpec);
}

#[test]
fn a_project_in_force_stays_so_while_the_database_is_away() {
    let mut seen = programmed();
    seen.resource.status = Some(verdict(&seen));
    let mut seen = away(seen);
    let status = verdict(&seen);
    says(&status, ConditionType::Programmed, "Unknown", Reason::DatabaseUnavailable);
    says(&status, ConditionType::ResolvedRefs, "True", Reason::ResolvedRefs);
    says(&status, ConditionType::Ready, "True", Reason::Ready);
    seen.resource.status = Some(status.clone());
    assert!(decide(&seen).effect.is_none(), "told once");
    seen.resource.object.generation = 2;
    says(&verdict(&seen), ConditionType::Ready, "False", Reason::DatabaseUnavailable);
    let mut back = programmed();
    back.resource.status = Some(status);
    assert_eq!(effect_after_events(&back).0, [], "it was in force all the time");
    says(&verdict(&back), ConditionType::Programmed, "True", Reason::Programmed);
}

#[test]
fn a_new_project_waits_for_the_database_and_a_deleted_one_is_not_forgotten() {
    let mut seen = away(declared());
    let status = verdict(&seen);
    says(&status, ConditionType::Ready, "False", Reason::DatabaseUnavailable);
    says(&status, ConditionType::Reconciling, "True", Reason::DatabaseUnavailable);
    seen.resource.standing = Standing::Gone;
    assert!(decide(&seen).effect.is_none());
}

#[test]
fn a_fleet_of_another_namespace_is_named_with_it() {
    let mut seen = declared();
    (seen.fleet, seen.resource.spec.proxy_ref.namespace) = (FleetSeen::Missing, Some("llm-system".to_owned()));
    let status = verdict(&seen);
    let message = &find(&status.conditions, ConditionType::ResolvedRefs).expect("the condition").message;
    assert!(message.contains("ProxyConfig llm-system/main does not exist"), "{message}");
}

#[test]
fn a_spec_that_breaks_a_rule_and_has_no_good_one_before_it_changes_no_row() {
    let mut seen = programmed();
    seen.resource.standing = Standing::Unusable("spec.providers: must hold exactly one provider".to_owned());
    seen.credentials = vec![CredentialSeen::Found(SecretString::from("sk-two"))];
    let status = verdict(&seen);
    says(&status, ConditionType::Accepted, "False", Reason::InvalidSpec);
    says(&status, ConditionType::Stalled, "True", Reason::InvalidSpec);
    // A permission that is withdrawn counts all the same.
    assert_eq!(put(&not_permitted(seen.clone())).state, ProjectState::Inactive);
    let mut switched_off = seen.clone();
    switched_off.resource.spec.state = crds::ProjectState::Inactive;
    let spec = put(&switched_off);
    assert_eq!(
        (spec.state, key(&spec)),
        (ProjectState::Inactive, Some("sk-one")),
        "that is good by itself"
    );
    seen.row = None;
    says(&verdict(&seen), ConditionType::Ready, "False", Reason::InvalidSpec);
}

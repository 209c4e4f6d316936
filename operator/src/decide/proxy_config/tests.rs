//! The table of ProxyConfig decisions: each test is one situation and what follows from it.

mod cluster;

use crds::conditions::{ConditionType, find};
use crds::events::EventReason;
use crds::{Database, Kind, Provider, ProviderApi, ProviderAuth, ProxyConfigSpec, ProxyConfigStatus, Reason, Sqlite};
use store::{DbTime, FeedVersion, HolderId, ProviderSpec, ReplicaView, ResourceUid};

use super::decide;
use crate::effect::{Effect, Status};
use crate::memory::Memory;
use crate::object::{Object, Resource, Standing};
use crate::observed::ProxyConfigObserved;

fn declared() -> ProxyConfigObserved {
    let openai = Provider {
        name: "openai".to_owned(),
        api: ProviderApi::OpenAI,
        base_url: Some("https://api.openai.com".to_owned()),
        auth: None,
        prices: None,
    };
    let echo = Provider {
        name: "echo".to_owned(),
        api: ProviderApi::Echo,
        base_url: None,
        auth: Some(ProviderAuth::Bearer),
        prices: None,
    };
    let object = Object {
        kind: Kind::ProxyConfig,
        namespace: "default".to_owned(),
        name: "main".to_owned(),
        uid: ResourceUid::new("u-3"),
        generation: 1,
    };
    ProxyConfigObserved {
        resource: Resource {
            object,
            cluster: "standalone".to_owned(),
            spec: ProxyConfigSpec {
                database: Database {
                    sqlite: Some(Sqlite {}),
                    postgres: None,
                },
                providers: vec![openai, echo],
                ..ProxyConfigSpec::default()
            },
            standing: Standing::Present,
            status: None,
            replicas: vec![replica(0)],
            memory: Memory::default(),
            now: DbTime(1_000_000),
        },
        rows: Vec::new(),
        base_url: "http://127.0.0.1:8080/v1".to_owned(),
        fleet: None,
    }
}

fn replica(acked: i64) -> ReplicaView {
    ReplicaView {
        holder: HolderId::new(),
        acked: FeedVersion(acked),
        seen_at: DbTime(0),
        stale_after_ms: 1_000,
    }
}

fn rows(seen: &ProxyConfigObserved) -> Vec<ProviderSpec> {
    match decide(seen).effect {
        Some(Effect::PutProviders(rows)) => rows,
        other => panic!("not providers: {other:?}"),
    }
}

fn verdict(seen: &ProxyConfigObserved) -> (Vec<EventReason>, ProxyConfigStatus) {
    let mut seen = seen.clone();
    loop {
        match decide(&seen).effect {
            Some(Effect::Emit(notice)) => seen.resource.memory.told.push(notice.reason),
            Some(Effect::SetStatus(Status::ProxyConfig(status))) => return (seen.resource.memory.told, status),
            other => panic!("not a status: {other:?}"),
        }
    }
}

fn says(status: &ProxyConfigStatus, about: ConditionType, holds: &str, why: Reason) {
    let condition = find(&status.conditions, about).expect("the condition");
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        (holds, why.as_str()),
        "{status:#?}"
    );
}

#[test]
fn the_declared_providers_become_rows_and_echo_is_never_authenticated() {
    let rows = rows(&declared());
    assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["echo", "openai"]);
    assert_eq!(rows[0].auth, store::ProviderAuth::None);
    assert_eq!(
        (rows[1].auth, rows[1].base_url.as_deref()),
        (store::ProviderAuth::Bearer, Some("https://api.openai.com"))
    );
}

#[test]
fn rows_in_another_order_are_the_same_rows() {
    let mut seen = declared();
    seen.rows = rows(&seen);
    seen.rows.reverse();
    let (_, status) = verdict(&seen);
    says(&status, ConditionType::Ready, "True", Reason::Ready);
    assert_eq!(status.url.as_deref(), Some("http://127.0.0.1:8080/v1"));
    seen.resource.status = Some(status);
    assert!(decide(&seen).effect.is_none());
}

#[test]
fn a_change_is_in_force_when_every_replica_has_acknowledged_it() {
    let mut seen = declared();
    seen.rows = rows(&seen);
    (seen.resource.memory.pushed, seen.resource.replicas) = (Some(FeedVersion(4)), vec![replica(4), replica(3)]);
    says(&verdict(&seen).1, ConditionType::Programmed, "False", Reason::AwaitingReplicas);
    seen.resource.replicas = vec![replica(4), replica(5)];
    let (events, status) = verdict(&seen);
    says(&status, ConditionType::Programmed, "True", Reason::Programmed);
    assert_eq!(events, [EventReason::ConfigPushed]);
}

#[test]
fn a_fleet_without_replicas_is_not_available() {
    let mut seen = declared();
    seen.rows = rows(&seen);
    seen.resource.replicas.clear();
    says(&verdict(&seen).1, ConditionType::Available, "False", Reason::NoReplicas);
    says(&verdict(&seen).1, ConditionType::Ready, "False", Reason::NoReplicas);
}

#[test]
fn a_deleted_fleet_is_forgotten_and_its_rows_stay() {
    let mut seen = declared();
    seen.resource.standing = Standing::Gone;
    assert!(matches!(decide(&seen).effect, Some(Effect::Forget(_))));
}

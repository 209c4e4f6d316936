//! What a cluster adds: the order of Secrets, database, rows and pods, and what each thing that is missing or wrong shows.

use store::FleetDeletion;

use super::*;
use crate::fleet::{
    Child, ChildKind, ChildSeen, ChildVersion, ClaimSeen, DatabaseSeen, FleetEffect, FleetObserved, GeneratedSecret, PodTrouble, Rollout,
    SecretStanding, Shown,
};

const NEWEST: i64 = 5;

/// A fleet in a cluster whose objects and rows are all as they should be.
fn whole() -> ProxyConfigObserved {
    let mut seen = declared();
    seen.rows = rows(&seen);
    seen.fleet = Some(Box::new(FleetObserved {
        management: SecretStanding::Good,
        encryption: SecretStanding::Good,
        key_goes: Some(false),
        deletion: Some(FleetDeletion::default()),
        database: live(),
        held: true,
        newest_schema: NEWEST,
        children: vec![child(ChildKind::Service, false), child(ChildKind::Deployment, false)],
        rollout: Some(Rollout {
            wanted: 1,
            replicas: 1,
            ready: 1,
            updated: 1,
            available: 1,
            observed: true,
            failed: None,
        }),
        trouble: None,
        shown: Shown {
            schema_version: Some(NEWEST),
            ..Shown::default()
        },
        retry_at: None,
    }));
    seen
}

pub(super) fn with(change: impl FnOnce(&mut FleetObserved)) -> ProxyConfigObserved {
    let mut seen = whole();
    change(seen.fleet.as_mut().unwrap());
    seen
}

fn live() -> DatabaseSeen {
    reached(Some(NEWEST), ClaimSeen::Ours, true)
}

fn reached(schema: Option<i64>, claim: ClaimSeen, live: bool) -> DatabaseSeen {
    DatabaseSeen::Reached { schema, claim, live }
}

fn failing(reason: Reason) -> DatabaseSeen {
    DatabaseSeen::Failing {
        reason,
        message: "no".to_owned(),
    }
}

fn child(kind: ChildKind, differs: bool) -> ChildSeen {
    let wanted = match kind {
        ChildKind::Deployment => Child::Deployment(Box::default()),
        _ => Child::Service(Box::default()),
    };
    ChildSeen {
        what: kind.as_str().to_owned(),
        act: differs.then_some(FleetEffect::Apply(wanted)),
        conflict: None,
        needs_database: kind == ChildKind::Deployment,
    }
}

/// The effects until a status is set, each taken for done as `done` says.
fn story(mut seen: ProxyConfigObserved, done: impl Fn(&FleetEffect, &mut FleetObserved)) -> Vec<String> {
    let mut story = Vec::new();
    loop {
        let effect = decide(&seen).effect.expect("an effect");
        match &effect {
            Effect::Fleet(effect) => {
                story.push(match effect {
                    FleetEffect::Apply(child) => format!("Apply {}", child.kind().as_str()),
                    FleetEffect::DeleteChild(child) => format!("Delete {}", child.kind.as_str()),
                    other => format!("{other:?}"),
                });
                done(effect, seen.fleet.as_mut().unwrap());
            }
            Effect::Emit(notice) => story.push(notice.reason.to_string()),
            Effect::PutProviders(rows) => {
                story.push("PutProviders".to_owned());
                seen.rows.clone_from(rows);
            }
            Effect::SetStatus(_) => return story,
            other => panic!("{other:?}"),
        }
        seen.resource.memory.note(&effect, Some(FeedVersion(1)), DbTime(0));
    }
}

#[test]
fn a_new_fleet_gets_secrets_then_a_database_then_rows_and_pods_last() {
    let mut seen = with(|fleet| {
        (fleet.management, fleet.encryption) = (SecretStanding::Absent, SecretStanding::Absent);
        fleet.database = reached(None, ClaimSeen::Nobody, false);
        fleet.children = vec![child(ChildKind::Deployment, true), child(ChildKind::Service, true)];
    });
    seen.rows.clear();
    let story = story(seen, |effect, fleet| match effect {
        FleetEffect::GenerateSecret(GeneratedSecret::Management) => fleet.management = SecretStanding::Good,
        FleetEffect::GenerateSecret(GeneratedSecret::Encryption) => fleet.encryption = SecretStanding::Good,
        FleetEffect::Migrate => fleet.database = reached(Some(NEWEST), ClaimSeen::Nobody, false),
        FleetEffect::Open => fleet.database = live(),
        FleetEffect::Apply(applied) => {
            for child in &mut fleet.children {
                if child.needs_database == (applied.kind() == ChildKind::Deployment) {
                    child.act = None;
                }
            }
        }
        FleetEffect::DeleteChild(_) | FleetEffect::SetDeletion(_) | FleetEffect::TieKey(_) | FleetEffect::Purge => {}
    });
    assert_eq!(
        story[..9],
        [
            "ManagementSecretGenerated",
            "GenerateSecret(Management)",
            "Apply Service",
            "GenerateSecret(Encryption)",
            "Migrate",
            "Open",
            "MigrationFinished",
            "PutProviders",
            "Apply Deployment",
        ]
    );
}

#[test]
fn a_whole_fleet_is_ready_and_left_alone() {
    let mut seen = whole();
    let (_, status) = verdict(&seen);
    for about in [
        ConditionType::Accepted,
        ConditionType::ResolvedRefs,
        ConditionType::DatabaseReady,
        ConditionType::Migrated,
        ConditionType::Programmed,
        ConditionType::Available,
        ConditionType::Ready,
    ] {
        assert_eq!(find(&status.conditions, about).unwrap().status, "True", "{about}");
    }
    says(&status, ConditionType::Progressing, "False", Reason::Deployed);
    assert_eq!((status.replicas, status.ready_replicas), (Some(1), Some(1)));
    let database = status.database.clone().unwrap();
    assert_eq!((database.engine.as_deref(), database.schema_version), (Some("PostgreSQL"), Some(NEWEST)));
    seen.resource.status = Some(status);
    let decision = decide(&seen);
    assert!(decision.effect.is_none() && decision.recheck_at.is_none());
}

#[test]
fn a_lost_management_token_is_made_anew_each_time_it_is_lost() {
    let seen = with(|fleet| fleet.management = SecretStanding::Absent);
    let mut again = seen.clone();
    assert_eq!(
        story(seen, |_, fleet| fleet.management = SecretStanding::Good)[..2],
        ["ManagementSecretGenerated", "GenerateSecret(Management)"]
    );
    // Nothing was to be written to status in between.
    again.resource.memory.told = vec![EventReason::ManagementSecretGenerated];
    let generated = Effect::Fleet(FleetEffect::GenerateSecret(GeneratedSecret::Management));
    again.resource.memory.note(&generated, None, DbTime(0));
    assert!(matches!(decide(&again).effect, Some(Effect::Emit(_))));
}

#[test]
fn a_lost_encryption_key_is_never_made_anew_once_the_database_is_claimed() {
    for live in [true, false] {
        let seen = with(|fleet| {
            fleet.encryption = SecretStanding::Absent;
            fleet.database = reached(Some(NEWEST), ClaimSeen::Ours, live);
            fleet.children = vec![child(ChildKind::Deployment, true)];
        });
        assert!(
            matches!(decide(&seen).effect, Some(Effect::Emit(_) | Effect::SetStatus(_))),
            "{:?}",
            decide(&seen).effect
        );
        let (_, status) = verdict(&seen);
        says(&status, ConditionType::DatabaseReady, "False", Reason::EncryptionKeyMismatch);
        says(&status, ConditionType::Ready, "False", Reason::EncryptionKeyMismatch);
        says(&status, ConditionType::Stalled, "True", Reason::EncryptionKeyMismatch);
    }
    // Away: nobody knows whether it is claimed.
    let seen = with(|fleet| (fleet.encryption, fleet.database) = (SecretStanding::Absent, failing(Reason::DatabaseUnavailable)));
    says(&verdict(&seen).1, ConditionType::DatabaseReady, "False", Reason::DatabaseUnavailable);
}

#[test]
fn a_database_of_another_fleet_is_neither_migrated_nor_opened() {
    let seen = with(|fleet| {
        fleet.database = reached(Some(1), ClaimSeen::Other("another's".to_owned()), false);
        fleet.children = vec![child(ChildKind::Deployment, true)];
    });
    let (_, status) = verdict(&seen);
    says(&status, ConditionType::DatabaseReady, "False", Reason::DatabaseConflict);
    says(&status, ConditionType::Stalled, "True", Reason::DatabaseConflict);
}

#[test]
fn no_pod_is_rolled_while_the_database_fails() {
    for (reason, migrated) in [
        (Reason::DatabaseUnavailable, "Unknown"),
        (Reason::DatabaseReadOnly, "Unknown"),
        (Reason::SchemaTooNew, "False"),
        (Reason::MigrationFailed, "False"),
    ] {
        let mut seen = with(|fleet| {
            (fleet.database, fleet.held) = (failing(reason), false);
            fleet.children = vec![child(ChildKind::Deployment, true)];
            fleet.retry_at = Some(DbTime(2_000_000));
        });
        seen.resource.replicas.clear();
        let (_, status) = verdict(&seen);
        says(&status, ConditionType::DatabaseReady, "False", reason);
        assert_eq!(find(&status.conditions, ConditionType::Migrated).unwrap().status, migrated);
        says(&status, ConditionType::Programmed, "Unknown", Reason::DatabaseUnavailable);
        says(&status, ConditionType::Available, "True", Reason::Available);
        assert_eq!(decide(&seen).recheck_at, Some(DbTime(2_000_000)));
    }
}

#[test]
fn a_fleet_is_scaled_while_the_database_that_it_is_on_is_away() {
    for (reason, scaled) in [
        (Reason::DatabaseUnavailable, true),
        (Reason::DatabaseReadOnly, true),
        (Reason::SchemaTooNew, false),
    ] {
        let seen = with(|fleet| {
            fleet.database = failing(reason);
            fleet.children = vec![child(ChildKind::Deployment, true)];
        });
        let effect = decide(&seen).effect;
        assert_eq!(matches!(effect, Some(Effect::Fleet(FleetEffect::Apply(_)))), scaled, "{reason}");
    }
}

#[test]
fn a_database_that_comes_back_is_told() {
    let away = with(|fleet| fleet.database = failing(Reason::DatabaseUnavailable));
    let (told, status) = verdict(&away);
    assert!(told.contains(&EventReason::DatabaseUnavailable));
    let mut back = whole();
    back.resource.status = Some(status);
    assert!(verdict(&back).0.contains(&EventReason::DatabaseRecovered));
}

#[test]
fn sqlite_is_refused_with_the_remedy_and_nothing_is_made() {
    let mut seen = with(|fleet| {
        fleet.database = DatabaseSeen::NotNamed;
        (fleet.management, fleet.encryption) = (SecretStanding::Absent, SecretStanding::Absent);
        fleet.children = vec![child(ChildKind::Service, true), child(ChildKind::Deployment, true)];
        fleet.rollout = None;
    });
    seen.resource.standing = Standing::Invalid("use postgres".to_owned());
    let (_, status) = verdict(&seen);
    says(&status, ConditionType::Accepted, "False", Reason::InvalidSpec);
    says(&status, ConditionType::Stalled, "True", Reason::InvalidSpec);
}

#[test]
fn an_invalid_spec_changes_nothing_but_its_database_is_opened_for_revocations() {
    let mut seen = with(|fleet| {
        fleet.database = reached(Some(NEWEST), ClaimSeen::Ours, false);
        fleet.children = vec![child(ChildKind::Service, true), child(ChildKind::Deployment, true)];
    });
    seen.resource.standing = Standing::Invalid("wrong".to_owned());
    assert!(matches!(decide(&seen).effect, Some(Effect::Fleet(FleetEffect::Open))));
    seen.fleet.as_mut().unwrap().database = live();
    seen.rows.clear();
    says(&verdict(&seen).1, ConditionType::Accepted, "False", Reason::InvalidSpec);
}

#[test]
fn what_belongs_to_somebody_else_is_left_alone_and_named() {
    let seen = with(|fleet| fleet.management = SecretStanding::Foreign("not ours".to_owned()));
    let (told, status) = verdict(&seen);
    says(&status, ConditionType::ResolvedRefs, "False", Reason::SecretConflict);
    assert!(told.contains(&EventReason::SecretConflict));
    let seen = with(|fleet| fleet.children[0].conflict = Some("not ours".to_owned()));
    says(&verdict(&seen).1, ConditionType::ResolvedRefs, "False", Reason::NameConflict);
    assert_eq!(decide(&seen).recheck_at, Some(seen.resource.now.plus_ms(5_000)));
}

#[test]
fn an_orphan_is_deleted() {
    let seen = with(|fleet| {
        fleet.children[0].act = Some(FleetEffect::DeleteChild(ChildVersion {
            kind: ChildKind::DisruptionBudget,
            name: "main".to_owned(),
            uid: "u".to_owned(),
        }));
    });
    assert!(matches!(decide(&seen).effect, Some(Effect::Fleet(FleetEffect::DeleteChild(_)))));
}

#[test]
fn an_object_that_the_server_refuses_is_told_and_tried_again_later() {
    let mut seen = with(|fleet| fleet.children = vec![child(ChildKind::Deployment, true)]);
    seen.resource
        .memory
        .note_failure("Deployment llm/main cannot be applied: quota".to_owned(), seen.resource.now);
    let (_, status) = verdict(&seen);
    says(&status, ConditionType::Progressing, "False", Reason::ApplyFailed);
    says(&status, ConditionType::Ready, "False", Reason::ApplyFailed);
    assert_eq!(decide(&seen).recheck_at, Some(seen.resource.now.plus_ms(1_000)));
    seen.resource.now = seen.resource.now.plus_ms(1_000);
    assert!(matches!(decide(&seen).effect, Some(Effect::Fleet(FleetEffect::Apply(_)))));
}

#[test]
fn a_rollout_is_told_when_it_starts_ends_and_fails() {
    let rolling = with(|fleet| fleet.rollout.as_mut().unwrap().updated = 0);
    let (told, status) = verdict(&rolling);
    says(&status, ConditionType::Progressing, "True", Reason::RollingOut);
    assert!(told.contains(&EventReason::RolloutStarted));
    let mut done = whole();
    done.resource.status = Some(status.clone());
    assert!(verdict(&done).0.contains(&EventReason::RolloutFinished));
    let mut failed = with(|fleet| fleet.rollout.as_mut().unwrap().failed = Some("too slow".to_owned()));
    failed.resource.status = Some(status);
    let (told, status) = verdict(&failed);
    says(&status, ConditionType::Progressing, "False", Reason::RolloutFailed);
    says(&status, ConditionType::Ready, "True", Reason::Ready);
    assert!(told.contains(&EventReason::RolloutFailed));
}

#[test]
fn acknowledgements_are_counted_in_the_message() {
    let mut seen = whole();
    (seen.resource.memory.pushed, seen.resource.replicas) = (Some(FeedVersion(4)), vec![replica(4), replica(5)]);
    let (_, status) = verdict(&seen);
    assert!(find(&status.conditions, ConditionType::Programmed).unwrap().message.contains("2/2"));
}

#[test]
fn ready_and_the_count_of_ready_pods_never_contradict_each_other() {
    // A replica reports, and the Deployment has no pod that is ready: one that drains, or one that nothing leads to yet.
    for rollout in [None, Some(Rollout::default())] {
        let seen = with(|fleet| fleet.rollout.clone_from(&rollout));
        let (_, status) = verdict(&seen);
        says(&status, ConditionType::Available, "False", Reason::NoReplicas);
        says(&status, ConditionType::Ready, "False", Reason::NoReplicas);
        assert_eq!(status.ready_replicas.unwrap_or(0), 0);
    }
    // A pod is ready, and no replica reports: the message says how many pods there are.
    let mut seen = whole();
    seen.resource.replicas.clear();
    let (_, status) = verdict(&seen);
    says(&status, ConditionType::Ready, "False", Reason::NoReplicas);
    let message = &find(&status.conditions, ConditionType::Ready).unwrap().message;
    assert!(message.contains("1 of 2 pods are ready"), "{message}");
    // One of three is enough to serve.
    let seen = with(|fleet| {
        let rollout = fleet.rollout.as_mut().unwrap();
        (rollout.wanted, rollout.replicas, rollout.updated) = (3, 3, 3);
    });
    let (_, status) = verdict(&seen);
    says(&status, ConditionType::Ready, "True", Reason::Ready);
    says(&status, ConditionType::Progressing, "True", Reason::RollingOut);
}

/// A fleet none of whose pods comes up, for this reason.
fn troubled(trouble: Option<PodTrouble>) -> ProxyConfigObserved {
    let mut seen = with(|fleet| {
        let rollout = fleet.rollout.as_mut().unwrap();
        (rollout.ready, rollout.available) = (0, 0);
        fleet.trouble = trouble;
    });
    seen.resource.replicas.clear();
    seen
}

fn no_image() -> Option<PodTrouble> {
    let image = "registry.example/llm-proxy:typo".to_owned();
    Some(PodTrouble::ImagePull { image })
}

#[test]
fn an_image_that_cannot_be_pulled_is_named_with_the_remedy_and_heals() {
    let (told, status) = verdict(&troubled(no_image()));
    for about in [ConditionType::Available, ConditionType::Progressing, ConditionType::Ready] {
        says(&status, about, "False", Reason::ImagePullFailed);
        let message = &find(&status.conditions, about).unwrap().message;
        assert!(
            message.contains("registry.example/llm-proxy:typo") && message.contains("spec.image"),
            "{message}"
        );
    }
    says(&status, ConditionType::Stalled, "True", Reason::ImagePullFailed);
    assert!(told.contains(&EventReason::RolloutFailed));
    // As long as nothing else is seen nothing is written; and it is looked at again, for nobody tells of pods.
    let mut again = troubled(no_image());
    again.resource.status = Some(status.clone());
    let decision = decide(&again);
    assert!(decision.effect.is_none());
    assert_eq!(decision.recheck_at, Some(again.resource.now.plus_ms(10_000)));
    let mut mended = whole();
    mended.resource.status = Some(status);
    let (told, status) = verdict(&mended);
    says(&status, ConditionType::Ready, "True", Reason::Ready);
    assert!(told.contains(&EventReason::RolloutFinished));
}

#[test]
fn what_serves_goes_on_while_a_new_image_cannot_be_pulled() {
    let seen = with(|fleet| {
        let rollout = fleet.rollout.as_mut().unwrap();
        (rollout.replicas, rollout.updated) = (2, 1);
        fleet.trouble = no_image();
    });
    let (_, status) = verdict(&seen);
    says(&status, ConditionType::Progressing, "False", Reason::ImagePullFailed);
    says(&status, ConditionType::Ready, "True", Reason::Ready);
}

#[test]
fn other_troubles_of_pods_are_said_in_the_message() {
    for (trouble, word) in [
        (PodTrouble::Crashing, "CrashLoopBackOff"),
        (PodTrouble::Unschedulable, "Unschedulable"),
        (PodTrouble::NotMade, "cannot start the container"),
    ] {
        let (_, status) = verdict(&troubled(Some(trouble)));
        for (about, holds, reason) in [
            (ConditionType::Available, "False", Reason::NoReplicas),
            (ConditionType::Progressing, "True", Reason::RollingOut),
        ] {
            says(&status, about, holds, reason);
            let message = &find(&status.conditions, about).unwrap().message;
            assert!(message.contains(word), "{message}");
        }
    }
    // Why is not known yet: it is looked for soon.
    let seen = troubled(None);
    says(&verdict(&seen).1, ConditionType::Available, "False", Reason::NoReplicas);
    assert!(decide(&troubled(None)).recheck_at.is_none_or(|at| at <= seen.resource.now.plus_ms(2_000)));
}

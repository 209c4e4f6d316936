//! The audit: chains that stay whole under concurrency and show whatever was done to them.

use store::{Act, AuditEntry, AuditFilter, AuditId, AuditOutcome, HolderId};

use crate::harness::{Database, HOUR, T0, World, echo, on_every_engine};
use crate::manage::{act, create};

fn denial(age_ms: i64) -> AuditEntry {
    AuditEntry {
        id: AuditId::new(),
        age_ms,
        action: "management.authenticate".into(),
        actor: "anonymous".into(),
        outcome: AuditOutcome::Denied,
        subject: String::new(),
        project: None,
        token: None,
        request_id: "r2".into(),
        times: 3,
        detail: r#"{"code":"invalid_management_token"}"#.into(),
    }
}

/// Acts of two processes at once, and their denials beside.
async fn busy_world(database: Database) -> (World, HolderId) {
    let world = database.fleet().await;
    world.fleet.put_providers(&[echo()]).await.unwrap();
    let holders = [HolderId::new(), HolderId::new()];
    let acts = (0..16).map(|n| {
        let (world, writer) = (&world, holders[n % 2]);
        async move {
            let act = Act {
                writer,
                ..act("project.create")
            };
            create(world, &format!("p{n}"), &act).await.unwrap();
            if n < 2 {
                for _ in 0..3 {
                    world.fleet.record_denials(writer, &[denial(0), denial(0)]).await.unwrap();
                }
            }
        }
    });
    futures_util::future::join_all(acts).await;
    (world, holders[0])
}

async fn chains_of_processes_that_act_at_once_hold(database: Database) {
    let (world, _) = busy_world(database).await;
    let chains = world.fleet.verify_audit().await.unwrap();
    let mut rows: Vec<_> = chains.iter().map(|chain| (chain.writer.ends_with("/denials"), chain.rows)).collect();
    rows.sort_unstable();
    assert_eq!(rows, [(false, 8), (false, 8), (true, 6), (true, 6)]);
    assert!(chains.iter().all(|chain| chain.first_broken_seq.is_none()), "{chains:?}");
}

async fn a_row_that_was_changed_removed_or_put_in_is_found(database: Database) {
    let (world, holder) = busy_world(database).await;
    let broken = || async {
        let chains = world.fleet.verify_audit().await.unwrap();
        chains
            .into_iter()
            .find(|chain| chain.writer == holder.to_string())
            .unwrap()
            .first_broken_seq
    };
    let change = format!("UPDATE audit SET detail = '{{}}' WHERE writer = '{holder}' AND seq = 6");
    world.database.raw(&change).await;
    assert_eq!(broken().await, Some(6));
    world
        .database
        .raw(&format!("DELETE FROM audit WHERE writer = '{holder}' AND seq = 3"))
        .await;
    assert_eq!(broken().await, Some(3));
    let instead = format!("UPDATE audit SET seq = 3 WHERE writer = '{holder}' AND seq = 8");
    world.database.raw(&instead).await;
    assert_eq!(broken().await, Some(3));
}

async fn denials_that_are_written_again_after_a_lost_answer_stand_there_once(database: Database) {
    let world = database.fleet().await;
    let holder = HolderId::new();
    let batch = [denial(5_000), denial(0)];
    for _ in 0..2 {
        world.fleet.record_denials(holder, &batch).await.unwrap();
    }
    world.fleet.record_denials(holder, &[]).await.unwrap();
    let (records, total) = world.fleet.audit(&AuditFilter::default(), 0, 10).await.unwrap();
    assert_eq!((records.len(), total), (2, 2));
    assert_eq!((records[0].at, records[1].at, records[0].times), (T0, T0.plus_ms(-5_000), 3));
    assert_eq!(world.fleet.audit_record(batch[1].id).await.unwrap().as_ref(), Some(&records[0]));
    assert_eq!(world.fleet.audit_record(AuditId::new()).await.unwrap(), None);
}

async fn rows_are_found_by_what_they_say(database: Database) {
    let world = database.fleet().await;
    world.fleet.put_providers(&[echo()]).await.unwrap();
    let project = create(&world, "100%_sure", &act("project.create")).await.unwrap();
    world.at(HOUR).await;
    world.fleet.record_denials(HolderId::new(), &[denial(0)]).await.unwrap();
    let found = |filter: AuditFilter| {
        let fleet = world.fleet.clone();
        async move { fleet.audit(&filter, 0, 10).await.unwrap().1 }
    };
    let text = |text: &str| Some(text.to_owned());
    let cases = [
        (
            AuditFilter {
                action: text("project.create"),
                ..AuditFilter::default()
            },
            1,
        ),
        (
            AuditFilter {
                actor: text("anonymous"),
                ..AuditFilter::default()
            },
            1,
        ),
        (
            AuditFilter {
                outcome: Some(AuditOutcome::Allowed),
                ..AuditFilter::default()
            },
            1,
        ),
        (
            AuditFilter {
                outcome: Some(AuditOutcome::Failed),
                ..AuditFilter::default()
            },
            0,
        ),
        (
            AuditFilter {
                project: Some(project),
                ..AuditFilter::default()
            },
            1,
        ),
        (
            AuditFilter {
                request_id: text("r2"),
                ..AuditFilter::default()
            },
            1,
        ),
        (
            AuditFilter {
                from: Some(T0.plus_ms(1)),
                ..AuditFilter::default()
            },
            1,
        ),
        (
            AuditFilter {
                to: Some(T0),
                ..AuditFilter::default()
            },
            1,
        ),
        (
            AuditFilter {
                search: text("INVALID_management"),
                ..AuditFilter::default()
            },
            1,
        ),
        (
            AuditFilter {
                search: text("100%_S"),
                ..AuditFilter::default()
            },
            1,
        ),
        (
            AuditFilter {
                search: text("100_"),
                ..AuditFilter::default()
            },
            0,
        ),
        (
            AuditFilter {
                search: text("%"),
                ..AuditFilter::default()
            },
            1,
        ),
        (
            AuditFilter {
                search: text("\\"),
                ..AuditFilter::default()
            },
            0,
        ),
    ];
    for (filter, wanted) in cases {
        assert_eq!(found(filter.clone()).await, wanted, "{filter:?}");
    }
    let (page, total) = world.fleet.audit(&AuditFilter::default(), 1, 1).await.unwrap();
    assert_eq!((page.len(), page[0].action.as_str(), total), (1, "project.create", 2));
    assert_eq!(page[0].subject, format!("project {project}"));
}

on_every_engine!(
    chains_of_processes_that_act_at_once_hold,
    a_row_that_was_changed_removed_or_put_in_is_found,
    denials_that_are_written_again_after_a_lost_answer_stand_there_once,
    rows_are_found_by_what_they_say,
);

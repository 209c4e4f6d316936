//! The ledger on a database: the arithmetic is tested beside it, here is what the rows hold and who may lose what.

use store::{HolderId, LeaseAnswer, LeaseReport, QuotaId, QuotaView, TokenChange};

use crate::harness::{Database, T0, World, on_every_engine};

fn report(quota: QuotaId, spent: u64, amount: u64, want: u64) -> LeaseReport {
    LeaseReport {
        quota,
        spent,
        amount,
        want,
        overrun: 0,
        need: 1,
    }
}

async fn limited(world: &World, name: &str, max: u64) -> QuotaId {
    let project = world.project("team").await;
    world.token(name, project, Some(max)).await;
    world.view(name).await.quota.unwrap().id
}

async fn settle(world: &World, holder: HolderId, report: LeaseReport) -> LeaseAnswer {
    world.fleet.settle(holder, &[report]).await.unwrap()[0]
}

/// (used, reserved, forfeited)
async fn pools(world: &World, name: &str) -> (u64, u64, u64) {
    let QuotaView {
        used, reserved, forfeited, ..
    } = world.view(name).await.quota.unwrap();
    (used, reserved, forfeited)
}

async fn a_block_is_leased_spent_and_given_back(database: Database) {
    let world = database.fleet().await;
    let quota = limited(&world, "app", 160).await;
    let me = HolderId::new();
    let answer = settle(&world, me, report(quota, 0, 0, 100)).await;
    let expected = LeaseAnswer {
        quota,
        amount: 10,
        spent: 0,
        max_units: 160,
        used: 0,
        forfeited: 0,
        wanted: false,
        exhausted: false,
        expires_at: T0.plus_ms(30_000),
        overrun: 0,
    };
    assert_eq!(answer, expected);
    assert_eq!(pools(&world, "app").await, (0, 10, 0));
    settle(&world, me, report(quota, 4, 10, 0)).await;
    settle(&world, me, report(quota, 4, 10, 0)).await;
    assert_eq!(pools(&world, "app").await, (4, 6, 0), "the same report twice counts once");
    settle(&world, me, report(quota, 5, 5, 0)).await;
    assert_eq!(pools(&world, "app").await, (5, 0, 0));
}

async fn several_quotas_settle_in_one_call_and_one_that_is_gone_is_left_out(database: Database) {
    let world = database.fleet().await;
    let (a, b) = (limited(&world, "a", 16).await, limited(&world, "b", 32).await);
    let reports = [report(b, 0, 0, 9), report(QuotaId(999_999), 3, 3, 1), report(a, 0, 0, 9)];
    let answers = world.fleet.settle(HolderId::new(), &reports).await.unwrap();
    assert_eq!(
        answers.iter().map(|answer| (answer.quota, answer.amount)).collect::<Vec<_>>(),
        [(b, 2), (a, 1)]
    );
    assert!(world.fleet.settle(HolderId::new(), &[]).await.unwrap().is_empty());
}

async fn two_reports_on_one_quota_in_one_call_are_done_one_after_the_other(database: Database) {
    let world = database.fleet().await;
    let quota = limited(&world, "app", 32).await;
    let answers = world
        .fleet
        .settle(HolderId::new(), &[report(quota, 0, 0, 9), report(quota, 1, 2, 0)])
        .await
        .unwrap();
    assert_eq!(answers.iter().map(|answer| answer.amount).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(pools(&world, "app").await, (1, 1, 0));
}

async fn an_overdue_rest_is_forfeited_by_whoever_locks_the_quota_next(database: Database) {
    let world = database.fleet().await;
    let quota = limited(&world, "app", 160).await;
    let (dead, alive) = (HolderId::new(), HolderId::new());
    settle(&world, dead, report(quota, 0, 0, 10)).await;
    world.at(29_999).await;
    assert_eq!(settle(&world, alive, report(quota, 0, 0, 1)).await.forfeited, 0);
    world.at(30_000).await;
    let answer = settle(&world, alive, report(quota, 0, 1, 0)).await;
    assert_eq!(answer.forfeited, 10);
    assert_eq!(pools(&world, "app").await, (0, 1, 10));
}

async fn the_sweep_forfeits_what_nobody_settles_and_counts_those_who_lost(database: Database) {
    let world = database.fleet().await;
    let (a, b) = (limited(&world, "a", 160).await, limited(&world, "b", 160).await);
    let me = HolderId::new();
    world.fleet.settle(me, &[report(a, 0, 0, 5), report(b, 0, 0, 5)]).await.unwrap();
    settle(&world, me, report(b, 5, 5, 0)).await;
    assert_eq!(world.fleet.sweep_expired_leases().await.unwrap(), 0);
    world.at(30_000).await;
    assert_eq!(world.fleet.sweep_expired_leases().await.unwrap(), 1, "b was spent to the end");
    assert_eq!(world.fleet.sweep_expired_leases().await.unwrap(), 0);
    assert_eq!((pools(&world, "a").await, pools(&world, "b").await), ((0, 0, 5), (5, 0, 0)));
}

async fn a_paused_holder_that_reports_late_books_out_of_forfeited_and_goes_on(database: Database) {
    let world = database.fleet().await;
    let quota = limited(&world, "app", 160).await;
    let paused = HolderId::new();
    settle(&world, paused, report(quota, 0, 0, 10)).await;
    world.at(60_000).await;
    world.fleet.sweep_expired_leases().await.unwrap();
    let answer = settle(&world, paused, report(quota, 6, 10, 0)).await;
    assert_eq!((answer.amount, answer.forfeited, answer.expires_at), (10, 0, T0.plus_ms(90_000)));
    assert_eq!(pools(&world, "app").await, (6, 4, 0));
}

async fn a_restart_under_a_locked_folder_forfeits_the_old_holders_for_good(database: Database) {
    let world = database.fleet().await;
    let quota = limited(&world, "app", 160).await;
    let (old, me) = (HolderId::new(), HolderId::new());
    settle(&world, old, report(quota, 0, 0, 10)).await;
    settle(&world, me, report(quota, 0, 0, 3)).await;
    assert_eq!(world.fleet.forfeit_other_holders(me).await.unwrap(), 1);
    assert_eq!(world.fleet.forfeit_other_holders(me).await.unwrap(), 0);
    assert_eq!(pools(&world, "app").await, (0, 3, 10));
    let late = settle(&world, old, report(quota, 4, 4, 5)).await;
    assert_eq!(
        (late.amount, late.used, late.forfeited),
        (10, 4, 6),
        "booked, but nothing freed and nothing granted"
    );
    assert_eq!(pools(&world, "app").await, (4, 3, 6));
}

async fn who_waits_is_served_by_who_holds(database: Database) {
    let world = database.fleet().await;
    let quota = limited(&world, "app", 1).await;
    let (rich, poor) = (HolderId::new(), HolderId::new());
    assert_eq!(settle(&world, rich, report(quota, 0, 0, 1)).await.amount, 1);
    let refused = settle(&world, poor, report(quota, 0, 0, 1)).await;
    assert_eq!((refused.amount, refused.exhausted), (0, false));
    assert!(settle(&world, rich, report(quota, 0, 1, 0)).await.wanted);
    settle(&world, rich, report(quota, 0, 0, 0)).await;
    assert_eq!(settle(&world, poor, report(quota, 0, 0, 1)).await.amount, 1);
    let last = settle(&world, poor, report(quota, 1, 1, 1)).await;
    assert_eq!((last.amount, last.used, last.exhausted), (1, 1, true));
}

async fn who_asked_in_vain_and_never_had_anything_leaves_no_row(database: Database) {
    let world = database.fleet().await;
    let quota = limited(&world, "app", 0).await;
    let answer = settle(&world, HolderId::new(), report(quota, 0, 0, 1)).await;
    assert_eq!((answer.amount, answer.exhausted), (0, true));
    assert_eq!(world.database.number("SELECT COUNT(*) FROM leases").await, 0);
}

async fn a_lowered_limit_stops_grants_until_it_is_raised(database: Database) {
    let world = database.fleet().await;
    let quota = limited(&world, "app", 160).await;
    let token = world.view("app").await.id;
    let me = HolderId::new();
    settle(&world, me, report(quota, 0, 0, 10)).await;
    settle(&world, me, report(quota, 8, 10, 0)).await;
    let limit = async |max| {
        world
            .fleet
            .change_token(
                token,
                &TokenChange {
                    max_requests: Some(max),
                    ..Default::default()
                },
            )
            .await
            .unwrap()
    };
    limit(Some(5)).await;
    let answer = settle(&world, me, report(quota, 8, 8, 10)).await;
    assert_eq!((answer.amount, answer.max_units, answer.used, answer.exhausted), (8, 5, 8, true));
    limit(Some(24)).await;
    assert_eq!(settle(&world, me, report(quota, 8, 8, 10)).await.amount, 9);
    limit(None).await;
    let answer = settle(&world, me, report(quota, 9, 9, 10)).await;
    assert_eq!(
        (answer.amount, answer.max_units),
        (19, i64::MAX as u64),
        "no limit: late reports are still booked"
    );
    limit(Some(100)).await;
    assert_eq!(pools(&world, "app").await, (9, 10, 0));
}

on_every_engine!(
    a_block_is_leased_spent_and_given_back,
    several_quotas_settle_in_one_call_and_one_that_is_gone_is_left_out,
    two_reports_on_one_quota_in_one_call_are_done_one_after_the_other,
    an_overdue_rest_is_forfeited_by_whoever_locks_the_quota_next,
    the_sweep_forfeits_what_nobody_settles_and_counts_those_who_lost,
    a_paused_holder_that_reports_late_books_out_of_forfeited_and_goes_on,
    a_restart_under_a_locked_folder_forfeits_the_old_holders_for_good,
    who_waits_is_served_by_who_holds,
    who_asked_in_vain_and_never_had_anything_leaves_no_row,
    a_lowered_limit_stops_grants_until_it_is_raised,
);

//! Quotas of windows: opened once however many ask, under the newest limits, booked beyond what was leased where that is known only afterwards,
//! and gone when nobody can report to them any more.

use store::{GrantedLimit, HolderId, LeaseReport, Limit, LimitAction, LimitScope, LimitUnit, QuotaId, Subject, TokenChange, Window, WindowQuota};

use crate::harness::{Database, T0, World, on_every_engine, project_spec};

const DAY: i64 = 24 * 3_600_000;

fn declared(unit: LimitUnit, window: Window, scope: LimitScope, max_units: u64) -> Limit {
    Limit {
        unit,
        window,
        scope,
        max_units,
        action: LimitAction::Block,
    }
}

fn granted(subject: Subject, unit: LimitUnit, window: Window, max_units: u64, version: i64) -> WindowQuota {
    let limit = GrantedLimit {
        subject,
        unit,
        window,
        max_units,
        action: LimitAction::Block,
        version,
    };
    WindowQuota {
        limit,
        start: window.around(T0).0,
    }
}

fn report(quota: QuotaId, (spent, amount, overrun): (u64, u64, u64), (want, need): (u64, u64)) -> LeaseReport {
    LeaseReport {
        quota,
        spent,
        amount,
        overrun,
        want,
        need,
    }
}

async fn a_token(world: &World) -> Subject {
    let project = world.project("team").await;
    Subject::Token(world.token("app", project, None).await.id)
}

/// (used, reserved, forfeited) of a window's quota.
async fn pools(world: &World, subject: Subject, unit: LimitUnit, window: Window) -> Option<(u64, u64, u64)> {
    let quota = world.fleet.window_quota(subject, unit, window).await.unwrap()?;
    Some((quota.used, quota.reserved, quota.forfeited))
}

async fn a_window_is_opened_once_and_each_window_has_its_own_quota(database: Database) {
    let world = database.fleet().await;
    let token = a_token(&world).await;
    let minute = granted(token, LimitUnit::Requests, Window::Minute, 5, 0);
    let day = granted(token, LimitUnit::TotalTokens, Window::Day, 900, 0);
    let (three, two) = ([minute, day, minute], [day, minute]);
    let (first, again) = tokio::join!(world.fleet.open_quotas(&three), world.fleet.open_quotas(&two));
    let (first, again) = (first.unwrap(), again.unwrap());
    assert_eq!((first[0], first[1]), (first[2], again[0]));
    assert_eq!((first[0], first[0].max_units, first[1].max_units), (again[1], 5, 900));
    let next = WindowQuota {
        start: T0.plus_ms(60_000),
        ..minute
    };
    assert_ne!(world.fleet.open_quotas(&[next]).await.unwrap()[0].id, first[0].id);
    assert!(world.fleet.open_quotas(&[]).await.unwrap().is_empty());
}

async fn of_two_that_open_a_window_the_one_that_knows_newer_limits_has_the_last_word(database: Database) {
    let world = database.fleet().await;
    let token = a_token(&world).await;
    let open = async |max, version| {
        let quota = granted(token, LimitUnit::Requests, Window::Hour, max, version);
        world.fleet.open_quotas(&[quota]).await.unwrap()[0]
    };
    let old = open(100, 1).await;
    let new = open(40, 2).await;
    assert_eq!((new.id, new.max_units), (old.id, 40));
    assert_eq!(open(100, 1).await.max_units, 40, "who is behind changes nothing");
    let answer = world
        .fleet
        .settle(HolderId::new(), &[report(old.id, (0, 0, 0), (1_000, 1_000))])
        .await
        .unwrap();
    assert_eq!((answer[0].amount, answer[0].max_units), (0, 40));
}

async fn a_changed_limit_raises_the_version_that_grants_know_and_a_lower_one_is_a_take_away(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, Some(7)).await;
    let limits = async || world.fleet.load_grant(&token.value.digest()).await.unwrap().unwrap().limits;
    assert!(limits().await.is_empty());

    let own = declared(LimitUnit::Requests, Window::Minute, LimitScope::Token, 10);
    let change = |limits: &[Limit]| TokenChange {
        limits: Some(limits.to_vec()),
        ..TokenChange::default()
    };
    let version = world.fleet.change_token(token.id, &change(&[own])).await.unwrap();
    let view = world.view("app").await;
    assert_eq!((view.limits.as_slice(), view.takeaway_version), ([own].as_slice(), version));
    assert_eq!(
        world.fleet.change_token(token.id, &change(&[own])).await.unwrap(),
        version,
        "nothing to write"
    );
    let first = limits().await;
    assert_eq!((first.len(), first[0].subject, first[0].max_units), (1, Subject::Token(token.id), 10));

    let mut spec = project_spec("team");
    let shared = declared(LimitUnit::Cost, Window::Month, LimitScope::Project, 500);
    spec.limits = vec![declared(LimitUnit::Requests, Window::Minute, LimitScope::Token, 4), shared];
    let (_, version) = world.fleet.put_project(&spec).await.unwrap();
    let stored = world.fleet.project_by_uid(&spec.owner.uid).await.unwrap().unwrap();
    assert_eq!((stored.limits, stored.takeaway_version), (spec.limits.clone(), version));
    let both = limits().await;
    assert_eq!(
        (both.len(), both[0].max_units, both[1].subject, both[1].max_units),
        (2, 4, Subject::Project(project), 500)
    );
    assert!(both[0].version > first[0].version, "either change raises it");

    spec.limits.clear();
    world.fleet.put_project(&spec).await.unwrap();
    let raised = limits().await;
    assert_eq!((raised.len(), raised[0].max_units), (1, 10));
    assert!(raised[0].version > both[0].version);
    let stored = world.fleet.project_by_uid(&spec.owner.uid).await.unwrap().unwrap();
    assert_eq!(stored.takeaway_version, version, "more room takes nothing away");
}

async fn what_one_use_needs_is_granted_whole_or_not_at_all(database: Database) {
    let world = database.fleet().await;
    let token = a_token(&world).await;
    let quota = granted(token, LimitUnit::TotalTokens, Window::Hour, 1_600, 0);
    let id = world.fleet.open_quotas(&[quota]).await.unwrap()[0].id;
    let (me, other) = (HolderId::new(), HolderId::new());
    let settle = async |holder, report| world.fleet.settle(holder, &[report]).await.unwrap()[0];
    assert_eq!(settle(me, report(id, (0, 0, 0), (700, 700))).await.amount, 700, "more than a sixteenth");
    assert_eq!(settle(other, report(id, (0, 0, 0), (5_000, 901))).await.amount, 0);
    assert_eq!(settle(other, report(id, (0, 0, 0), (5_000, 900))).await.amount, 900);
    assert_eq!(pools(&world, token, LimitUnit::TotalTokens, Window::Hour).await, Some((0, 1_600, 0)));
}

async fn an_overrun_is_booked_once_takes_nothing_from_what_is_out_and_blocks_the_next(database: Database) {
    let world = database.fleet().await;
    let token = a_token(&world).await;
    let quota = granted(token, LimitUnit::TotalTokens, Window::Hour, 100, 0);
    let id = world.fleet.open_quotas(&[quota]).await.unwrap()[0].id;
    let me = HolderId::new();
    let settle = async |report| world.fleet.settle(me, &[report]).await.unwrap()[0];
    settle(report(id, (0, 0, 0), (40, 40))).await;
    // Of 40, 10 were taken and became 90; 30 are still out.
    for _ in 0..2 {
        let answer = settle(report(id, (10, 40, 80), (0, 0))).await;
        assert_eq!((answer.used, answer.spent, answer.overrun, answer.amount), (90, 10, 80, 40));
        assert_eq!(pools(&world, token, LimitUnit::TotalTokens, Window::Hour).await, Some((90, 30, 0)));
    }
    assert_eq!(settle(report(id, (10, 40, 80), (1, 1))).await.amount, 40, "nothing is free");
    let answer = settle(report(id, (10, 10, 80), (20, 20))).await;
    assert_eq!((answer.amount, answer.exhausted), (10, false), "20 do not fit");
    assert_eq!(settle(report(id, (10, 10, 80), (10, 10))).await.amount, 20);
    // Of something that was never leased at all, as of a budget that only warns.
    let warns = granted(token, LimitUnit::Cost, Window::Lifetime, 5, 0);
    let id = world.fleet.open_quotas(&[warns]).await.unwrap()[0].id;
    settle(report(id, (0, 0, 7), (0, 0))).await;
    let answer = settle(report(id, (0, 0, 9), (0, 0))).await;
    assert_eq!((answer.used, answer.exhausted), (9, true));
}

async fn places_of_a_dead_holder_are_free_again_when_none_of_its_requests_can_run(database: Database) {
    let world = database.fleet().await;
    let token = a_token(&world).await;
    let quota = granted(token, LimitUnit::InFlight, Window::Lifetime, 4, 0);
    let id = world.fleet.open_quotas(&[quota]).await.unwrap()[0].id;
    let (me, dead) = (HolderId::new(), HolderId::new());
    let look = async || pools(&world, token, LimitUnit::InFlight, Window::Lifetime).await.unwrap();
    world.fleet.settle(dead, &[report(id, (0, 0, 0), (3, 3))]).await.unwrap();
    world.at(30_000).await;
    assert_eq!(world.fleet.sweep_expired_leases().await.unwrap(), 1);
    assert_eq!((world.fleet.release_slots_of_the_dead().await.unwrap(), look().await), (0, (0, 0, 3)));
    world.at(30_000 + 600_000).await;
    assert_eq!((world.fleet.release_slots_of_the_dead().await.unwrap(), look().await), (1, (0, 0, 0)));
    // One that was only cut off for so long is believed to have none.
    let answer = world.fleet.settle(dead, &[report(id, (0, 3, 0), (0, 0))]).await.unwrap();
    assert_eq!((answer[0].amount, look().await), (0, (0, 0, 0)));
    // A locked data directory proves the others dead at once.
    world.fleet.settle(dead, &[report(id, (0, 0, 0), (2, 2))]).await.unwrap();
    world.fleet.forfeit_other_holders(me).await.unwrap();
    assert_eq!(look().await, (0, 0, 0));
}

async fn windows_that_ended_long_ago_are_removed_and_a_late_report_of_them_is_passed_over(database: Database) {
    let world = database.fleet().await;
    let token = a_token(&world).await;
    let quotas = [Window::Minute, Window::Hour, Window::Month, Window::Lifetime].map(|window| granted(token, LimitUnit::Requests, window, 5, 0));
    let ids: Vec<_> = world.fleet.open_quotas(&quotas).await.unwrap().iter().map(|record| record.id).collect();
    let me = HolderId::new();
    let settle = async || {
        let reports: Vec<_> = ids.iter().map(|id| report(*id, (0, 0, 0), (1, 1))).collect();
        let answers = world.fleet.settle(me, &reports).await.unwrap();
        answers.iter().map(|answer| answer.quota).collect::<Vec<_>>()
    };
    assert_eq!(settle().await, ids);
    assert_eq!(world.fleet.purge_windows().await.unwrap(), 0);
    world.at(3 * 3_600_000).await;
    assert_eq!((world.fleet.purge_windows().await.unwrap(), settle().await), (1, ids[1..].to_vec()));
    world.at(3 * DAY).await;
    assert_eq!((world.fleet.purge_windows().await.unwrap(), settle().await), (1, ids[2..].to_vec()));
    world.at(500 * DAY).await;
    assert_eq!((world.fleet.purge_windows().await.unwrap(), settle().await), (1, ids[3..].to_vec()));
}

async fn the_schema_goes_back_and_forth_and_keeps_what_the_older_one_knows(database: Database) {
    let world = database.fleet().await;
    let project = world.project("team").await;
    let token = world.token("app", project, Some(160)).await;
    let lifetime = world.view("app").await.quota.unwrap().id;
    let window = granted(Subject::Token(token.id), LimitUnit::Requests, Window::Week, 5, 0);
    world.fleet.open_quotas(&[window]).await.unwrap();
    let me = HolderId::new();
    world.fleet.settle(me, &[report(lifetime, (0, 0, 0), (10, 1))]).await.unwrap();
    let newest = store::SchemaInfo::NEWEST;
    assert_eq!(world.store.migrate_down(5).await.unwrap().unwrap().version, 5);
    assert_eq!(world.database.number("SELECT COUNT(*) FROM quotas").await, 1);
    assert_eq!(world.store.migrate().await.unwrap().version, newest);
    let answer = world.fleet.settle(me, &[report(lifetime, (4, 10, 0), (0, 0))]).await.unwrap();
    assert_eq!((answer[0].used, answer[0].amount), (4, 10));
    assert_eq!(world.fleet.open_quotas(&[window]).await.unwrap()[0].max_units, 5);
}

on_every_engine!(
    a_window_is_opened_once_and_each_window_has_its_own_quota,
    of_two_that_open_a_window_the_one_that_knows_newer_limits_has_the_last_word,
    a_changed_limit_raises_the_version_that_grants_know_and_a_lower_one_is_a_take_away,
    what_one_use_needs_is_granted_whole_or_not_at_all,
    an_overrun_is_booked_once_takes_nothing_from_what_is_out_and_blocks_the_next,
    places_of_a_dead_holder_are_free_again_when_none_of_its_requests_can_run,
    windows_that_ended_long_ago_are_removed_and_a_late_report_of_them_is_passed_over,
    the_schema_goes_back_and_forth_and_keeps_what_the_older_one_knows,
);

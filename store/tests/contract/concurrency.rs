//! Many at once, through more than one store on one database, as several processes would.

use std::sync::Arc;

use store::{FeedVersion, HolderId, KeyRing, LeaseReport, QuotaId, SealingKey};

use crate::harness::{Database, claim, on_every_engine, project_spec};

/// Spends all that it is granted until nothing will ever come again; every third answer is lost, as if a connection broke.
async fn spend(fleet: &store::Fleet, quota: QuotaId) -> u64 {
    let holder = HolderId::new();
    let (mut spent, mut amount, mut turn) = (0, 0, 0);
    loop {
        turn += 1;
        let answer = fleet
            .settle(
                holder,
                &[LeaseReport {
                    quota,
                    spent,
                    amount,
                    want: 7,
                    overrun: 0,
                    need: 1,
                }],
            )
            .await
            .unwrap()[0];
        if answer.exhausted {
            assert_eq!(answer.amount, spent, "exhausted means that nobody holds anything");
            return spent;
        }
        if turn % 3 == 0 {
            continue; // The answer is lost: the block was closed at `amount`, so what came on top goes back.
        }
        // While another waits, one request is served and the rest of the block goes back.
        spent = if answer.wanted { answer.amount.min(spent + 1) } else { answer.amount };
        amount = spent;
    }
}

async fn eight_tasks_on_two_stores_admit_exactly_the_limit(database: Database) {
    let keys = SealingKey::generate();
    let text = keys.to_base64();
    let reopened = SealingKey::from_base64(secrecy::ExposeSecret::expose_secret(&text)).unwrap();
    let stores = [database.open(KeyRing::single(keys)).await, database.open(KeyRing::single(reopened)).await];
    stores[0].migrate().await.unwrap();
    let mut fleets = Vec::new();
    for store in &stores {
        fleets.push(store.claim(&claim("fleet")).await.unwrap());
    }
    let (project, _) = fleets[0].put_project(&project_spec("team")).await.unwrap();
    let value = store::TokenValue::mint();
    let pending = store::PendingRevision {
        max_requests: Some(500),
        ..crate::harness::pending("app", project, 1, &value)
    };
    fleets[0].insert_pending(&pending).await.unwrap();
    let quota = fleets[1].tokens().await.unwrap()[0].quota.unwrap().id;

    let tasks: Vec<_> = (0..8)
        .map(|i| {
            let fleet = fleets[i % 2].clone();
            tokio::spawn(async move { spend(&fleet, quota).await })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        admitted += task.await.unwrap();
    }
    let end = fleets[0].tokens().await.unwrap()[0].quota.unwrap();
    assert_eq!((admitted, end.used, end.reserved, end.forfeited), (500, 500, 0, 0));
}

async fn versions_come_without_gaps_and_in_the_order_of_commits(database: Database) {
    let world = Arc::new(database.fleet().await);
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let mut last = FeedVersion(0);
                for i in 0..10 {
                    let (_, version) = world.fleet.put_project(&project_spec(&format!("team-{task}-{i}"))).await.unwrap();
                    assert!(version > last);
                    last = version;
                    // Whatever is visible is complete: no version below the head is still to come.
                    let changes = world.fleet.changes_after(FeedVersion(0)).await.unwrap().unwrap();
                    assert!(changes.iter().enumerate().all(|(i, change)| change.version.0 == i as i64 + 1));
                    assert!(changes.len() as i64 >= version.0);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(world.fleet.feed_head().await.unwrap().version, FeedVersion(80));
}

async fn nothing_of_a_project_that_is_deleted_meanwhile_stays_alive(database: Database) {
    let world = Arc::new(database.fleet().await);
    for round in 0..15 {
        let project = world.fleet.put_project(&project_spec(&format!("team-{round}"))).await.unwrap().0;
        let old = world.token(&format!("old-{round}"), project, Some(5)).await;
        let next = store::TokenValue::mint();
        let rotation = crate::harness::pending(&old.name, project, 2, &next);
        world.fleet.insert_pending(&rotation).await.unwrap();
        let value = store::TokenValue::mint();
        let fresh = crate::harness::pending(&format!("new-{round}"), project, 1, &value);

        let deleting = tokio::spawn({
            let world = Arc::clone(&world);
            async move { world.fleet.delete_project(project).await.unwrap() }
        });
        let activating = tokio::spawn({
            let (world, digest) = (Arc::clone(&world), next.digest());
            async move { world.fleet.activate(old.id, &digest, 60_000).await }
        });
        let issued = world.fleet.insert_pending(&fresh).await;
        deleting.await.unwrap();
        activating.await.unwrap().unwrap();
        assert!(
            matches!(issued, Ok(_) | Err(store::StoreError::NotFound { .. })),
            "issued before the end, or refused after it: {issued:?}"
        );
        let live = "SELECT COUNT(*) FROM token_revisions WHERE state <> 'Ended'";
        assert_eq!(world.database.number(live).await, 0, "round {round}");
    }
}

async fn of_two_that_put_the_providers_at_once_one_has_the_last_word(database: Database) {
    let world = database.fleet().await;
    let set = |side: &str| -> Vec<store::ProviderSpec> {
        let provider = |n| store::ProviderSpec {
            name: format!("{side}-{n}"),
            ..crate::harness::echo()
        };
        (0..5).map(provider).collect()
    };
    for _ in 0..10 {
        let (a, b) = (set("a"), set("b"));
        let (left, right) = tokio::join!(world.fleet.put_providers(&a), world.fleet.put_providers(&b));
        let last = if left.unwrap() > right.unwrap() { a } else { b };
        assert_eq!(world.fleet.providers().await.unwrap(), last);
    }
}

async fn many_that_settle_on_one_quota_all_get_their_turn(database: Database) {
    let world = Arc::new(database.fleet().await);
    let project = world.project("team").await;
    world.token("app", project, Some(10_000)).await;
    let quota = world.view("app").await.quota.unwrap().id;
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let (holder, mut amount) = (HolderId::new(), 0);
                for spent in 0..5_u64 {
                    let report = LeaseReport {
                        quota,
                        spent,
                        amount,
                        want: 2,
                        overrun: 0,
                        need: 1,
                    };
                    amount = world.fleet.settle(holder, &[report]).await.unwrap()[0].amount;
                }
                (5 - 1, amount)
            })
        })
        .collect();
    let (mut spent, mut granted) = (0, 0);
    for task in tasks {
        let (of_one, amount) = task.await.unwrap();
        (spent, granted) = (spent + of_one, granted + amount);
    }
    let end = world.view("app").await.quota.unwrap();
    assert_eq!((end.used, end.used + end.reserved), (spent, granted));
}

async fn a_call_that_is_abandoned_half_way_leaves_nothing_and_blocks_nobody(database: Database) {
    let world = database.fleet().await;
    for i in 0..200 {
        let name = format!("team-{i}");
        let spec = project_spec(&name);
        let abandoned = world.fleet.put_project(&spec);
        // Polled a different number of times each round, so that it is dropped at every await in turn.
        let mut polls = i % 40;
        tokio::pin!(abandoned);
        std::future::poll_fn(|cx| {
            if polls == 0 {
                return std::task::Poll::Ready(());
            }
            polls -= 1;
            match abandoned.as_mut().poll(cx) {
                std::task::Poll::Ready(_) => std::task::Poll::Ready(()),
                std::task::Poll::Pending => std::task::Poll::Pending,
            }
        })
        .await;
    }
    let head = world.fleet.put_project(&project_spec("last")).await.unwrap().1;
    let projects = world.fleet.projects().await.unwrap();
    assert_eq!(projects.len() as i64, head.0, "each project stands with its version, or neither does");
    assert!(projects.iter().all(|project| project.credentials.len() == 1), "never half a project");
}

on_every_engine!(
    eight_tasks_on_two_stores_admit_exactly_the_limit,
    versions_come_without_gaps_and_in_the_order_of_commits,
    nothing_of_a_project_that_is_deleted_meanwhile_stays_alive,
    of_two_that_put_the_providers_at_once_one_has_the_last_word,
    many_that_settle_on_one_quota_all_get_their_turn,
    a_call_that_is_abandoned_half_way_leaves_nothing_and_blocks_nobody,
);

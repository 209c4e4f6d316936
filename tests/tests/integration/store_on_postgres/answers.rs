//! Answers of commits that are lost, and how many statements there are to lose one of.

use super::*;

/// A state as it is bound: its length and its text.
const BOUND_LIVE: &[u8] = b"\0\0\0\x04Live";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_counts_once() {
    let database = Database::create();
    let wire = Wire::to(database.server_address());
    let store = open(&format!("{}?sslmode=disable", database.url_through(wire.address())));
    let fleet = fleet_of(&store).await;
    let quota = limited(&fleet, "app", 1_000).await;
    until("it hears", async || store.wakes_by_notification()).await;
    let me = HolderId::new();

    let mut amount = 0;
    for spent in 0..10 {
        let report = [LeaseReport {
            quota,
            spent,
            amount,
            want: 20,
            overrun: 0,
            need: 1,
        }];
        wire.cut_answers_of(BOUND_LIVE, 1);
        let lost = fleet.settle(me, &report).await;
        assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
        amount = fleet.settle(me, &report).await.unwrap()[0].amount;
        assert!(amount > spent);
        let view = fleet.token_by_uid(&owner("app").uid).await.unwrap().unwrap().quota.unwrap();
        assert_eq!((view.used, view.used + view.reserved, view.forfeited), (spent, amount, 0));
    }

    for seq in 1..=10 {
        let batch = [UsageDelta {
            model: "needle".into(),
            requests: 3,
            ..UsageDelta::default()
        }];
        wire.cut_answers_of(b"needle", 1);
        let lost = fleet.add_usage(me, seq, &batch).await;
        assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
        fleet.add_usage(me, seq, &batch).await.unwrap();
        assert_eq!(fleet.usage().await.unwrap()[0].requests, 3 * seq);
    }
    assert_eq!(wire.cut(), 20);
}

/// Runs a call whose COMMIT is cut off from its answer, and runs it again.
async fn twice<T: std::fmt::Debug>(wire: &Wire, mut call: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    wire.cut_commits(1);
    let lost = call().await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    call().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_whose_commit_is_not_answered_may_be_written_again() {
    let database = Database::create();
    let wire = Wire::to(database.server_address());
    let store = open(&format!("{}?sslmode=disable", database.url_through(wire.address())));
    twice(&wire, async || store.migrate().await).await;
    let fleet = twice(&wire, async || store.claim(&claim()).await).await;
    until("it hears", async || store.wakes_by_notification()).await;

    assert_eq!(twice(&wire, async || fleet.put_providers(&providers("one")).await).await, FeedVersion(1));
    let (team, version) = twice(&wire, async || fleet.put_project(&project("team")).await).await;
    assert_eq!(version, FeedVersion(2));
    let value = TokenValue::mint();
    let pending = PendingRevision {
        owner: owner("app"),
        project: team,
        secret_name: "app".into(),
        revision: 1,
        digest: value.digest(),
        prefix: value.prefix().into(),
        ttl_ms: 3_600_000,
        period: 1,
        max_requests: Some(5),
        rotation_trigger: None,
        limits: Vec::new(),
    };
    let (token, version) = twice(&wire, async || fleet.insert_pending(&pending).await).await;
    assert_eq!(version, FeedVersion(4), "the same revision, noted twice");
    twice(&wire, async || fleet.begin_secret_write(token, &value.digest()).await).await;
    assert_eq!(
        twice(&wire, async || fleet.activate(token, &value.digest(), 0).await).await,
        (false, FeedVersion(5))
    );
    let change = store::TokenChange {
        max_requests: Some(Some(7)),
        ..store::TokenChange::default()
    };
    assert_eq!(twice(&wire, async || fleet.change_token(token, &change).await).await, FeedVersion(6));
    let view = fleet.token_by_uid(&owner("app").uid).await.unwrap().unwrap();
    assert_eq!((view.revisions.len(), view.quota.unwrap().max_units), (1, 7));
    assert_eq!(
        twice(&wire, async || fleet.revoke_token(token, store::RevokedBy::Spec).await).await,
        FeedVersion(7)
    );
    assert_eq!(twice(&wire, async || fleet.delete_project(team).await).await, FeedVersion(8));
    let me = HolderId::new();
    twice(&wire, async || fleet.heartbeat(me, FeedVersion(8), 5_000).await).await;
    assert_eq!(fleet.replicas().await.unwrap().len(), 1);
    twice(&wire, async || fleet.remove_replica(me).await).await;
    assert_eq!(
        fleet.changes_after(FeedVersion(0)).await.unwrap().unwrap().len(),
        8,
        "a version each, and none missing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_takes_two_statements_and_usage_one_however_much_there_is() {
    let database = Database::create();
    let store = open(&database.url());
    let fleet = fleet_of(&store).await;
    let mut quotas = Vec::new();
    for n in 0..20 {
        quotas.push(limited(&fleet, &format!("app-{n}"), 1_000_000).await);
    }
    until("it hears", async || store.wakes_by_notification()).await;
    let me = HolderId::new();
    // But for what a connection sets when it is made.
    let counted = || database.statement_counts().into_iter().filter(|(text, _)| !text.contains("set_config"));
    let calls = || counted().map(|(_, calls)| calls).sum::<i64>();
    let report = |quota: QuotaId, spent| LeaseReport {
        quota,
        spent,
        amount: spent,
        want: 200,
        overrun: 0,
        need: 1,
    };

    fleet.settle(me, &[report(quotas[0], 0)]).await.unwrap();
    database.reset_statement_counts();
    let before = calls();
    for spent in 1..=100 {
        fleet.settle(me, &[report(quotas[0], spent)]).await.unwrap();
    }
    let of_one = calls() - before;
    let all: Vec<_> = quotas.iter().map(|quota| report(*quota, 101)).collect();
    fleet.settle(me, &all).await.unwrap();
    let of_twenty = calls() - before - of_one;
    let deltas: Vec<_> = (0..50)
        .map(|n| UsageDelta {
            model: format!("m{n}"),
            ..UsageDelta::default()
        })
        .collect();
    fleet.add_usage(me, 2, &deltas).await.unwrap();
    let of_usage = calls() - before - of_one - of_twenty;
    eprintln!("statements: {of_one} for 100 settlements of one quota, {of_twenty} for one of 20 quotas, {of_usage} for 50 rows of usage");
    assert_eq!((of_one, of_twenty, of_usage), (200, 2, 1), "{:#?}", database.statement_counts());
}

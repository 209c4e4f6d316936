//! The store on a PostgreSQL that goes away, breaks, refuses, or stands behind a pooler: what callers are told, and that all of it heals alone.

use std::time::{Duration, Instant};

use store::{
    Claim, FeedVersion, Fleet, HolderId, KeyRing, LeaseReport, Owner, PendingRevision, PostgresOptions, ProjectSpec, ProjectState, ProviderApi,
    ProviderAuth, ProviderSpec, QuotaId, ResourceUid, SealingKey, Store, StoreError, TokenValue, UsageDelta,
};
use testkit::mount::Tmpfs;
use testkit::postgres::cluster::Cluster;
use testkit::postgres::pooler::Pooler;
use testkit::postgres::wire::Wire;
use testkit::postgres::{Database, execute_on};
use testkit::wait::SOON;

mod answers;
mod refusals;

/// Short deadlines, so that what hangs is found out soon.
fn hasty() -> PostgresOptions {
    PostgresOptions {
        acquire_timeout: Duration::from_secs(1),
        statement_timeout: Duration::from_secs(1),
        ..PostgresOptions::default()
    }
}

fn open(url: &str) -> Store {
    open_with(url, SealingKey::generate())
}

fn open_with(url: &str, key: SealingKey) -> Store {
    Store::open_postgres(url, KeyRing::single(key), hasty()).unwrap()
}

fn same(key: &SealingKey) -> SealingKey {
    SealingKey::from_base64(secrecy::ExposeSecret::expose_secret(&key.to_base64())).unwrap()
}

fn claim() -> Claim {
    Claim {
        cluster: "server".into(),
        namespace: "-".into(),
        name: "-".into(),
    }
}

async fn fleet_of(store: &Store) -> Fleet {
    store.migrate().await.unwrap();
    store.claim(&claim()).await.unwrap()
}

fn owner(name: &str) -> Owner {
    Owner {
        cluster: "server".into(),
        uid: ResourceUid::new(format!("uid-{name}")),
        namespace: "default".into(),
        name: name.into(),
    }
}

fn providers(name: &str) -> [ProviderSpec; 1] {
    [ProviderSpec {
        name: name.into(),
        api: ProviderApi::Echo,
        base_url: None,
        auth: ProviderAuth::None,
        prices: "[]".into(),
    }]
}

fn project(name: &str) -> ProjectSpec {
    ProjectSpec {
        owner: owner(name),
        state: ProjectState::Active,
        credentials: Vec::new(),
        limits: Vec::new(),
    }
}

async fn limited(fleet: &Fleet, name: &str, max: u64) -> QuotaId {
    let (project, _) = fleet.put_project(&project("team")).await.unwrap();
    let value = TokenValue::mint();
    let pending = PendingRevision {
        owner: owner(name),
        project,
        secret_name: name.into(),
        revision: 1,
        digest: value.digest(),
        prefix: value.prefix().into(),
        ttl_ms: 3_600_000,
        period: 1,
        max_requests: Some(max),
        rotation_trigger: None,
        limits: Vec::new(),
    };
    fleet.insert_pending(&pending).await.unwrap();
    fleet.token_by_uid(&owner(name).uid).await.unwrap().unwrap().quota.unwrap().id
}

/// Waits for an asynchronous condition.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_absent_at_the_start_is_named_and_found_once_it_is_there() {
    let database = Database::create();
    let wire = Wire::to(database.server_address());
    wire.refuse(true);
    let url = database.url_through(wire.address()).replacen("postgres@", "postgres:hunter2@", 1);
    let store = open(&url);
    let begun = Instant::now();
    let absent = store.migrate().await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(3));
    let said = absent.to_string();
    assert!(matches!(absent, StoreError::Unavailable(_)), "{absent:?}");
    assert!(said.contains(&format!("{}/{}", wire.address(), database.name())), "{said}");
    assert!(
        !said.contains("hunter2") && !format!("{absent:?}{store:?}").contains("hunter2") && !said.contains('\n'),
        "{said}"
    );

    // Of a port that nobody listens on, the same.
    let dead = testkit::dead_end::DeadEnd::refusing();
    let nobody = open(&database.url_through(dead.addr())).migrate().await.unwrap_err();
    assert!(nobody.to_string().contains("is PostgreSQL running there"), "{nobody}");

    let store = open(&database.url_through(wire.address()));
    assert!(store.migrate().await.is_err());
    wire.refuse(false);
    let fleet = fleet_of(&store).await;
    fleet.put_providers(&providers("one")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_only_calls_in_flight_fail_and_notifications_come_again() {
    let database = Database::create();
    let store = open(&database.url());
    let fleet = fleet_of(&store).await;
    let quota = limited(&fleet, "app", 1_000_000).await;
    let me = HolderId::new();
    let report = LeaseReport {
        quota,
        spent: 0,
        amount: 0,
        want: 1,
        overrun: 0,
        need: 1,
    };
    until("it hears", async || store.wakes_by_notification()).await;
    for round in 0..5 {
        // Many connections, all idle when their sessions end.
        let calls = (0..10).map(|_| {
            let fleet = fleet.clone();
            tokio::spawn(async move { fleet.feed_head().await })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap().unwrap();
        }
        database.terminate_backends();
        for _ in 0..20 {
            fleet.feed_head().await.unwrap();
            fleet.settle(me, &[report]).await.unwrap();
        }
        fleet.put_providers(&providers(&format!("p{round}"))).await.unwrap();
    }
    until("it hears again", async || store.wakes_by_notification()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_flight_when_its_session_ends_is_unavailable_and_leaves_nothing() {
    let database = Database::create();
    let store = open(&database.url());
    let fleet = fleet_of(&store).await;
    let quota = limited(&fleet, "app", 100).await;
    // Another transaction holds the quota, so the settlement waits for it.
    let url = database.url();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let blocker = tokio::spawn(async move {
        use sqlx::{ConnectOptions as _, Connection as _};
        let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql("BEGIN; UPDATE quotas SET used = used")
            .execute(&mut connection)
            .await
            .unwrap();
        locked.send(()).unwrap();
        let _ = released.await;
        connection.close().await.unwrap();
    });
    is_locked.await.unwrap();
    let waiting = tokio::spawn({
        let fleet = fleet.clone();
        async move {
            fleet
                .settle(
                    HolderId::new(),
                    &[LeaseReport {
                        quota,
                        spent: 0,
                        amount: 0,
                        want: 9,
                        overrun: 0,
                        need: 1,
                    }],
                )
                .await
        }
    });
    let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let watched = &database;
    let begun = Instant::now();
    while !waiting.is_finished() && tokio::task::block_in_place(|| watched.number(waits)) == 0 && begun.elapsed() < SOON {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'");
    let failed = waiting.await.unwrap();
    drop(release);
    blocker.await.unwrap();
    match failed {
        Err(StoreError::Unavailable(_)) => {
            assert_eq!(database.number("SELECT SUM(reserved) FROM quotas"), 0);
        }
        other => panic!("{other:?}"),
    }
    fleet
        .settle(
            HolderId::new(),
            &[LeaseReport {
                quota,
                spent: 0,
                amount: 0,
                want: 9,
                overrun: 0,
                need: 1,
            }],
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_falls_silent_costs_each_call_a_bounded_time_and_is_found_again() {
    let database = Database::create();
    let wire = Wire::to(database.server_address());
    let store = open(&database.url_through(wire.address()));
    let fleet = fleet_of(&store).await;
    fleet.put_providers(&providers("before")).await.unwrap();
    wire.silence(true);
    for _ in 0..3 {
        let begun = Instant::now();
        let silent = fleet.put_providers(&providers("during")).await;
        assert!(matches!(silent, Err(StoreError::Unavailable(_))), "{silent:?}");
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    }
    wire.silence(false);
    until("it writes again", async || fleet.put_providers(&providers("after")).await.is_ok()).await;
    assert_eq!(fleet.providers().await.unwrap()[0].name, "after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_fleets_share_a_database_in_schemas_of_their_own_and_do_not_wake_each_other() {
    let database = Database::create();
    database.execute("CREATE SCHEMA a; CREATE SCHEMA b");
    let at = |schema: &str| open(&format!("{}?options=-csearch_path%3D{schema}", database.url()));
    let (a, b) = (at("a"), at("b"));
    let (left, right) = tokio::join!(a.migrate(), b.migrate());
    assert_eq!(left.unwrap(), right.unwrap());
    let (of_a, of_b) = (fleet_of(&a).await, fleet_of(&b).await);
    assert_ne!(of_a.id(), of_b.id());
    until("both hear", async || a.wakes_by_notification() && b.wakes_by_notification()).await;
    let (mut heard_a, mut heard_b) = (of_a.feed_wakeups(), of_b.feed_wakeups());
    of_a.put_providers(&providers("one")).await.unwrap();
    heard_a.wait_for(|version| *version == FeedVersion(1)).await.unwrap();
    of_b.put_providers(&providers("one")).await.unwrap();
    of_b.put_providers(&providers("two")).await.unwrap();
    heard_b.wait_for(|version| *version == FeedVersion(2)).await.unwrap();
    assert_eq!(*heard_a.borrow_and_update(), FeedVersion(1));
    assert_eq!(of_b.providers().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_wakes_the_followers_of_other_processes() {
    let database = Database::create();
    let key = SealingKey::generate();
    let (writing, following) = (open_with(&database.url(), same(&key)), open_with(&database.url(), key));
    let writer = fleet_of(&writing).await;
    let mut wakeups = following.claim(&claim()).await.unwrap().feed_wakeups();
    until("it hears", async || following.wakes_by_notification()).await;
    let mut slowest = Duration::ZERO;
    for n in 1..=50 {
        let begun = Instant::now();
        let version = writer.put_providers(&providers(&format!("p{n}"))).await.unwrap();
        tokio::time::timeout(SOON, wakeups.wait_for(|seen| *seen >= version))
            .await
            .unwrap()
            .unwrap();
        slowest = slowest.max(begun.elapsed());
    }
    eprintln!("commit and wake-up in another store: at most {slowest:?} of 50");
    assert!(slowest < Duration::from_secs(1), "a poll would have been as good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn behind_a_transaction_pooler_everything_works_and_changes_are_polled() {
    let database = Database::create();
    let pooler = Pooler::start(&database, 3);
    let url = database.url_through(pooler.address());
    let key = SealingKey::generate();
    let store = open_with(&url, same(&key));
    let fleet = fleet_of(&store).await;
    let others: Vec<_> = (0..3).map(|_| open_with(&url, same(&key))).collect();
    let quota = limited(&fleet, "app", 2_000).await;
    let mut tasks = Vec::new();
    for store in &others {
        let of_other = store.claim(&claim()).await.unwrap();
        for _ in 0..4 {
            let fleet = of_other.clone();
            tasks.push(tokio::spawn(async move { spend(&fleet, quota).await }));
        }
    }
    let mut admitted = 0;
    for task in tasks {
        admitted += task.await.unwrap();
    }
    let end = fleet.token_by_uid(&owner("app").uid).await.unwrap().unwrap().quota.unwrap();
    assert_eq!((admitted, end.used, end.reserved, end.forfeited), (2_000, 2_000, 0, 0));
    let version = fleet.put_providers(&providers("one")).await.unwrap();
    assert_eq!(others[0].claim(&claim()).await.unwrap().feed_head().await.unwrap().version, version);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(!store.wakes_by_notification(), "a pooler passes no notifications on");
    fleet.put_providers(&providers("two")).await.unwrap();
}

/// Spends all that it is granted until nothing will ever come again.
async fn spend(fleet: &Fleet, quota: QuotaId) -> u64 {
    let holder = HolderId::new();
    let mut spent = 0;
    loop {
        let report = LeaseReport {
            quota,
            spent,
            amount: spent,
            want: 50,
            overrun: 0,
            need: 1,
        };
        let answer = match fleet.settle(holder, &[report]).await {
            Ok(answers) => answers[0],
            Err(StoreError::Unavailable(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        if answer.exhausted {
            return spent;
        }
        spent = answer.amount;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_loses_nothing_that_was_answered() {
    let mut cluster = Cluster::with_settings(&["fsync=on", "synchronous_commit=off"]).unwrap();
    let database = Database::create_on(&cluster.url());
    let store = open(&database.url());
    let fleet = fleet_of(&store).await;
    let quota = limited(&fleet, "app", 1_000_000).await;
    let me = HolderId::new();
    let (mut amount, mut spent) = (0, 0);
    for _ in 0..30 {
        let answers = fleet
            .settle(
                me,
                &[LeaseReport {
                    quota,
                    spent,
                    amount,
                    want: 10,
                    overrun: 0,
                    need: 1,
                }],
            )
            .await
            .unwrap();
        (amount, spent) = (answers[0].amount, answers[0].amount);
    }
    fleet
        .settle(
            me,
            &[LeaseReport {
                quota,
                spent,
                amount,
                want: 0,
                overrun: 0,
                need: 1,
            }],
        )
        .await
        .unwrap();
    cluster.stop();
    let begun = Instant::now();
    let gone = fleet.feed_head().await;
    assert!(matches!(gone, Err(StoreError::Unavailable(_))), "{gone:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    cluster.restart().unwrap();
    until("it is read again", async || fleet.feed_head().await.is_ok()).await;
    let view = fleet.token_by_uid(&owner("app").uid).await.unwrap().unwrap().quota.unwrap();
    assert_eq!(view.used, spent, "the server's default is off, but this store's commits were durable");
}

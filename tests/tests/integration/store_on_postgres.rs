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
    }]
}

fn project(name: &str) -> ProjectSpec {
    ProjectSpec {
        owner: owner(name),
        state: ProjectState::Active,
        credentials: Vec::new(),
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
async fn a_read_only_server_goes_on_being_read_and_is_written_again_once_it_may() {
    let database = Database::create();
    let store = open(&database.url());
    let fleet = fleet_of(&store).await;
    let quota = limited(&fleet, "app", 100).await;
    database.set_read_only(true);
    let me = HolderId::new();
    let report = [LeaseReport {
        quota,
        spent: 0,
        amount: 0,
        want: 1,
    }];
    for refused in [
        fleet.put_providers(&providers("one")).await.err(),
        fleet.settle(me, &report).await.err(),
        fleet
            .add_usage(
                me,
                1,
                &[UsageDelta {
                    requests: 1,
                    ..UsageDelta::default()
                }],
            )
            .await
            .err(),
        fleet.heartbeat(me, FeedVersion(1), 1_000).await.err(),
    ] {
        assert!(
            matches!(&refused, Some(StoreError::ReadOnly(why)) if why.contains("primary")),
            "{refused:?}"
        );
    }
    fleet.feed_head().await.unwrap();
    fleet.providers().await.unwrap();
    assert_eq!(store.claim(&claim()).await.unwrap().id(), fleet.id(), "a standing claim is only read");
    database.set_read_only(false);
    until("it writes again", async || fleet.put_providers(&providers("one")).await.is_ok()).await;
    fleet.settle(me, &report).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_refuses_is_sorted_by_what_can_be_done_about_it() {
    let database = Database::create();
    let store = open(&database.url());
    let fleet = fleet_of(&store).await;
    let failing = |code: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'refused for a test' USING ERRCODE = '{code}'; END $$;
            CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON providers EXECUTE FUNCTION fail();"
        )
    };
    for (code, expected) in [
        ("53100", "Full"),
        ("53200", "Unavailable"),
        ("40001", "Unavailable"),
        ("40P01", "Unavailable"),
        ("57P01", "Unavailable"),
        ("57014", "Unavailable"),
        ("25006", "ReadOnly"),
        ("42501", "Refused"),
        ("23514", "Refused"),
    ] {
        database.execute(&failing(code));
        let refused = fleet.put_providers(&providers("one")).await.unwrap_err();
        assert!(format!("{refused:?}").starts_with(expected), "{code}: {refused:?}");
    }
    database.execute("DROP TRIGGER fail ON providers");
    fleet.put_providers(&providers("one")).await.unwrap();

    // Who may not have another connection, who has no password, what is not there.
    let role = format!("role_{}", database.name());
    database.execute(&format!("CREATE ROLE {role} LOGIN CONNECTION LIMIT 0"));
    let url = database.url();
    let as_role = url.replacen("postgres@", &format!("{role}:hunter2@"), 1);
    let crowded = open(&as_role).schema_info().await.unwrap_err();
    database.execute(&format!("DROP ROLE {role}"));
    assert!(matches!(crowded, StoreError::Unavailable(_)), "{crowded:?}");
    for (url, says) in [
        (as_role, "check user and password"),
        (url.replace(database.name(), "no_such_database"), "create it first"),
        (format!("{url}?sslmode=require"), "sslmode"),
        (
            format!("{url}?options=-csearch_path%3Dno_such_schema"),
            "the schema that search_path names",
        ),
    ] {
        let refused = open(&url).migrate().await.unwrap_err();
        let said = refused.to_string();
        assert!(matches!(refused, StoreError::Refused(_)) && said.contains(says), "{says}: {refused:?}");
        assert!(!said.contains("hunter2") && !said.contains('\n'), "{said}");
    }
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

/// A CA, and a server's certificate and key by it, all PEM.
fn certificates(host: &str) -> (String, String, String) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(authority, key).unwrap();
    let server_key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    let server = server.signed_by(&server_key, &authority).unwrap();
    (authority.pem(), server.pem(), server_key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_tls_mode_does_what_its_name_says() {
    let (authority, certificate, key) = certificates("localhost");
    let files = [("server.crt", certificate.as_str()), ("server.key", key.as_str())];
    let cluster = Cluster::with_files(&["ssl=on", "ssl_cert_file=../server.crt", "ssl_key_file=../server.key"], &files).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (folder.path().join("ca.crt"), folder.path().join("other.crt"));
    std::fs::write(&ours, authority).unwrap();
    std::fs::write(&others, certificates("localhost").0).unwrap();
    let by_address = Database::create_on(&cluster.url());
    let by_name = by_address.url().replace("127.0.0.1", "localhost");
    let encrypted = "SELECT COUNT(*) FROM pg_stat_ssl s JOIN pg_stat_activity a ON a.pid = s.pid
        WHERE a.application_name = 'llm-proxy' AND a.datname = current_database() AND s.ssl";

    for (url, mode, root, is_encrypted) in [
        (by_address.url(), "disable", None, false),
        (by_address.url(), "prefer", None, true),
        (by_address.url(), "require", None, true),
        (by_address.url(), "verify-ca", Some(&ours), true),
        (by_name.clone(), "verify-full", Some(&ours), true),
    ] {
        let root = root.map(|root| format!("&sslrootcert={}", root.display())).unwrap_or_default();
        let store = open(&format!("{url}?sslmode={mode}{root}"));
        store.schema_info().await.unwrap();
        assert_eq!(by_address.number(encrypted) > 0, is_encrypted, "{mode}");
        store.close().await;
        until("its sessions end", async || by_address.number(&encrypted.replace(" AND s.ssl", "")) == 0).await;
    }
    for (url, mode, root) in [
        (by_address.url(), "verify-full", Some(&ours)),
        (by_name.clone(), "verify-full", Some(&others)),
        (by_name.clone(), "verify-ca", Some(&others)),
        (by_name, "verify-full", None),
    ] {
        let root = root.map(|root| format!("&sslrootcert={}", root.display())).unwrap_or_default();
        let refused = open(&format!("{url}?sslmode={mode}{root}")).schema_info().await.unwrap_err();
        let said = refused.to_string();
        assert!(matches!(refused, StoreError::Refused(_)), "{mode}{root}: {refused:?}");
        assert!(
            said.contains("sslmode") && said.contains(by_address.name()) && !said.contains('\n'),
            "{said}"
        );
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_and_once_there_is_space_it_is_written_again() {
    let Some(disk) = Tmpfs::mount("a_full_disk_is_said_and_once_there_is_space_it_is_written_again", "48m") else {
        return;
    };
    let cluster = Cluster::start().unwrap();
    let place = disk.path().join("space");
    std::fs::create_dir(&place).unwrap();
    for folder in [disk.path(), &place] {
        cluster.give(folder);
    }
    // The log of the server lies elsewhere, as it should: a full log disk stops PostgreSQL itself.
    execute_on(&cluster.url(), &format!("CREATE TABLESPACE small LOCATION '{}'", place.display()));
    let database = Database::create_on(&cluster.url());
    execute_on(&cluster.url(), &format!("ALTER DATABASE {} SET TABLESPACE small", database.name()));
    let store = open(&database.url());
    let fleet = fleet_of(&store).await;
    let quota = limited(&fleet, "app", 1_000).await;
    disk.fill();
    // Long, and not to be compressed.
    let long = |name: &str| {
        let base_url = Some(
            (0..20_000)
                .map(|_| secrecy::ExposeSecret::expose_secret(&SealingKey::generate().to_base64()).to_owned())
                .collect(),
        );
        [ProviderSpec {
            base_url,
            ..providers(name)[0].clone()
        }]
    };
    let full = fleet.put_providers(&long("one")).await;
    assert!(matches!(full, Err(StoreError::Full(_))), "{:?}", full.map_err(|error| error.to_string()));
    assert_eq!(fleet.providers().await.unwrap().len(), 0, "it is read all the same, and nothing was left");
    let me = HolderId::new();
    let report = LeaseReport {
        quota,
        spent: 0,
        amount: 0,
        want: 1,
    };
    let _ = fleet.settle(me, &[report]).await;
    disk.free();
    until("it is written again", async || fleet.put_providers(&long("one")).await.is_ok()).await;
    fleet.settle(me, &[report]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_no_connection_left_says_so() {
    let cluster = Cluster::with_settings(&["max_connections=5", "superuser_reserved_connections=1"]).unwrap();
    let database = Database::create_on(&cluster.url());
    let store = open(&database.url());
    store.schema_info().await.unwrap();
    store.close().await;
    execute_on(&cluster.url(), "CREATE ROLE plain LOGIN");
    let taken: Vec<_> = (0..4).map(|_| database.url().replacen("postgres@", "plain@", 1)).collect();
    let mut held = Vec::new();
    for url in taken {
        use sqlx::ConnectOptions as _;
        let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
        held.push(options.connect().await.unwrap());
    }
    let store = open(&database.url().replacen("postgres@", "plain@", 1));
    let crowded = store.schema_info().await.unwrap_err();
    assert!(
        matches!(&crowded, StoreError::Unavailable(why) if why.contains("53300") && why.contains(database.name())),
        "{crowded:?}"
    );
    drop(held);
    until("there is room again", async || store.schema_info().await.is_ok()).await;
}

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

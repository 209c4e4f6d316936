//! What the server refuses, for good or for a while: writes, connections, space, TLS.

use super::*;

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
        overrun: 0,
        need: 1,
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
        overrun: 0,
        need: 1,
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

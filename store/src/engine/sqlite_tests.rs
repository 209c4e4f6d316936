//! SQLite as an engine: who may open it beside whom, and what its refusals become.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use super::*;
use crate::keyring::SealingKey;
use crate::statement::sql;
use crate::{Claim, FeedVersion, Fleet, ProviderApi, ProviderAuth, ProviderSpec};

fn some_key() -> KeyRing {
    KeyRing::single(SealingKey::generate())
}

async fn fleet_at(path: &Path) -> Fleet {
    let store = Store::open_sqlite(path, some_key()).await.unwrap();
    store.migrate().await.unwrap();
    store
        .claim(&Claim {
            cluster: "standalone".into(),
            namespace: "default".into(),
            name: "demo".into(),
        })
        .await
        .unwrap()
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

/// What `llm-proxy status` does: the name of the one provider that it sees.
async fn look(path: &Path) -> Result<String> {
    let store = Store::open_sqlite_readonly(path).await?;
    let (_, fleet) = store.claimed().await?.ok_or_else(|| StoreError::NotFound { what: "a claim".into() })?;
    let seen = fleet.providers().await?.remove(0).name;
    store.close().await;
    Ok(seen)
}

#[tokio::test]
async fn the_file_is_readable_by_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    fleet_at(&path).await.put_providers(&providers("one")).await.unwrap();
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_reader_sees_each_commit_beside_a_running_process_and_leaves_it_in_peace() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let fleet = fleet_at(&path).await;
    let reader = Store::open_sqlite_readonly(&path).await.unwrap();
    for name in ["one", "two"] {
        fleet.put_providers(&providers(name)).await.unwrap();
        assert_eq!(look(&path).await.unwrap(), name);
        let (_, seen) = reader.claimed().await.unwrap().unwrap();
        assert_eq!(seen.providers().await.unwrap()[0].name, name);
    }
    assert!(matches!(reader.migrate_down(0).await, Err(StoreError::ReadOnly(_))));
    fleet.store().close().await;
    assert_eq!(look(&path).await.unwrap(), "two");
}

#[tokio::test]
async fn what_a_killed_process_had_committed_is_read_and_nothing_is_created_by_looking() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let fleet = fleet_at(&path).await;
    fleet.put_providers(&providers("in-the-log")).await.unwrap();

    // The files as kill -9 leaves them: the log not written back; and as a crash of the machine does, without the shared index.
    for left in [vec!["store.db", "store.db-wal", "store.db-shm"], vec!["store.db", "store.db-wal"]] {
        let dead = tempfile::tempdir().unwrap();
        for name in left {
            std::fs::copy(dir.path().join(name), dead.path().join(name)).unwrap();
        }
        assert_eq!(look(&dead.path().join("store.db")).await.unwrap(), "in-the-log");
        let log = std::fs::metadata(dead.path().join("store.db-wal")).unwrap().len();
        assert!(log > 0, "the reader did not write the log back");
        let store = Store::open_sqlite(&dead.path().join("store.db"), some_key()).await.unwrap();
        assert_eq!(store.claimed().await.unwrap().unwrap().1.providers().await.unwrap()[0].name, "in-the-log");
    }

    let nothing = dir.path().join("missing.db");
    assert!(matches!(Store::open_sqlite_readonly(&nothing).await, Err(StoreError::NotFound { .. })));
    assert!(!nothing.exists());
}

/// Runs this very test again as a user who may read, but not write, the folder: root may do anything, so it must become somebody else.
#[tokio::test]
async fn a_folder_that_the_reader_cannot_write_is_no_obstacle() {
    const FOLDERS: &str = "LLM_PROXY_TEST_FOLDERS";
    if let Ok(folders) = std::env::var(FOLDERS) {
        for folder in folders.split(':') {
            let (path, expected) = folder.split_once('=').unwrap();
            assert!(
                std::fs::write(Path::new(path).with_file_name("probe"), "").is_err(),
                "{path} is writable: this proves nothing"
            );
            assert_eq!(look(Path::new(path)).await.unwrap(), expected);
        }
        return;
    }

    let dir = tempfile::tempdir().unwrap();
    let (closed, killed) = (dir.path().join("closed"), dir.path().join("killed"));
    for folder in [&closed, &killed] {
        std::fs::create_dir(folder).unwrap();
    }
    let fleet = fleet_at(&closed.join("store.db")).await;
    fleet.put_providers(&providers("one")).await.unwrap();
    fleet.store().close().await;
    let running = fleet_at(&killed.join("store.db")).await;
    running.put_providers(&providers("two")).await.unwrap();

    for folder in [&closed, &killed] {
        for file in std::fs::read_dir(folder).unwrap() {
            std::fs::set_permissions(file.unwrap().path(), std::fs::Permissions::from_mode(0o444)).unwrap();
        }
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    }
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("reader");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut again = Command::new(&program);
    again.args(["--exact", "engine::sqlite::tests::a_folder_that_the_reader_cannot_write_is_no_obstacle"]);
    again.env(
        FOLDERS,
        format!("{}=one:{}=two", closed.join("store.db").display(), killed.join("store.db").display()),
    );
    if std::fs::metadata(dir.path()).unwrap().uid() == 0 {
        use std::os::unix::process::CommandExt as _;
        again.uid(65_534).gid(65_534);
    }
    let output = again.current_dir("/").output().unwrap();
    for folder in [&closed, &killed] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let no_folder = dir.path().join("nowhere").join("store.db");
    let refused = Store::open_sqlite(&no_folder, some_key()).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unavailable(why) if why.contains("nowhere")), "{refused}");

    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "a file of another kind, long enough to hold what looks like a header ".repeat(20)).unwrap();
    for refused in [
        Store::open_sqlite(&text, some_key()).await.err(),
        Store::open_sqlite_readonly(&text).await.err(),
    ] {
        assert!(
            matches!(&refused, Some(StoreError::Refused(why)) if why.contains("notes.txt") && why.contains("no SQLite database")),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_full_disk_is_full_and_heals_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet_at(&dir.path().join("store.db")).await;
    fleet.put_providers(&providers("before")).await.unwrap();
    // max_page_count stands in for the disk: SQLite reports both with the same code.
    let mut tx = fleet.store().begin().await.unwrap();
    sql!(tx, one, "PRAGMA max_page_count = 1").unwrap();
    tx.commit().await.unwrap();
    let long = "x".repeat(200_000);
    assert!(matches!(fleet.put_providers(&providers(&long)).await, Err(StoreError::Full(_))));
    assert_eq!(fleet.providers().await.unwrap()[0].name, "before");
    // SQLite has rolled back by itself, so the writer was replaced by a fresh one, which knows no such bound.
    assert_eq!(fleet.put_providers(&providers(&long)).await.unwrap(), FeedVersion(2));
}

#[tokio::test]
async fn a_database_that_refuses_writes_is_read_only_and_one_that_another_holds_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let fleet = fleet_at(&path).await;
    let other = Store::open_sqlite(&path, some_key()).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    sql!(tx, exec, "PRAGMA query_only = ON").unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(other.begin().await.err(), Some(StoreError::ReadOnly(_))));

    let mut tx = fleet.store().begin().await.unwrap();
    sql!(tx, one, "PRAGMA busy_timeout = 10").unwrap();
    tx.commit().await.unwrap();
    let other = Store::open_sqlite(&path, some_key()).await.unwrap();
    let held = other.begin().await.unwrap();
    assert!(matches!(fleet.put_providers(&providers("one")).await, Err(StoreError::Unavailable(_))));
    assert_eq!(fleet.providers().await.unwrap(), [], "reads go on beside a writer");
    held.rollback().await.unwrap();
    fleet.put_providers(&providers("one")).await.unwrap();
}

#[tokio::test]
async fn closing_writes_the_log_back_and_ends_all_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let fleet = fleet_at(&path).await;
    fleet.put_providers(&providers("one")).await.unwrap();
    fleet.store().close().await;
    assert!(wal_is_absent(&path));
    assert!(matches!(fleet.providers().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(fleet.put_providers(&providers("two")).await, Err(StoreError::Unavailable(_))));
    assert_eq!(look(&path).await.unwrap(), "one");
}

#[tokio::test]
async fn neither_debug_nor_errors_show_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let key = SealingKey::generate();
    let text = secrecy::ExposeSecret::expose_secret(&key.to_base64()).to_owned();
    let store = Store::open_sqlite(&path, KeyRing::single(key)).await.unwrap();
    assert!(!format!("{store:?}").contains(&text[..16]));
}

#[tokio::test]
async fn every_writer_syncs_each_commit_and_checks_references() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_sqlite(&dir.path().join("store.db"), some_key()).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    assert_eq!(sql!(tx, one, "PRAGMA journal_mode").unwrap().text("journal_mode").unwrap(), "wal");
    assert_eq!(sql!(tx, one, "PRAGMA synchronous").unwrap().int("synchronous").unwrap(), 2);
    assert_eq!(sql!(tx, one, "PRAGMA foreign_keys").unwrap().int("foreign_keys").unwrap(), 1);
}

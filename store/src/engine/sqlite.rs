//! SQLite as an engine: how a file is opened, for writing or for reading only. It refuses to know tables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

use super::{Engine, Store};
use crate::error::{Result, StoreError};
use crate::keyring::KeyRing;

/// How long a writer of another process may keep the file before we answer [`StoreError::Unavailable`].
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a caller waits for a connection; longer than one busy writer takes, so that a queue behind it still drains.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads go beside the writer and beside each other; two are enough to hide one slow one.
const READERS: u32 = 2;

impl Store {
    /// Opens (and creates) a SQLite file: one writer connection, two readers, WAL, synchronous=FULL.
    ///
    /// The file is created with mode 0600; its folder must exist. The schema is left as it is: see [`Store::migrate`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::ReadOnly`], [`StoreError::Full`], or [`StoreError::Refused`] if the file is no SQLite
    /// database; each message names the path.
    pub async fn open_sqlite(path: &Path, keys: KeyRing) -> Result<Self> {
        let path = absolute(path)?;
        create_private(&path)?;
        let writing = sqlite_options(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        // The writer first: it turns WAL on, without which a read-only connection could not run beside it.
        let writer = sqlite_pool(1, writing).await.map_err(|e| e.about(&path))?;
        let readers = sqlite_pool(READERS, sqlite_options(&path).read_only(true))
            .await
            .map_err(|e| e.about(&path))?;
        Ok(Self::over(
            Engine::Sqlite {
                writer: Some(writer),
                readers,
            },
            Some(keys),
        ))
    }

    /// Opens an existing SQLite file for reading only (`llm-proxy status`): never creates, migrates or locks it, and works beside a
    /// running process.
    ///
    /// A reader of a WAL database needs its `-shm` file, and makes one where the folder lets it. Where the folder does not, and no `-wal`
    /// file is there, the last process has closed the database properly and none is running: then the file alone is the whole truth.
    ///
    /// # Errors
    /// As [`Store::open_sqlite`]; [`StoreError::NotFound`] if there is no such file.
    pub async fn open_sqlite_readonly(path: &Path) -> Result<Self> {
        let path = absolute(path)?;
        if !path.try_exists().map_err(|e| StoreError::from(sqlx::Error::Io(e)).about(&path))? {
            return Err(StoreError::NotFound {
                what: format!("the database {}", path.display()),
            });
        }
        let options = sqlite_options(&path).read_only(true);
        let options = match probe(&options).await {
            Ok(()) => options,
            Err(error) if needs_a_writable_folder(&error) && wal_is_absent(&path) => options.immutable(true),
            Err(error) => return Err(StoreError::from(error).about(&path)),
        };
        let readers = sqlite_pool(READERS, options).await.map_err(|e| e.about(&path))?;
        Ok(Self::over(Engine::Sqlite { writer: None, readers }, None))
    }
}

fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .disable_statement_logging()
}

async fn sqlite_pool(connections: u32, options: SqliteConnectOptions) -> Result<SqlitePool> {
    // A file does not go away like a server: connections neither age nor need a test before each use.
    let pool = SqlitePoolOptions::new().min_connections(connections).max_connections(connections);
    let pool = pool
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false);
    // On a full disk or an I/O error SQLite rolls back by itself. sqlx then counts a transaction that is no more, its own ROLLBACK fails, and
    // the connection would refuse every later BEGIN: such a one is thrown away.
    let pool = pool.before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }));
    Ok(pool.connect_with(options).await?)
}

/// Whether a file can be opened and read with these options: the first read is what needs the `-shm` file.
async fn probe(options: &SqliteConnectOptions) -> sqlx::Result<()> {
    let mut connection = options.connect().await?;
    sqlx::query("SELECT COUNT(*) FROM sqlite_master").fetch_one(&mut connection).await?;
    connection.close().await
}

/// SQLITE_READONLY or SQLITE_CANTOPEN: what a reader gets that can neither find nor make the `-shm` file.
fn needs_a_writable_folder(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(|error| error.code())
        .and_then(|code| code.parse::<i32>().ok());
    matches!(code.map(|code| code & 0xff), Some(8 | 14))
}

/// Makes the file ours alone before SQLite would make it readable for all; `-wal` and `-shm` take over its mode.
fn create_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::from(sqlx::Error::Io(error)).about(path)),
    }
}

/// Absolute, so that a relative name beginning with `file:` is not taken for a URI.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| StoreError::from(sqlx::Error::Io(e)).about(path))
}

/// Whether no process has this file open and nothing waits in its log: the last one to close it removes the log.
fn wal_is_absent(path: &Path) -> bool {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    matches!(std::fs::metadata(wal), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
}

#[cfg(test)]
#[path = "sqlite_tests.rs"]
mod tests;

//! PostgreSQL as an engine: the pool and its limits, and how a transaction begins. It refuses to know tables. Whether
//! a transaction pooler stands in between is found out by `listen`.

mod lent;
mod url;

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use super::{Engine, Store};
use crate::error::{Result, StoreError};
use crate::keyring::KeyRing;
use crate::statement::{Conn, sql};

use lent::GRACE;
pub(crate) use lent::PgConn;

/// How long an idle connection may take to prove that it lives before it is replaced.
const PROOF_OF_LIFE: Duration = Duration::from_millis(500);

/// Limits of the pool of connections to PostgreSQL.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// At most so many connections at once, besides one that listens for wake-ups.
    pub max_connections: u32,
    /// So many are kept open while nothing is to be done.
    pub min_connections: u32,
    /// How long a call waits for a connection, and for the server to accept it.
    pub acquire_timeout: Duration,
    /// How long the server works on one statement; a lock is waited for at most half as long.
    pub statement_timeout: Duration,
    /// A connection is replaced at this age, so that a fleet spreads again after a failover.
    pub max_lifetime: Duration,
    /// A connection that was not used for so long is closed.
    pub idle_timeout: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            max_connections: 10,
            min_connections: 0,
            acquire_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(10),
            max_lifetime: Duration::from_secs(1_800),
            idle_timeout: Duration::from_secs(600),
        }
    }
}

impl Store {
    /// Opens a PostgreSQL database, or a schema of one, by its URL: `postgres://user:password@host:port/database?sslmode=verify-full`.
    ///
    /// `sslmode` is disable, prefer (default), require, verify-ca or verify-full, with `sslrootcert` for a private CA; a schema is chosen with
    /// `options=-csearch_path=NAME` (percent-encoded: `options=-csearch_path%3DNAME`). What the URL leaves out is taken from `PGHOST`,
    /// `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE` and the like. No connection is made yet, so a server that is still down is no error here;
    /// connections are made when they are needed and replaced when they break. The schema is left as it is: see [`Store::migrate`].
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the URL cannot be understood; the message never repeats it, for it holds the password.
    pub fn open_postgres(url: &str, keys: KeyRing, options: PostgresOptions) -> Result<Self> {
        let connect = url::connect_options(url)?;
        Ok(Self::over(Engine::Postgres(Box::new(Server::new(connect, &options))), Some(keys)))
    }
}

/// What stands between us and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Path {
    /// Not found out yet: as if it were pooled.
    Unknown = 0,
    /// Each connection is a session of the server.
    Direct = 1,
    /// A transaction pooler: two transactions of one connection may meet two sessions, and no notification arrives.
    Pooled = 2,
}

/// A server and the pool of connections to it.
pub(crate) struct Server {
    pub(crate) reach: Reach,
    /// The listener's task, once a fleet is known.
    pub(crate) listener: OnceLock<tokio::task::AbortHandle>,
}

/// The way to a server; the task that listens has one too.
#[derive(Clone)]
pub(crate) struct Reach {
    pool: PgPool,
    connect: PgConnectOptions,
    address: Arc<str>,
    path: Arc<AtomicU8>,
    listening: Arc<AtomicBool>,
    /// Held by who looks why there is no connection.
    trying: Arc<tokio::sync::Mutex<()>>,
    limit: Duration,
    /// The text that begins a transaction behind a pooler, where a session's settings are anybody's.
    pooled_begin: Arc<str>,
}

impl Server {
    fn new(connect: PgConnectOptions, options: &PostgresOptions) -> Self {
        Self {
            reach: Reach::new(connect, options),
            listener: OnceLock::new(),
        }
    }

    pub(super) async fn close(&self) {
        self.stop_listening();
        self.reach.pool.close().await;
    }

    fn stop_listening(&self) {
        if let Some(listener) = self.listener.get() {
            listener.abort();
        }
        self.reach.listens(false);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_listening();
    }
}

impl Reach {
    fn new(connect: PgConnectOptions, options: &PostgresOptions) -> Self {
        let settings = Settings::of(options);
        let session = settings.for_session();
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections.max(1))
            .min_connections(options.min_connections)
            .acquire_timeout(options.acquire_timeout)
            .idle_timeout(options.idle_timeout)
            .max_lifetime(options.max_lifetime)
            // Our own test instead: this one has no deadline, and half-open connections would use up the caller's.
            .test_before_acquire(false)
            .before_acquire(|connection, _| Box::pin(lives(connection)))
            .after_connect(move |connection, _| {
                let session = session.clone();
                Box::pin(async move { connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(session))).await.map(drop) })
            })
            .connect_lazy_with(connect.clone());
        Self {
            pool,
            address: url::address(&connect).into(),
            connect,
            path: Arc::new(AtomicU8::new(Path::Unknown as u8)),
            listening: Arc::default(),
            trying: Arc::default(),
            limit: options.statement_timeout + GRACE,
            pooled_begin: settings.for_transaction().into(),
        }
    }

    /// Host, port and database; never the user or the password.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn path(&self) -> Path {
        match self.path.load(Ordering::Relaxed) {
            1 => Path::Direct,
            2 => Path::Pooled,
            _ => Path::Unknown,
        }
    }

    pub(crate) fn found_path(&self, path: Path) {
        self.path.store(path as u8, Ordering::Relaxed);
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
    }

    pub(crate) fn listens(&self, listening: bool) {
        self.listening.store(listening, Ordering::Relaxed);
    }

    /// How a connection beside the pool is made.
    pub(crate) fn connect_options(&self) -> &PgConnectOptions {
        &self.connect
    }

    /// Sends a notification.
    pub(crate) async fn notify(&self, channel: &str, payload: &str) -> Result<()> {
        let mut tx = Conn::Postgres(self.begin().await?);
        sql!(tx, exec, "SELECT pg_notify($1, $2)", channel, payload)?;
        tx.commit().await
    }

    /// A transaction. READ COMMITTED by name, because the ledger's lock is sound on it whatever the server's default is.
    pub(crate) async fn begin(&self) -> Result<PgConn> {
        self.transaction("BEGIN ISOLATION LEVEL READ COMMITTED").await
    }

    pub(super) async fn snapshot(&self) -> Result<PgConn> {
        self.transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    /// A connection for one statement; behind a pooler that takes a transaction, because preparing and executing are two messages.
    pub(super) async fn single(&self) -> Result<PgConn> {
        match self.path() {
            Path::Direct => self.acquire().await,
            Path::Unknown | Path::Pooled => self.begin().await,
        }
    }

    async fn transaction(&self, begin: &'static str) -> Result<PgConn> {
        let mut connection = self.acquire().await?;
        let kept = connection.persistent;
        connection
            .begin(if kept {
                begin.to_owned()
            } else {
                format!("{begin}; {}", self.pooled_begin)
            })
            .await?;
        Ok(connection)
    }

    async fn acquire(&self) -> Result<PgConn> {
        match self.pool.acquire().await {
            Ok(connection) => Ok(PgConn::new(connection, self.path() == Path::Direct, self.limit)),
            Err(error) => Err(self.unreachable(error).await),
        }
    }

    /// Why no connection came. While a server refuses, sqlx tries again until the time is over, and then only says that it is.
    async fn unreachable(&self, error: sqlx::Error) -> StoreError {
        let error = match error {
            sqlx::Error::PoolTimedOut => match self.try_once().await {
                Some(Err(error)) => error,
                Some(Ok(())) => {
                    let busy = format!("none of {} connections came free in time", self.pool.options().get_max_connections());
                    return StoreError::Unavailable(busy).at(&self.address);
                }
                None => sqlx::Error::PoolTimedOut,
            },
            error => error,
        };
        match error {
            sqlx::Error::PoolTimedOut => StoreError::Unavailable("no answer in time".into()),
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                StoreError::Unavailable(format!("{error}: is PostgreSQL running there, and does it accept connections?"))
            }
            // What rustls says of a certificate comes as one.
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => StoreError::from(sqlx::Error::Tls(error.into())),
            error => StoreError::from(error),
        }
        .at(&self.address)
    }

    /// One attempt to connect beside the pool; `None` if another caller is at it.
    async fn try_once(&self) -> Option<sqlx::Result<()>> {
        let _only_one = self.trying.try_lock().ok()?;
        let attempt = async { self.connect.connect().await?.close().await };
        Some(
            tokio::time::timeout(PROOF_OF_LIFE, attempt)
                .await
                .unwrap_or(Err(sqlx::Error::PoolTimedOut)),
        )
    }
}

async fn lives(connection: &mut PgConnection) -> sqlx::Result<bool> {
    // A bare Sync: a round trip, but no statement.
    match tokio::time::timeout(PROOF_OF_LIFE, connection.ping()).await {
        Ok(alive) => Ok(alive.is_ok()),
        // Nor is it asked to close in good order.
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

/// What a session needs, whatever the role's or the database's defaults are.
struct Settings {
    statement_ms: u128,
    lock_ms: u128,
}

/// An acknowledged commit must survive a crash: a role or a server that says `off` would let limits be exceeded after one.
const DURABLE: &str = "set_config('synchronous_commit', CASE current_setting('synchronous_commit')
    WHEN 'off' THEN 'on' WHEN 'local' THEN 'on' ELSE current_setting('synchronous_commit') END, ";

impl Settings {
    fn of(options: &PostgresOptions) -> Self {
        let statement_ms = options.statement_timeout.as_millis().max(1);
        Self {
            statement_ms,
            lock_ms: (statement_ms / 2).max(1),
        }
    }

    fn for_session(&self) -> String {
        let Self { statement_ms, lock_ms } = self;
        let idle_ms = 2 * statement_ms;
        format!(
            "SELECT {DURABLE} false), set_config('statement_timeout', '{statement_ms}', false), set_config('lock_timeout', '{lock_ms}', false),
                set_config('idle_in_transaction_session_timeout', '{idle_ms}', false)"
        )
    }

    fn for_transaction(&self) -> String {
        let Self { statement_ms, lock_ms } = self;
        format!("SELECT {DURABLE} true), set_config('statement_timeout', '{statement_ms}', true), set_config('lock_timeout', '{lock_ms}', true)")
    }
}

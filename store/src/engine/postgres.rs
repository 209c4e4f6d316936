//! PostgreSQL as an engine: the pool, its limits and deadlines, and a connection that is lent for one transaction or one statement.
//! It refuses to know tables. Whether a transaction pooler stands in between is found out by `listen`.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Postgres};

use super::{Engine, Store};
use crate::error::{Result, StoreError};
use crate::keyring::KeyRing;

/// How long an idle connection may take to prove that it lives before it is replaced.
const PROOF_OF_LIFE: Duration = Duration::from_millis(500);

/// How much later than the server we give up on a statement: then the server, or the way to it, is gone.
const GRACE: Duration = Duration::from_secs(2);

/// What a migration may take: it may wait for another migrator, and rebuild an index.
const MIGRATION_LIMIT: Duration = Duration::from_secs(3_600);

/// Parameters of a connection URL that mean something here; others (`channel_binding`, `connect_timeout` …) are passed over.
const PARAMETERS: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

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
        let connect = connect_options(url)?;
        Ok(Self::over(Engine::Postgres(Server::new(connect, options)), Some(keys)))
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
    pool: PgPool,
    connect: PgConnectOptions,
    address: Arc<str>,
    path: Arc<AtomicU8>,
    limit: Duration,
    /// The text that begins a transaction behind a pooler, where a session's settings are anybody's.
    pooled_begin: String,
    /// The listener's task, once a fleet is known.
    pub(crate) listener: OnceLock<tokio::task::AbortHandle>,
}

impl Server {
    fn new(connect: PgConnectOptions, options: PostgresOptions) -> Self {
        let settings = Settings::of(&options);
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
                Box::pin(async move { connection.execute(sqlx::AssertSqlSafe(session)).await.map(drop) })
            })
            .connect_lazy_with(connect.clone());
        Self {
            pool,
            address: address(&connect).into(),
            connect,
            path: Arc::new(AtomicU8::new(Path::Unknown as u8)),
            limit: options.statement_timeout + GRACE,
            pooled_begin: settings.for_transaction(),
            listener: OnceLock::new(),
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

    /// How a connection beside the pool is made.
    pub(crate) fn connect_options(&self) -> &PgConnectOptions {
        &self.connect
    }

    pub(super) async fn close(&self) {
        if let Some(listener) = self.listener.get() {
            listener.abort();
        }
        self.pool.close().await;
    }

    /// A transaction. READ COMMITTED by name, because the ledger's lock is sound on it whatever the server's default is.
    pub(super) async fn begin(&self) -> Result<PgConn> {
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
        connection.in_transaction = true;
        if connection.persistent {
            connection.simple(begin).await?;
        } else {
            connection.simple(format!("{begin}; {}", self.pooled_begin)).await?;
        }
        Ok(connection)
    }

    async fn acquire(&self) -> Result<PgConn> {
        let connection = self.pool.acquire().await.map_err(|error| self.unreachable(error))?;
        Ok(PgConn {
            connection: Some(connection),
            in_transaction: false,
            busy: false,
            failed: false,
            persistent: self.path() == Path::Direct,
            limit: self.limit,
        })
    }

    fn unreachable(&self, error: sqlx::Error) -> StoreError {
        match error {
            sqlx::Error::PoolTimedOut if self.pool.size() == 0 => StoreError::Unavailable(format!(
                "{}: no answer: is PostgreSQL running there, and does it accept connections?",
                self.address
            )),
            sqlx::Error::PoolTimedOut => {
                StoreError::Unavailable(format!("{}: none of {} connections came free in time", self.address, self.pool.size()))
            }
            error => StoreError::from(error).at(&self.address),
        }
    }
}

/// A connection that is lent to one caller. What was begun and not committed is rolled back when it is dropped.
pub(crate) struct PgConn {
    /// Present until it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    in_transaction: bool,
    /// A statement is under way. Dropped like this, nobody knows what the server still sends: the connection is closed.
    busy: bool,
    /// A statement of the transaction failed, so that a COMMIT would silently roll it back.
    failed: bool,
    /// Whether statements are prepared once per connection and kept.
    pub(crate) persistent: bool,
    limit: Duration,
}

impl PgConn {
    /// The connection for one statement, and who watches over its deadline and its outcome.
    pub(crate) fn lend(&mut self) -> Result<(&mut PgConnection, Watch<'_>)> {
        let Self {
            connection,
            busy,
            failed,
            limit,
            ..
        } = self;
        match connection {
            Some(connection) => Ok((&mut **connection, Watch { busy, failed, limit: *limit })),
            None => Err(StoreError::Unavailable("the connection was given back".into())),
        }
    }

    /// One or several statements without binds, in one message.
    pub(crate) async fn simple(&mut self, text: impl Into<String>) -> Result<()> {
        let text = sqlx::raw_sql(sqlx::AssertSqlSafe(text.into()));
        let (connection, watch) = self.lend()?;
        watch.over(async { text.execute(connection).await.map(drop) }).await
    }

    /// Lifts the deadlines for the rest of the transaction: a migration waits for another migrator as long as that takes.
    pub(crate) async fn take_time(&mut self) -> Result<()> {
        self.limit = MIGRATION_LIMIT;
        self.simple("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0").await
    }

    pub(crate) async fn commit(mut self) -> Result<()> {
        if !self.in_transaction {
            return Ok(());
        }
        if self.failed {
            return Err(StoreError::Refused(
                "a statement of the transaction had failed, so nothing was committed".into(),
            ));
        }
        self.simple("COMMIT").await?;
        self.in_transaction = false;
        Ok(())
    }

    pub(crate) async fn rollback(mut self) -> Result<()> {
        if self.in_transaction {
            self.simple("ROLLBACK").await?;
            self.in_transaction = false;
        }
        Ok(())
    }
}

impl Drop for PgConn {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if self.busy {
            connection.close_on_drop();
        } else if self.in_transaction
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                let undo = tokio::time::timeout(GRACE, connection.execute(sqlx::raw_sql("ROLLBACK"))).await;
                if !matches!(undo, Ok(Ok(_))) {
                    connection.close_on_drop();
                }
            });
        }
    }
}

/// Watches over one statement.
pub(crate) struct Watch<'c> {
    busy: &'c mut bool,
    failed: &'c mut bool,
    limit: Duration,
}

impl Watch<'_> {
    /// Runs it to its end or its deadline. A connection that broke, or that still owes an answer, is not used again.
    pub(crate) async fn over<T>(self, statement: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
        *self.busy = true;
        let Ok(outcome) = tokio::time::timeout(self.limit, statement).await else {
            return Err(StoreError::Unavailable(format!(
                "no answer within {} s: the connection is given up",
                self.limit.as_secs()
            )));
        };
        // After an answer of the server, be it an error, the connection is in order again.
        *self.busy = matches!(&outcome, Err(error) if !is_answer(error));
        *self.failed |= outcome.is_err();
        outcome.map_err(StoreError::from)
    }
}

/// Whether the server has answered, and will go on answering on this connection.
fn is_answer(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => !error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08")),
        sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => true,
        _ => false,
    }
}

async fn lives(connection: &mut PgConnection) -> sqlx::Result<bool> {
    // A bare Sync: a round trip, but no statement.
    match tokio::time::timeout(PROOF_OF_LIFE, connection.ping()).await {
        Ok(alive) => alive.map(|()| true),
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

/// Understands the URL. Its errors never repeat it.
fn connect_options(url: &str) -> Result<PgConnectOptions> {
    let refused = |why: String| StoreError::Refused(format!("the database URL cannot be used: {why}"));
    let url = url.trim();
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(refused("it must begin with postgres:// or postgresql://".into()));
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let known = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        let known = PARAMETERS.contains(&name) || name.starts_with("options[");
        if !known && !name.is_empty() {
            tracing::warn!(parameter = name, "a parameter of the database URL is not known and passed over");
        }
        known
    };
    let query = query.split('&').filter(known).collect::<Vec<_>>().join("&");
    let options: PgConnectOptions = format!("{base}?{query}").parse().map_err(|error: sqlx::Error| match error {
        // Only what sqlx and the URL parser say of its form; neither quotes the URL.
        sqlx::Error::Configuration(why) => refused(why.to_string()),
        _ => refused("its form is not postgres://user:password@host:port/database".into()),
    })?;
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("llm-proxy"),
    };
    // The default is a startup parameter that poolers refuse unless told otherwise, and no column here is a float.
    Ok(options.extra_float_digits(None).disable_statement_logging())
}

fn address(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{}:{}/{database}", socket.display(), options.get_port()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

#[cfg(test)]
#[path = "postgres_tests.rs"]
mod tests;

//! A connection to PostgreSQL that is lent for one transaction or one statement: its deadline, and what becomes of it when it is dropped.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{Executor as _, Postgres};

use crate::error::{Result, StoreError};

/// How much later than the server we give up on a statement: then the server, or the way to it, is gone.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// What a migration may take: it may wait for another migrator, and rebuild an index.
const MIGRATION_LIMIT: Duration = Duration::from_secs(3_600);

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
    pub(super) fn new(connection: PoolConnection<Postgres>, persistent: bool, limit: Duration) -> Self {
        Self {
            connection: Some(connection),
            in_transaction: false,
            busy: false,
            failed: false,
            persistent,
            limit,
        }
    }

    /// Begins a transaction with this text.
    pub(super) async fn begin(&mut self, text: String) -> Result<()> {
        self.in_transaction = true;
        self.simple(text).await
    }

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

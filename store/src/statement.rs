//! One SQL text for every engine: a connection in use, a row read by type, and the one macro that runs a text on either.
//! It refuses to know tables.

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row as _, Sqlite, Transaction};

use crate::engine::PgConn;
use crate::error::{Result, StoreError};

/// A connection that someone uses: within a transaction, or for a single read.
pub(crate) enum Conn {
    SqliteTx(Transaction<'static, Sqlite>),
    SqliteRead(PoolConnection<Sqlite>),
    Postgres(PgConn),
}

/// The engine's own connection within a [`Conn`]; what the macro matches on.
pub(crate) enum OnEngine<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConn),
}

impl Conn {
    pub(crate) fn on_engine(&mut self) -> OnEngine<'_> {
        match self {
            Self::SqliteTx(tx) => OnEngine::Sqlite(tx),
            Self::SqliteRead(connection) => OnEngine::Sqlite(connection),
            Self::Postgres(connection) => OnEngine::Postgres(connection),
        }
    }

    /// Ends a transaction and keeps what it wrote.
    pub(crate) async fn commit(self) -> Result<()> {
        match self {
            Self::SqliteTx(tx) => Ok(tx.commit().await?),
            Self::SqliteRead(_) => Ok(()),
            Self::Postgres(connection) => connection.commit().await,
        }
    }

    /// Ends a transaction as if it had never been. (Dropping it does the same, a little later.)
    pub(crate) async fn rollback(self) -> Result<()> {
        match self {
            Self::SqliteTx(tx) => Ok(tx.rollback().await?),
            Self::SqliteRead(_) => Ok(()),
            Self::Postgres(connection) => connection.rollback().await,
        }
    }
}

/// Runs one SQL text with its binds: `exec` → rows changed, `one` → [`Row`], `optional` → `Option<Row>`, `all` → `Vec<Row>`.
///
/// Statements are prepared once per connection and cached. Texts use `$1` placeholders and nothing that only one engine knows.
macro_rules! sql {
    ($conn:expr, exec, $text:expr $(, $bind:expr)* $(,)?) => {
        match $conn.on_engine() {
            $crate::statement::OnEngine::Sqlite(c) => sqlx::query::<sqlx::Sqlite>($text)$(.bind($bind))*.execute(c).await
                .map(|done| done.rows_affected()).map_err($crate::error::StoreError::from),
            $crate::statement::OnEngine::Postgres(c) => {
                let query = sqlx::query::<sqlx::Postgres>($text)$(.bind($bind))*.persistent(c.persistent);
                match c.lend() {
                    Ok((connection, watch)) => watch.over(query.execute(connection)).await.map(|done| done.rows_affected()),
                    Err(error) => Err(error),
                }
            }
        }
    };
    ($conn:expr, one, $text:expr $(, $bind:expr)* $(,)?) => {
        match $conn.on_engine() {
            $crate::statement::OnEngine::Sqlite(c) => sqlx::query::<sqlx::Sqlite>($text)$(.bind($bind))*.fetch_one(c).await
                .map($crate::statement::Row::Sqlite).map_err($crate::error::StoreError::from),
            $crate::statement::OnEngine::Postgres(c) => {
                let query = sqlx::query::<sqlx::Postgres>($text)$(.bind($bind))*.persistent(c.persistent);
                match c.lend() {
                    Ok((connection, watch)) => watch.over(query.fetch_one(connection)).await.map($crate::statement::Row::Postgres),
                    Err(error) => Err(error),
                }
            }
        }
    };
    ($conn:expr, optional, $text:expr $(, $bind:expr)* $(,)?) => {
        match $conn.on_engine() {
            $crate::statement::OnEngine::Sqlite(c) => sqlx::query::<sqlx::Sqlite>($text)$(.bind($bind))*.fetch_optional(c).await
                .map(|row| row.map($crate::statement::Row::Sqlite)).map_err($crate::error::StoreError::from),
            $crate::statement::OnEngine::Postgres(c) => {
                let query = sqlx::query::<sqlx::Postgres>($text)$(.bind($bind))*.persistent(c.persistent);
                match c.lend() {
                    Ok((connection, watch)) => watch.over(query.fetch_optional(connection)).await.map(|row| row.map($crate::statement::Row::Postgres)),
                    Err(error) => Err(error),
                }
            }
        }
    };
    ($conn:expr, all, $text:expr $(, $bind:expr)* $(,)?) => {
        match $conn.on_engine() {
            $crate::statement::OnEngine::Sqlite(c) => sqlx::query::<sqlx::Sqlite>($text)$(.bind($bind))*.fetch_all(c).await
                .map(|rows| rows.into_iter().map($crate::statement::Row::Sqlite).collect::<Vec<_>>()).map_err($crate::error::StoreError::from),
            $crate::statement::OnEngine::Postgres(c) => {
                let query = sqlx::query::<sqlx::Postgres>($text)$(.bind($bind))*.persistent(c.persistent);
                match c.lend() {
                    Ok((connection, watch)) => watch.over(query.fetch_all(connection)).await.map(|rows| rows.into_iter().map($crate::statement::Row::Postgres).collect::<Vec<_>>()),
                    Err(error) => Err(error),
                }
            }
        }
    };
}
pub(crate) use sql;

/// Runs a text that is put together for as many rows as there are, and returns the rows that it selects. The builder is of the engine's own
/// type, so what builds is written once and compiled for each. Only a text that is `$kept` the same from call to call is prepared for good.
macro_rules! sql_built {
    ($conn:expr, $kept:expr, |$text:ident| $build:block) => {
        match $conn.on_engine() {
            $crate::statement::OnEngine::Sqlite(c) => {
                let mut $text = sqlx::QueryBuilder::<sqlx::Sqlite>::new("");
                $build;
                $text
                    .build()
                    .persistent($kept)
                    .fetch_all(c)
                    .await
                    .map(|rows| rows.into_iter().map($crate::statement::Row::Sqlite).collect::<Vec<_>>())
                    .map_err($crate::error::StoreError::from)
            }
            $crate::statement::OnEngine::Postgres(c) => {
                let mut $text = sqlx::QueryBuilder::<sqlx::Postgres>::new("");
                $build;
                let query = $text.build().persistent(c.persistent && $kept);
                match c.lend() {
                    Ok((connection, watch)) => watch
                        .over(query.fetch_all(connection))
                        .await
                        .map(|rows| rows.into_iter().map($crate::statement::Row::Postgres).collect::<Vec<_>>()),
                    Err(error) => Err(error),
                }
            }
        }
    };
}
pub(crate) use sql_built;

/// A row of either engine.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// Reads a column as the type that the caller's return type asks for.
macro_rules! column {
    ($row:expr, $name:expr) => {
        match $row {
            Row::Sqlite(row) => row.try_get($name).map_err(StoreError::from),
            Row::Postgres(row) => row.try_get($name).map_err(StoreError::from),
        }
    };
}

impl Row {
    pub(crate) fn int(&self, name: &'static str) -> Result<i64> {
        column!(self, name)
    }
    pub(crate) fn optional_int(&self, name: &'static str) -> Result<Option<i64>> {
        column!(self, name)
    }
    pub(crate) fn flag(&self, name: &'static str) -> Result<bool> {
        column!(self, name)
    }
    pub(crate) fn text(&self, name: &'static str) -> Result<String> {
        column!(self, name)
    }
    pub(crate) fn optional_text(&self, name: &'static str) -> Result<Option<String>> {
        column!(self, name)
    }
    pub(crate) fn bytes(&self, name: &'static str) -> Result<Vec<u8>> {
        column!(self, name)
    }
    pub(crate) fn optional_bytes(&self, name: &'static str) -> Result<Option<Vec<u8>>> {
        column!(self, name)
    }

    /// A count that the schema keeps at zero or above.
    pub(crate) fn count(&self, name: &'static str) -> Result<u64> {
        Ok(count(self.int(name)?))
    }

    /// A text column that parses, such as an id or an enumeration. `what` names table and column for the error.
    pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&self, name: &'static str, what: &'static str) -> Result<T> {
        self.text(name)?
            .parse()
            .map_err(|e: T::Err| StoreError::Corrupt { what, why: e.to_string() })
    }
}

/// A stored count as the domain sees it.
pub(crate) fn count(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// A domain count as it is stored; what does not fit stands at the end of the range.
pub(crate) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Gives an enumeration its stored texts, the same that the schema's CHECKs list.
macro_rules! stored_as_text {
    ($type:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl $type {
            pub(crate) const fn as_stored(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
        impl std::str::FromStr for $type {
            type Err = &'static str;
            fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
                match text { $($text => Ok(Self::$variant),)+ _ => Err(concat!("no such ", stringify!($type))) }
            }
        }
    };
}
pub(crate) use stored_as_text;

//! A database of either engine: its pools, and how a caller gets a connection of one. It refuses to know tables and SQL texts.

mod postgres;
mod sqlite;

use std::sync::Arc;

use sqlx::sqlite::SqlitePool;
use tokio::sync::watch;

use crate::error::{Result, StoreError};
use crate::feed::FeedVersion;
use crate::keyring::KeyRing;
use crate::statement::Conn;

pub use postgres::PostgresOptions;
pub(crate) use postgres::{Path, PgConn, Reach, Server};

/// An open database, not yet claimed by a fleet. Clones share the pools.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    /// Absent where the database was opened for reading only.
    keys: Option<KeyRing>,
    /// Wakes the followers of the change feed within this process.
    committed: watch::Sender<FeedVersion>,
}

/// The engines.
enum Engine {
    Sqlite {
        /// Absent where the database was opened for reading only.
        writer: Option<SqlitePool>,
        readers: SqlitePool,
    },
    Postgres(Box<Server>),
}

impl Store {
    fn over(engine: Engine, keys: Option<KeyRing>) -> Self {
        let (committed, _) = watch::channel(FeedVersion::default());
        Self {
            shared: Arc::new(Shared { engine, keys, committed }),
        }
    }

    /// Closes all connections; SQLite also checkpoints its log. Afterwards every call answers [`StoreError::Unavailable`].
    pub async fn close(&self) {
        match &self.shared.engine {
            Engine::Sqlite { writer, readers } => {
                // The writer last: the last connection to close writes the log back and removes it, and a reader may not.
                readers.close().await;
                if let Some(writer) = writer {
                    writer.close().await;
                }
            }
            Engine::Postgres(server) => server.close().await,
        }
    }

    /// A transaction that may write. On SQLite it holds the one write lock from its first moment.
    pub(crate) async fn begin(&self) -> Result<Conn> {
        match &self.shared.engine {
            Engine::Sqlite { writer: Some(writer), .. } => Ok(Conn::SqliteTx(writer.begin_with("BEGIN IMMEDIATE").await?)),
            Engine::Sqlite { writer: None, .. } => Err(StoreError::ReadOnly("it was opened for reading only".into())),
            Engine::Postgres(server) => Ok(Conn::Postgres(server.reach.begin().await?)),
        }
    }

    /// A connection for one reading statement.
    pub(crate) async fn read(&self) -> Result<Conn> {
        match &self.shared.engine {
            Engine::Sqlite { readers, .. } => Ok(Conn::SqliteRead(readers.acquire().await?)),
            Engine::Postgres(server) => Ok(Conn::Postgres(server.reach.single().await?)),
        }
    }

    /// A connection whose statements may stand for themselves, each of them a transaction: on PostgreSQL that saves BEGIN and COMMIT, and who
    /// reads before writing must find out in the writing statement whether what was read still stands. On SQLite it is [`Store::begin`].
    pub(crate) async fn begin_optimistic(&self) -> Result<Conn> {
        match &self.shared.engine {
            Engine::Sqlite { .. } => self.begin().await,
            Engine::Postgres(server) => Ok(Conn::Postgres(server.reach.single().await?)),
        }
    }

    /// A transaction whose reads all see the same moment.
    pub(crate) async fn snapshot(&self) -> Result<Conn> {
        match &self.shared.engine {
            Engine::Sqlite { readers, .. } => Ok(Conn::SqliteTx(readers.begin_with("BEGIN").await?)),
            Engine::Postgres(server) => Ok(Conn::Postgres(server.reach.snapshot().await?)),
        }
    }

    pub(crate) fn keys(&self) -> Option<&KeyRing> {
        self.shared.keys.as_ref()
    }

    pub(crate) fn committed(&self) -> &watch::Sender<FeedVersion> {
        &self.shared.committed
    }

    /// The server, where there is one.
    pub(crate) fn server(&self) -> Option<&Server> {
        match &self.shared.engine {
            Engine::Sqlite { .. } => None,
            Engine::Postgres(server) => Some(server),
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.shared.engine {
            Engine::Sqlite { writer, .. } => f
                .debug_struct("Store")
                .field("engine", &"sqlite")
                .field("writes", &writer.is_some())
                .finish(),
            Engine::Postgres(server) => f
                .debug_struct("Store")
                .field("engine", &"postgres")
                .field("address", &server.reach.address())
                .finish(),
        }
    }
}

//! The database's clock: the only clock that decides when a token ends or a window rolls.

use serde::{Deserialize, Serialize};

use crate::engine::Store;
use crate::error::Result;
use crate::statement::{Conn, sql};

/// A moment on the database's clock, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DbTime(pub i64);

impl DbTime {
    /// This moment moved by `ms` milliseconds; it stops at the ends of the range.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
    /// Milliseconds from `earlier` to this moment; negative if `earlier` is later.
    #[must_use]
    pub fn ms_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Store {
    /// The database's clock.
    ///
    /// # Errors
    /// Those of any read; also on a database that was never migrated, which has no clock.
    pub async fn now(&self) -> Result<DbTime> {
        self.read().await?.now().await
    }
}

impl Conn {
    /// The clock's time now. A transaction asks once, after it holds its lock, and binds the answer from then on: a wait for the lock
    /// must not be booked into the time before it.
    pub(crate) async fn now(&mut self) -> Result<DbTime> {
        Ok(DbTime(sql!(self, one, "SELECT now_ms FROM clock")?.int("now_ms")?))
    }
}

#[cfg(any(test, feature = "test-support"))]
impl Store {
    /// Tests only: replaces the clock by one that stands at `ms` until `set_test_clock` moves it.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn use_test_clock(&self, ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        // SQLite has no CREATE OR REPLACE VIEW.
        sql!(tx, exec, "DROP VIEW clock")?;
        sql!(tx, exec, "CREATE TABLE IF NOT EXISTS test_clock (now_ms BIGINT NOT NULL)")?;
        sql!(tx, exec, "DELETE FROM test_clock")?;
        sql!(tx, exec, "INSERT INTO test_clock (now_ms) VALUES ($1)", ms)?;
        sql!(tx, exec, "CREATE VIEW clock AS SELECT now_ms FROM test_clock")?;
        tx.commit().await
    }

    /// Tests only: moves the clock that `use_test_clock` put in.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn set_test_clock(&self, ms: i64) -> Result<()> {
        let mut tx = self.begin().await?;
        sql!(tx, exec, "UPDATE test_clock SET now_ms = $1", ms)?;
        tx.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::{KeyRing, SealingKey};

    #[tokio::test]
    async fn the_clock_follows_the_system_until_a_test_takes_it_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&dir.path().join("store.db"), KeyRing::single(SealingKey::generate()))
            .await
            .unwrap();
        store.migrate().await.unwrap();

        let system = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
        assert!(store.now().await.unwrap().ms_since(DbTime(system)).abs() < 60_000);

        store.use_test_clock(1_000).await.unwrap();
        assert_eq!(store.now().await.unwrap(), DbTime(1_000));
        store.set_test_clock(2_500).await.unwrap();
        assert_eq!(store.now().await.unwrap(), DbTime(2_500));
    }
}

//! Which processes serve this fleet and how far each has followed the feed.

use crate::clock::DbTime;
use crate::error::Result;
use crate::feed::FeedVersion;
use crate::fleet::Fleet;
use crate::ids::HolderId;
use crate::statement::sql;

/// How long after its stale window a silent replica's row is still there to be looked at.
const KEPT_MS: i64 = 3_600_000;

/// A process that serves this fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaView {
    /// Its holder id, fresh with each start.
    pub holder: HolderId,
    /// It starts no request on anything older than this version.
    pub acked: FeedVersion,
    /// Its last heartbeat.
    pub seen_at: DbTime,
    /// How long it may go on with what it knows after its last contact.
    pub stale_after_ms: i64,
}

impl Fleet {
    /// Notes that a replica lives and which version it acknowledges.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn heartbeat(&self, holder: HolderId, acked: FeedVersion, stale_after_ms: i64) -> Result<()> {
        let mut tx = self.store().begin().await?;
        let now = tx.now().await?;
        let upsert = "INSERT INTO replicas (fleet_id, holder, acked_version, seen_at, stale_after_ms) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (fleet_id, holder) DO UPDATE SET
                acked_version = excluded.acked_version, seen_at = excluded.seen_at, stale_after_ms = excluded.stale_after_ms";
        sql!(tx, exec, upsert, self.key(), holder.to_string(), acked.0, now.0, stale_after_ms)?;
        let forget = "DELETE FROM replicas WHERE fleet_id = $1 AND seen_at + stale_after_ms < $2";
        sql!(tx, exec, forget, self.key(), now.0 - KEPT_MS)?;
        tx.commit().await
    }

    /// Takes a replica out: it has stopped serving.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn remove_replica(&self, holder: HolderId) -> Result<()> {
        let mut tx = self.store().begin().await?;
        sql!(
            tx,
            exec,
            "DELETE FROM replicas WHERE fleet_id = $1 AND holder = $2",
            self.key(),
            holder.to_string()
        )?;
        tx.commit().await
    }

    /// Those that count: seen within their stale window.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn replicas(&self) -> Result<Vec<ReplicaView>> {
        let text = "SELECT r.holder, r.acked_version, r.seen_at, r.stale_after_ms FROM replicas r, clock c
            WHERE r.fleet_id = $1 AND r.seen_at + r.stale_after_ms > c.now_ms ORDER BY r.holder";
        let rows = sql!(self.store().read().await?, all, text, self.key())?;
        let view = |row: &crate::statement::Row| {
            Ok(ReplicaView {
                holder: row.parsed("holder", "replicas.holder")?,
                acked: FeedVersion(row.int("acked_version")?),
                seen_at: DbTime(row.int("seen_at")?),
                stale_after_ms: row.int("stale_after_ms")?,
            })
        };
        rows.iter().map(view).collect()
    }

    /// Drops every other replica: only under a locked standalone data dir.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn remove_other_replicas(&self, me: HolderId) -> Result<()> {
        let mut tx = self.store().begin().await?;
        sql!(
            tx,
            exec,
            "DELETE FROM replicas WHERE fleet_id = $1 AND holder <> $2",
            self.key(),
            me.to_string()
        )?;
        tx.commit().await
    }
}

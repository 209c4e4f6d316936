//! The change feed: one version per configuration transaction, in commit order (contracts.md §5).

use tokio::sync::watch;

use crate::clock::DbTime;
use crate::error::{Result, StoreError};
use crate::fleet::Fleet;
use crate::ids::{ProjectId, TokenId};
use crate::migrate::SchemaInfo;
use crate::statement::{Conn, Row, sql};

/// How many of the latest versions `changes` keeps. Who lags further behind drops everything it derived.
const KEPT_VERSIONS: i64 = 10_000;

/// Every so many versions the older ones are deleted, so that the bump is two statements nearly always.
const PRUNE_EVERY: i64 = 256;

/// The version of a fleet's configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeedVersion(pub i64);

/// What a change touched: whoever holds something derived from it drops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// Everything: providers, settings, a bulk act.
    Fleet,
    /// The project, its credentials, and all that hangs on it.
    Project(ProjectId),
    /// The token, its revisions or its quota.
    Token(TokenId),
}

/// One version of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The version that the transaction got.
    pub version: FeedVersion,
    /// What it touched.
    pub subject: Subject,
}

/// The head row, read in one statement.
#[derive(Clone, Copy, Debug)]
pub struct FeedHead {
    /// The latest version.
    pub version: FeedVersion,
    /// The epoch of the leader; grows with each new one.
    pub epoch: i64,
    /// The database's clock at the same moment.
    pub now: DbTime,
    /// The schema at the same moment: a newer binary may migrate while this one runs.
    pub schema: SchemaInfo,
}

impl Fleet {
    /// The head row: what a follower polls.
    ///
    /// # Errors
    /// [`StoreError::Gone`] if the fleet is not in the database any more; those of any read.
    pub async fn feed_head(&self) -> Result<FeedHead> {
        let text = "SELECT h.version, h.epoch, c.now_ms, s.version AS schema_version, s.min_reader, s.min_writer
            FROM feed_head h, clock c, schema_info s WHERE h.fleet_id = $1";
        let row = sql!(self.store().read().await?, optional, text, self.key())?;
        let row = row.ok_or_else(|| StoreError::Gone("it has no row of its own".to_owned()))?;
        Ok(FeedHead {
            version: FeedVersion(row.int("version")?),
            epoch: row.int("epoch")?,
            now: DbTime(row.int("now_ms")?),
            schema: SchemaInfo {
                version: row.int("schema_version")?,
                min_reader: row.int("min_reader")?,
                min_writer: row.int("min_writer")?,
            },
        })
    }

    /// Changes with `version > after`, ascending; `None` if some of them are no longer kept (the caller drops everything it derived).
    /// `None` too if `after` lies ahead of the head: the database was restored from an older copy.
    ///
    /// # Errors
    /// Those of any read; [`StoreError::Corrupt`].
    pub async fn changes_after(&self, after: FeedVersion) -> Result<Option<Vec<Change>>> {
        let text = "SELECT h.version AS head, c.version, c.subject_kind, c.subject_id FROM feed_head h
            LEFT JOIN changes c ON c.fleet_id = h.fleet_id AND c.version > $2 WHERE h.fleet_id = $1 ORDER BY c.version";
        let rows = sql!(self.store().read().await?, all, text, self.key(), after.0)?;
        let head = rows.first().map_or(Ok(0), |row| row.int("head"))?;
        if after.0 > head {
            return Ok(None);
        }
        let changes = rows.iter().filter_map(|row| Change::read(row).transpose()).collect::<Result<Vec<_>>>()?;
        // Versions have no gaps, so what is missing was pruned.
        let complete = changes.len() as i64 == head - after.0;
        Ok(complete.then_some(changes))
    }

    /// Wakes when a transaction of this process, or (PostgreSQL) of another one, has committed a version. A hint: the head row is the truth.
    #[must_use]
    pub fn feed_wakeups(&self) -> watch::Receiver<FeedVersion> {
        self.store().committed().subscribe()
    }

    /// Ends a configuration transaction: gives it its version, commits it and wakes the followers.
    ///
    /// If it `takes_away` something, the subject's row notes the version. That needs the version, so it stands between the bump and the
    /// row in `changes`; the order of commits stays that of versions, since the bump holds the head row until the end.
    pub(crate) async fn publish(&self, mut tx: Conn, subject: &Subject, takes_away: bool) -> Result<FeedVersion> {
        let Some(version) = self.bump(&mut tx).await? else {
            tx.rollback().await?;
            return Err(StoreError::Fenced);
        };
        if takes_away {
            self.note_take_away(&mut tx, subject, version).await?;
        }
        self.finish(tx, subject, version).await
    }

    /// Takes the next version, and with it the lock that serialises all configuration transactions until their end. `None`: fenced.
    pub(crate) async fn bump(&self, tx: &mut Conn) -> Result<Option<FeedVersion>> {
        let bump = "UPDATE feed_head SET version = version + 1 WHERE fleet_id = $1 AND epoch = COALESCE($2, epoch) RETURNING version";
        let row = sql!(tx, optional, bump, self.key(), self.epoch())?;
        row.map(|row| row.int("version").map(FeedVersion)).transpose()
    }

    /// Refuses a transaction that makes no version, and so meets no bump, if a newer leader's epoch stands. A leader that comes while it runs comes
    /// after it.
    pub(crate) async fn must_lead(&self, tx: &mut Conn) -> Result<()> {
        let Some(mine) = self.epoch() else { return Ok(()) };
        let row = sql!(tx, one, "SELECT epoch FROM feed_head WHERE fleet_id = $1", self.key())?;
        if row.int("epoch")? == mine { Ok(()) } else { Err(StoreError::Fenced) }
    }

    /// Notes on the subject's row that this version takes something away.
    pub(crate) async fn note_take_away(&self, tx: &mut Conn, subject: &Subject, version: FeedVersion) -> Result<()> {
        let project = "UPDATE projects SET takeaway_version = $3 WHERE fleet_id = $1 AND id = $2";
        let token = "UPDATE tokens SET takeaway_version = $3 WHERE fleet_id = $1 AND id = $2";
        match subject {
            Subject::Fleet => 0,
            Subject::Project(id) => sql!(tx, exec, project, self.key(), id.to_string(), version.0)?,
            Subject::Token(id) => sql!(tx, exec, token, self.key(), id.to_string(), version.0)?,
        };
        Ok(())
    }

    /// The row in `changes`, the commit, and the wake-up.
    pub(crate) async fn finish(&self, mut tx: Conn, subject: &Subject, version: FeedVersion) -> Result<FeedVersion> {
        let (kind, id) = match subject {
            Subject::Fleet => ("Fleet", String::new()),
            Subject::Project(id) => ("Project", id.to_string()),
            Subject::Token(id) => ("Token", id.to_string()),
        };
        let insert = "INSERT INTO changes (fleet_id, version, subject_kind, subject_id) VALUES ($1, $2, $3, $4)";
        sql!(tx, exec, insert, self.key(), version.0, kind, id)?;
        if version.0 % PRUNE_EVERY == 0 {
            sql!(
                tx,
                exec,
                "DELETE FROM changes WHERE fleet_id = $1 AND version <= $2",
                self.key(),
                version.0 - KEPT_VERSIONS
            )?;
        }
        tx.commit().await?;
        // Two commits may get here in the other order; the hint only ever rises.
        self.store().committed().send_if_modified(|seen| {
            let newer = version > *seen;
            *seen = version.max(*seen);
            newer
        });
        Ok(version)
    }

    /// Ends a configuration transaction that had nothing to change: nothing of it stays, the version stands where it stood.
    pub(crate) async fn unchanged(&self, mut tx: Conn) -> Result<FeedVersion> {
        let row = sql!(tx, one, "SELECT version FROM feed_head WHERE fleet_id = $1", self.key())?;
        tx.rollback().await?;
        Ok(FeedVersion(row.int("version")?))
    }
}

impl Change {
    /// `None` for the row of a head without changes.
    fn read(row: &Row) -> Result<Option<Self>> {
        let Some(version) = row.optional_int("version")? else { return Ok(None) };
        let subject = match row.text("subject_kind")?.as_str() {
            "Project" => Subject::Project(row.parsed("subject_id", "changes.subject_id")?),
            "Token" => Subject::Token(row.parsed("subject_id", "changes.subject_id")?),
            _ => Subject::Fleet,
        };
        Ok(Some(Self {
            version: FeedVersion(version),
            subject,
        }))
    }
}

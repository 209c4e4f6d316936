//! LISTEN: hears of other processes' commits and wakes the followers of this one. Only a hint; polling the head row stays the truth.
//!
//! It also finds out whether a transaction pooler stands in between: there a notification never arrives, not even one's own, and statements
//! must not be kept from one transaction to the next.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use crate::engine::{Path, Reach, Store};
use crate::error::{Result, StoreError};
use crate::feed::FeedVersion;
use crate::ids::FleetId;
use crate::statement::{Conn, sql};

/// A notification to oneself arrives within this, or never (contracts.md §5).
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// So often a quiet connection is asked whether it still hears: one that a firewall has dropped says nothing of it.
const QUIET: Duration = Duration::from_secs(20);

/// A session's mark, and how often it is looked for.
const MARK: &str = "llm_proxy.mark";
const MARKS: u32 = 3;

/// Between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Between two looks at whether a pooler is still there.
const POOLED_PAUSE: Duration = Duration::from_secs(300);

impl Store {
    /// Whether commits of other processes wake this one at once (PostgreSQL, no pooler in between). Where not, they are found by polling.
    #[must_use]
    pub fn wakes_by_notification(&self) -> bool {
        self.server().is_some_and(|server| server.reach.is_listening())
    }

    /// Starts to listen for a fleet's commits, once per store. SQLite has no other processes to hear of.
    pub(crate) fn listen(&self, fleet: FleetId) {
        if let Some(server) = self.server() {
            let ear = Ear {
                reach: server.reach.clone(),
                committed: self.committed().clone(),
                channel: format!("llm_proxy_{fleet}"),
            };
            server.listener.get_or_init(|| tokio::spawn(ear.run()).abort_handle());
        }
    }
}

/// The task's state.
struct Ear {
    reach: Reach,
    committed: watch::Sender<FeedVersion>,
    channel: String,
}

impl Ear {
    async fn run(self) {
        let (mut pause, mut said) = (FIRST_PAUSE, false);
        loop {
            let ended = self.session().await;
            let listened = self.reach.is_listening();
            self.reach.listens(false);
            match ended {
                Ok(Ended::Pooled) => {
                    if !std::mem::replace(&mut said, true) {
                        let server = self.reach.address();
                        tracing::warn!(
                            server,
                            "notifications do not arrive here, so a transaction pooler stands in between: changes are found by polling once a second"
                        );
                    }
                    tokio::time::sleep(POOLED_PAUSE).await;
                    continue;
                }
                Ok(Ended::Lost) => tracing::debug!("the connection that listens was lost: connecting again"),
                Err(error) => tracing::debug!(%error, "cannot listen for changes: they are found by polling meanwhile"),
            }
            pause = if listened { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            tokio::time::sleep(pause).await;
        }
    }

    /// One connection's life.
    async fn session(&self) -> Result<Ended> {
        // A connection beside the pool: it is never lent, and the pool's limits are for work.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(LONGEST_PAUSE)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(self.reach.connect_options().clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        // In this order: behind a pooler a session that was told to listen is another client's next, and what it hears confuses that one.
        if self.shares_sessions(&mut listener).await? || !self.hears_anything(&mut listener).await? {
            self.reach.found_path(Path::Pooled);
            return Ok(Ended::Pooled);
        }
        listener.listen(&self.channel).await?;
        self.reach.found_path(Path::Direct);
        self.reach.listens(true);
        loop {
            match timeout(QUIET, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => self.wake(notification.payload()),
                Ok(Ok(None)) => return Ok(Ended::Lost),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if self.hears(&mut listener, &self.channel).await? => {}
                Err(_) => return Ok(Ended::Lost),
            }
        }
    }

    /// Whether another connection of ours meets the session of this one: with a mark that is set in it. A pooler with idle sessions hands out
    /// the one that was used last, and with a single one it makes us wait. (Poolers that take turns are found out by what comes next.)
    async fn shares_sessions(&self, listener: &mut PgListener) -> Result<bool> {
        for _ in 0..MARKS {
            let mark = Uuid::new_v4().to_string();
            let set = sqlx::raw_sql(AssertSqlSafe(format!("SELECT set_config('{MARK}', '{mark}', false)")));
            listener.execute(set).await?;
            let mut other = Conn::Postgres(self.reach.begin().await?);
            let of_other = sql!(other, one, "SELECT COALESCE(current_setting($1, true), '') AS mark", MARK)?.text("mark")?;
            // While the other one's transaction holds its session.
            let again = sqlx::raw_sql("SELECT current_setting('llm_proxy.mark', true)");
            let own = match timeout(HEARD_WITHIN, listener.fetch_one(again)).await {
                Ok(row) => row?.try_get::<Option<String>, _>(0)?,
                Err(_) => None,
            };
            other.rollback().await?;
            if of_other == mark || own.as_deref() != Some(&mark) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a notification arrives on a channel that nobody else knows.
    async fn hears_anything(&self, listener: &mut PgListener) -> Result<bool> {
        let channel = format!("llm_proxy_probe_{}", Uuid::new_v4());
        listener.listen(&channel).await?;
        let hears = self.hears(listener, &channel).await?;
        listener.unlisten(&channel).await?;
        Ok(hears)
    }

    /// Whether a notification to oneself arrives.
    async fn hears(&self, listener: &mut PgListener, channel: &str) -> Result<bool> {
        let probe = format!("probe {}", Uuid::new_v4());
        self.reach.notify(channel, &probe).await?;
        let heard = async {
            while let Some(notification) = listener.try_recv().await? {
                if notification.payload() == probe {
                    return Ok(true);
                }
                self.wake(notification.payload());
            }
            Err(StoreError::Unavailable("the connection that listens was lost".into()))
        };
        timeout(HEARD_WITHIN, heard).await.unwrap_or(Ok(false))
    }

    fn wake(&self, payload: &str) {
        if let Ok(version) = payload.parse().map(FeedVersion) {
            self.committed.send_if_modified(|seen| {
                let newer = version > *seen;
                *seen = version.max(*seen);
                newer
            });
        }
    }
}

/// How a session ended.
enum Ended {
    /// Nothing was heard: a pooler.
    Pooled,
    /// It was heard, and the connection broke.
    Lost,
}

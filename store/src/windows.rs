//! The quotas of windows: opened by the first request of each window, and removed some time after its end.
//! It refuses to know what is leased of them.

use std::collections::HashMap;

use crate::clock::DbTime;
use crate::error::{Result, StoreError};
use crate::feed::Subject;
use crate::fleet::Fleet;
use crate::grants::QuotaRecord;
use crate::ids::{QuotaId, TokenId};
use crate::limits::{GrantedLimit, Limit, LimitUnit};
use crate::quota::QuotaView;
use crate::statement::{Conn, Row, sql, sql_built, stored};
use crate::window::Window;

/// How many rows go into one statement; engines bound how many values one takes.
const AT_ONCE: usize = 500;
/// How many old windows one transaction removes, so that nobody waits long behind it, and how many such transactions one sweep makes of a kind.
const PURGED_AT_ONCE: i64 = 500;
const PURGES: usize = 20;

/// One limit in one window: what a quota's row stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowQuota {
    /// The limit.
    pub limit: GrantedLimit,
    /// Where the window begins, on the database's clock.
    pub start: DbTime,
}

/// What tells one quota's row from another: subject, unit, window and its start, as they are stored.
type Key = (&'static str, String, &'static str, &'static str, i64);

impl WindowQuota {
    fn key(&self) -> Key {
        let (kind, id) = match self.limit.subject {
            Subject::Token(id) => ("Token", id.to_string()),
            Subject::Project(id) => ("Project", id.to_string()),
            Subject::Fleet => ("Fleet", String::new()),
        };
        (kind, id, self.limit.unit.as_stored(), self.limit.window.as_stored(), self.start.0)
    }
}

/// A quota's row, as far as opening needs it.
struct Found {
    id: QuotaId,
    max_units: u64,
    limits_version: i64,
}

impl Fleet {
    /// The quotas of these limits in these windows, in the same order; those that are not there are made. A row that was made under older limits
    /// gets the newer ones; one that was made under newer limits keeps them.
    ///
    /// # Errors
    /// Those of any write. Some may have been opened then: the same again is safe.
    pub async fn open_quotas(&self, wanted: &[WindowQuota]) -> Result<Vec<QuotaRecord>> {
        let mut records = Vec::with_capacity(wanted.len());
        for some in wanted.chunks(AT_ONCE) {
            let mut conn = self.store().begin_optimistic().await?;
            let mut found = self.find_quotas(&mut conn, some).await?;
            let mut missing: Vec<_> = some.iter().filter(|quota| !found.contains_key(&quota.key())).collect();
            if !missing.is_empty() {
                // One order for everybody: two that open the same windows never wait for each other crosswise.
                missing.sort_by_key(|quota| quota.key());
                missing.dedup_by_key(|quota| quota.key());
                self.insert_quotas(&mut conn, &missing).await?;
                found = self.find_quotas(&mut conn, some).await?;
            }
            for quota in some {
                let Some(found) = found.get_mut(&quota.key()) else {
                    return Err(StoreError::NotFound {
                        what: format!(
                            "the {} quota that was just opened for {:?}",
                            quota.limit.unit.as_stored(),
                            quota.limit.subject
                        ),
                    });
                };
                if found.limits_version < quota.limit.version {
                    let update = "UPDATE quotas SET max_units = $3, limits_version = $4, version = version + 1
                        WHERE fleet_id = $1 AND id = $2 AND limits_version < $4";
                    let (max, version) = (stored(quota.limit.max_units), quota.limit.version);
                    sql!(conn, exec, update, self.key(), found.id.0, max, version)?;
                    (found.max_units, found.limits_version) = (quota.limit.max_units, version);
                }
                records.push(QuotaRecord {
                    id: found.id,
                    max_units: found.max_units,
                });
            }
            conn.commit().await?;
        }
        Ok(records)
    }

    async fn find_quotas(&self, conn: &mut Conn, wanted: &[WindowQuota]) -> Result<HashMap<Key, Found>> {
        let rows = sql_built!(conn, wanted.len() == 1, |text| {
            text.push(
                "SELECT id, subject_kind, subject_id, unit, window_kind, window_start, max_units, limits_version FROM quotas
                WHERE period = 0 AND fleet_id = ",
            );
            text.push_bind(self.key())
                .push(" AND (subject_kind, subject_id, unit, window_kind, window_start) IN (");
            text.push_values(wanted, |mut row, quota| {
                let (kind, id, unit, window, start) = quota.key();
                row.push_bind(kind).push_bind(id).push_bind(unit).push_bind(window).push_bind(start);
            });
            text.push(")");
        })?;
        let by_text: HashMap<_, _> = wanted
            .iter()
            .map(|quota| quota.key())
            .map(|key| ((key.0.to_owned(), key.1.clone(), key.2.to_owned(), key.3.to_owned(), key.4), key))
            .collect();
        let mut found = HashMap::with_capacity(rows.len());
        for row in rows {
            let text = |name| row.text(name);
            let stored = (
                text("subject_kind")?,
                text("subject_id")?,
                text("unit")?,
                text("window_kind")?,
                row.int("window_start")?,
            );
            if let Some(key) = by_text.get(&stored) {
                let one = Found {
                    id: QuotaId(row.int("id")?),
                    max_units: crate::statement::count(row.optional_int("max_units")?.unwrap_or(i64::MAX)),
                    limits_version: row.int("limits_version")?,
                };
                found.insert(key.clone(), one);
            }
        }
        Ok(found)
    }

    async fn insert_quotas(&self, conn: &mut Conn, missing: &[&WindowQuota]) -> Result<Vec<Row>> {
        sql_built!(conn, missing.len() == 1, |text| {
            text.push("INSERT INTO quotas (fleet_id, period, subject_kind, subject_id, unit, window_kind, window_start, max_units, limits_version) ");
            text.push_values(missing, |mut row, quota| {
                let (kind, id, unit, window, start) = quota.key();
                row.push_bind(self.key()).push_bind(0_i64);
                row.push_bind(kind).push_bind(id).push_bind(unit).push_bind(window).push_bind(start);
                row.push_bind(stored(quota.limit.max_units)).push_bind(quota.limit.version);
            });
            text.push(" ON CONFLICT (fleet_id, subject_kind, subject_id, unit, period, window_kind, window_start) DO NOTHING");
        })
    }

    /// What is used of a limit in the window around now; `None` if nobody has drawn on it in this window.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn window_quota(&self, subject: Subject, unit: LimitUnit, window: Window) -> Result<Option<QuotaView>> {
        let mut conn = self.store().read().await?;
        let (start, _) = window.around(conn.now().await?);
        let limit = GrantedLimit {
            subject,
            unit,
            window,
            max_units: 0,
            action: crate::limits::LimitAction::Block,
            version: 0,
        };
        let (kind, id, unit, window, start) = WindowQuota { limit, start }.key();
        let text = "SELECT id AS quota_id, max_units, used, reserved, forfeited FROM quotas
            WHERE period = 0 AND fleet_id = $1 AND subject_kind = $2 AND subject_id = $3 AND unit = $4 AND window_kind = $5 AND window_start = $6";
        let row = sql!(conn, optional, text, self.key(), kind, id, unit, window, start)?;
        row.as_ref().map(QuotaView::read).transpose().map(Option::flatten)
    }

    /// Removes quotas of windows that ended long ago, with their leases. Returns how many.
    ///
    /// # Errors
    /// Those of any write; what was removed until then stays removed.
    pub async fn purge_windows(&self) -> Result<u64> {
        let mut purged = 0;
        let now = self.store().now().await?;
        for window in Window::ENDING {
            let before = now.plus_ms(-window.kept_ms());
            for _ in 0..PURGES {
                let some = self.purge_some(window, before).await?;
                purged += some;
                if some < crate::statement::count(PURGED_AT_ONCE) {
                    break;
                }
            }
        }
        Ok(purged)
    }

    async fn purge_some(&self, window: Window, before: DbTime) -> Result<u64> {
        let old = "SELECT id FROM quotas WHERE fleet_id = $1 AND window_kind = $2 AND window_kind <> 'Lifetime' AND window_start < $3
            ORDER BY id LIMIT $4";
        let mut reader = self.store().read().await?;
        let rows = sql!(reader, all, old, self.key(), window.as_stored(), before.0, PURGED_AT_ONCE)?;
        drop(reader);
        if rows.is_empty() {
            return Ok(0);
        }
        let ids = rows.iter().map(|row| row.int("id")).collect::<Result<Vec<_>>>()?;
        let mut tx = self.store().begin().await?;
        // First the lock of every ledger transaction: a report that is on its way is waited for, a later one finds nothing.
        for text in [
            "UPDATE quotas SET version = version + 1 WHERE id IN (",
            "DELETE FROM leases WHERE quota_id IN (",
            "DELETE FROM quotas WHERE id IN (",
        ] {
            sql_built!(tx, false, |built| {
                built.push(text);
                let mut list = built.separated(", ");
                for id in &ids {
                    list.push_bind(*id);
                }
                built.push(")");
            })?;
        }
        tx.commit().await?;
        Ok(ids.len() as u64)
    }

    /// Writes a token's own limits; its row is locked.
    pub(crate) async fn put_token_limits(&self, tx: &mut Conn, token: TokenId, limits: &[Limit]) -> Result<()> {
        let update = "UPDATE tokens SET limits = $3, limits_version = limits_version + 1 WHERE fleet_id = $1 AND id = $2";
        sql!(tx, exec, update, self.key(), token.to_string(), crate::limits::to_text(limits))?;
        Ok(())
    }
}

//! The ledger: quotas and the blocks leased from them (contracts.md §3). Exact without a round trip per request.
//!
//! Every transaction locks its quotas first, in ascending order, by raising their version; only then it reads the clock and the leases,
//! lets `ledger` compute, and writes. Under that lock read-modify-write is sound on both engines.

use std::collections::BTreeMap;

use crate::clock::DbTime;
use crate::error::Result;
use crate::fleet::Fleet;
use crate::ids::{HolderId, QuotaId};
use crate::ledger::{Lease, LeaseState, Quota, Report};
use crate::statement::{Conn, Row, count, sql, stored};

/// How many quotas one sweeping transaction locks, so that settling never waits long behind it.
const SWEPT_AT_ONCE: usize = 64;

/// A quota as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaView {
    /// Its row.
    pub id: QuotaId,
    /// The limit, in units.
    pub max_units: u64,
    /// Reported as spent.
    pub used: u64,
    /// Out in live leases and not yet reported as spent.
    pub reserved: u64,
    /// Lost with leases that expired, unless their holders still report.
    pub forfeited: u64,
}

impl QuotaView {
    /// From a row that selects the quota's columns, `id` as `quota_id`. `None` where there is no limit.
    pub(crate) fn read(row: &Row) -> Result<Option<Self>> {
        let (Some(id), Some(max_units)) = (row.optional_int("quota_id")?, row.optional_int("max_units")?) else {
            return Ok(None);
        };
        Ok(Some(Self {
            id: QuotaId(id),
            max_units: count(max_units),
            used: row.count("used")?,
            reserved: row.count("reserved")?,
            forfeited: row.count("forfeited")?,
        }))
    }
}

/// A holder's whole state for one quota: absolute figures, so that sending it twice, or losing the answer, changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseReport {
    /// The quota that it is about.
    pub quota: QuotaId,
    /// Units spent by this holder since its start, cumulative.
    pub spent: u64,
    /// Units granted to this holder since its start that it still claims, cumulative, ≥ spent. Less than the row's amount gives the
    /// difference back.
    pub amount: u64,
    /// How many more units it would like; 0 = only settle. The ledger's block policy caps it.
    pub want: u64,
}

/// What the ledger says to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseAnswer {
    /// The quota that it is about.
    pub quota: QuotaId,
    /// The holder's cumulative amount now.
    pub amount: u64,
    /// What the ledger has booked as spent by this holder since its start.
    pub spent: u64,
    /// The limit; `i64::MAX` if it was removed.
    pub max_units: u64,
    /// Reported as spent by all holders.
    pub used: u64,
    /// Lost by all holders.
    pub forfeited: u64,
    /// Another holder waits: return what is not taken at the next settle.
    pub wanted: bool,
    /// used + forfeited ≥ max_units: nothing will come free again.
    pub exhausted: bool,
    /// Without another report until then the rest is forfeited.
    pub expires_at: DbTime,
}

impl Fleet {
    /// Settles and grants, one transaction for all reports (locked in ascending quota id). A quota that no longer exists is missing from
    /// the answers. After an error nothing or all of it may have happened: the same report again is safe.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn settle(&self, holder: HolderId, reports: &[LeaseReport]) -> Result<Vec<LeaseAnswer>> {
        if reports.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.store().begin().await?;
        let mut quotas = BTreeMap::new();
        let ids: std::collections::BTreeSet<QuotaId> = reports.iter().map(|report| report.quota).collect();
        for id in ids {
            if let Some(quota) = self.lock(&mut tx, id).await? {
                quotas.insert(id, quota);
            }
        }
        let now = tx.now().await?;
        let mut answers = Vec::with_capacity(reports.len());
        for report in reports {
            if let Some(quota) = quotas.get_mut(&report.quota) {
                answers.push(self.settle_one(&mut tx, quota, holder, report, now).await?);
            }
        }
        tx.commit().await?;
        Ok(answers)
    }

    /// Moves the rest of every expired lease from reserved to forfeited. Returns how many leases lost something.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn sweep_expired_leases(&self) -> Result<u64> {
        let overdue = "SELECT DISTINCT quota_id FROM leases
            WHERE fleet_id = $1 AND state = 'Live' AND expires_at <= (SELECT now_ms FROM clock) ORDER BY quota_id";
        let quotas = sql!(self.store().read().await?, all, overdue, self.key())?;
        self.forfeit(&quotas, |_, lease, now| lease.is_overdue(now), Quota::expire).await
    }

    /// Forfeits at once the rest of every lease of other holders: only for a locked standalone data dir, whose lock proves them dead.
    /// Returns how many leases lost something now.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn forfeit_other_holders(&self, me: HolderId) -> Result<u64> {
        let others = "SELECT DISTINCT quota_id FROM leases WHERE fleet_id = $1 AND holder <> $2 AND state <> 'Closed' ORDER BY quota_id";
        let me = me.to_string();
        let quotas = sql!(self.store().read().await?, all, others, self.key(), me.as_str())?;
        self.forfeit(
            &quotas,
            |holder, lease, _| holder != me && lease.state != LeaseState::Closed,
            Quota::close,
        )
        .await
    }

    /// The lock of a ledger transaction, and the quota under it.
    async fn lock(&self, tx: &mut Conn, id: QuotaId) -> Result<Option<Quota>> {
        let lock = "UPDATE quotas SET version = version + 1 WHERE fleet_id = $1 AND id = $2
            RETURNING max_units, used, reserved, forfeited, wanted";
        let Some(row) = sql!(tx, optional, lock, self.key(), id.0)? else {
            return Ok(None);
        };
        Ok(Some(Quota {
            max: count(row.optional_int("max_units")?.unwrap_or(i64::MAX)),
            used: row.count("used")?,
            reserved: row.count("reserved")?,
            forfeited: row.count("forfeited")?,
            wanted: row.flag("wanted")?,
        }))
    }

    async fn settle_one(&self, tx: &mut Conn, quota: &mut Quota, holder: HolderId, report: &LeaseReport, now: DbTime) -> Result<LeaseAnswer> {
        let holder = holder.to_string();
        let leases = "SELECT holder, amount, spent, expires_at, state FROM leases
            WHERE quota_id = $1 AND (holder = $2 OR (state = 'Live' AND expires_at <= $3))";
        let (mut own, mut is_new) = (Lease::none(now), true);
        for row in sql!(tx, all, leases, report.quota.0, holder.as_str(), now.0)? {
            let (of, mut lease) = (row.text("holder")?, read_lease(&row)?);
            if of == holder {
                (own, is_new) = (lease, false);
            } else {
                quota.expire(&mut lease);
                write_state(tx, report.quota, &of, &lease).await?;
            }
        }

        let wanted = quota.report(
            &mut own,
            Report {
                spent: report.spent,
                amount: report.amount,
                want: report.want,
            },
            now,
        );

        // Who asked in vain and never had anything leaves no row behind.
        if !(is_new && own.amount == 0) {
            let upsert = "INSERT INTO leases (fleet_id, quota_id, holder, amount, spent, expires_at, state) VALUES ($1, $2, $3, $4, $5, $6, $7)
                ON CONFLICT (quota_id, holder) DO UPDATE SET
                    amount = excluded.amount, spent = excluded.spent, expires_at = excluded.expires_at, state = excluded.state";
            let (amount, spent, state) = (stored(own.amount), stored(own.spent), own.state.as_stored());
            sql!(
                tx,
                exec,
                upsert,
                self.key(),
                report.quota.0,
                holder.as_str(),
                amount,
                spent,
                own.expires_at.0,
                state
            )?;
        }
        write_quota(tx, report.quota, quota).await?;
        Ok(LeaseAnswer {
            quota: report.quota,
            amount: own.amount,
            spent: own.spent,
            max_units: quota.max,
            used: quota.used,
            forfeited: quota.forfeited,
            wanted,
            exhausted: quota.is_exhausted(),
            expires_at: own.expires_at,
        })
    }

    /// Applies `change` to those leases of these quotas that are still `due` under the lock.
    async fn forfeit(&self, quotas: &[Row], due: impl Fn(&str, &Lease, DbTime) -> bool, change: fn(&mut Quota, &mut Lease)) -> Result<u64> {
        let mut lost = 0;
        for some in quotas.chunks(SWEPT_AT_ONCE) {
            let mut tx = self.store().begin().await?;
            let mut locked = Vec::with_capacity(some.len());
            for row in some {
                let id = QuotaId(row.int("quota_id")?);
                if let Some(quota) = self.lock(&mut tx, id).await? {
                    locked.push((id, quota));
                }
            }
            let now = tx.now().await?;
            for (id, mut quota) in locked {
                for row in sql!(
                    tx,
                    all,
                    "SELECT holder, amount, spent, expires_at, state FROM leases WHERE quota_id = $1",
                    id.0
                )? {
                    let (holder, mut lease) = (row.text("holder")?, read_lease(&row)?);
                    if due(&holder, &lease, now) {
                        lost += u64::from(lease.state == LeaseState::Live && lease.rest() > 0);
                        change(&mut quota, &mut lease);
                        write_state(&mut tx, id, &holder, &lease).await?;
                    }
                }
                write_quota(&mut tx, id, &quota).await?;
            }
            tx.commit().await?;
        }
        Ok(lost)
    }
}

fn read_lease(row: &Row) -> Result<Lease> {
    Ok(Lease {
        amount: row.count("amount")?,
        spent: row.count("spent")?,
        expires_at: DbTime(row.int("expires_at")?),
        state: row.parsed("state", "leases.state")?,
    })
}

async fn write_state(tx: &mut Conn, id: QuotaId, holder: &str, lease: &Lease) -> Result<()> {
    sql!(
        tx,
        exec,
        "UPDATE leases SET state = $3 WHERE quota_id = $1 AND holder = $2",
        id.0,
        holder,
        lease.state.as_stored()
    )?;
    Ok(())
}

async fn write_quota(tx: &mut Conn, id: QuotaId, quota: &Quota) -> Result<()> {
    let text = "UPDATE quotas SET used = $2, reserved = $3, forfeited = $4, wanted = $5 WHERE id = $1";
    sql!(
        tx,
        exec,
        text,
        id.0,
        stored(quota.used),
        stored(quota.reserved),
        stored(quota.forfeited),
        quota.wanted
    )?;
    Ok(())
}

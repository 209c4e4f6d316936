//! The ledger: quotas and the blocks leased from them (contracts.md §3). Exact without a round trip per request.
//!
//! A ledger transaction locks its quotas first, in ascending order, by raising their version. Either it does so before it reads the clock and
//! the leases and lets `ledger` compute; or, where a settlement saves round trips, it raises exactly the version that was read, and a quota
//! that has moved on is read again. Both make read-modify-write sound on both engines.

use std::collections::BTreeMap;

use crate::clock::DbTime;
use crate::error::Result;
use crate::fleet::Fleet;
use crate::ids::{HolderId, QuotaId};
use crate::ledger::{Lease, LeaseState, Quota, Report};
use crate::statement::{Conn, Row, count, sql, sql_built, stored};

/// How often a settlement is tried without a lock in front; with many replicas on one quota few attempts fail, and with very many the lock's
/// queue is fairer.
const OPTIMISTIC_ATTEMPTS: u32 = 3;

/// How many quotas go into one statement; engines bound how many values one takes.
const QUOTAS_AT_ONCE: usize = 1_000;

/// How long requests may still run in a process that is cut off from the database: twice its stale window.
const SLOTS_KEPT_MS: i64 = 600_000;

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
    /// Units used beyond what was granted, cumulative: of what is known only afterwards. Booked as used, on top of `spent`.
    pub overrun: u64,
    /// How many more units it would like; 0 = only settle. The ledger's block policy caps it.
    pub want: u64,
    /// Fewer than so many are of no use to it: one request needs them. 1 for requests.
    pub need: u64,
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
    /// What it has booked as this holder's overrun since its start.
    pub overrun: u64,
    /// The limit; `i64::MAX` if it was removed.
    pub max_units: u64,
    /// Reported as spent by all holders.
    pub used: u64,
    /// Lost by all holders.
    pub forfeited: u64,
    /// Another holder waits: return what is not taken at the next settle.
    pub wanted: bool,
    /// used + forfeited ≥ max_units: nothing will come free again by itself, and the caller may say so as final. Two things can still lift it:
    /// a raised limit, which comes with a change of the token, and a holder whose lease had expired and that reports after all (a process
    /// that was paused, never one that died): what it gives back is free again. So who caches this asks again now and then.
    pub exhausted: bool,
    /// Without another report until then the rest is forfeited.
    pub expires_at: DbTime,
}

impl Fleet {
    /// Settles and grants, for each quota in one step; several reports on one quota are taken one after the other. A quota that no longer
    /// exists is missing from the answers. After an error any of them may have happened: the same reports again are safe.
    ///
    /// On PostgreSQL this takes two statements, however many quotas there are, and no BEGIN or COMMIT: the writing one begins with the lock
    /// and passes over a quota that another ledger transaction has moved since it was read. Those are tried again, in the end under a lock
    /// that is taken before reading (contracts.md §3).
    ///
    /// # Errors
    /// Those of any write.
    pub async fn settle(&self, holder: HolderId, reports: &[LeaseReport]) -> Result<Vec<LeaseAnswer>> {
        let mut settling = Settling::new(holder, reports);
        for _ in 0..OPTIMISTIC_ATTEMPTS {
            if settling.is_done() {
                break;
            }
            let mut conn = self.store().begin_optimistic().await?;
            let answers = self.settle_all(&mut conn, &settling).await?;
            conn.commit().await?;
            settling.answered(answers);
        }
        if !settling.is_done() {
            let mut tx = self.store().begin().await?;
            for quota in settling.left.keys() {
                self.lock(&mut tx, *quota).await?;
            }
            let answers = self.settle_all(&mut tx, &settling).await?;
            tx.commit().await?;
            settling.answered(answers);
        }
        Ok(settling.answers.into_iter().flatten().collect())
    }

    /// Reads what is left to settle, lets `ledger` compute, and writes. Returns what became of each quota; one that has moved on meanwhile is
    /// missing.
    async fn settle_all(&self, conn: &mut Conn, settling: &Settling<'_>) -> Result<BTreeMap<QuotaId, Vec<(usize, LeaseAnswer)>>> {
        let mut outcome = BTreeMap::new();
        for quotas in settling.left.keys().collect::<Vec<_>>().chunks(QUOTAS_AT_ONCE) {
            let (mut entries, now) = self.read_entries(conn, &settling.holder, quotas).await?;
            let mut computed = BTreeMap::new();
            for (quota, entry) in &mut entries {
                let answers = settling.left[quota].iter().map(|&at| (at, entry.settle(&settling.reports[at], now)));
                computed.insert(*quota, answers.collect());
            }
            // What does not exist is answered by nothing.
            let gone = quotas.iter().filter(|quota| !entries.contains_key(quota));
            outcome.extend(gone.map(|&&quota| (quota, Vec::new())));
            if entries.is_empty() {
                continue;
            }
            for row in self.write_entries(conn, &settling.holder, &entries, now).await? {
                let quota = QuotaId(row.int("quota_id")?);
                outcome.extend(computed.remove_entry(&quota));
            }
        }
        Ok(outcome)
    }

    /// The quotas, of their leases the holder's own and those that are overdue, and the clock: one statement, so all of one moment.
    async fn read_entries(&self, conn: &mut Conn, holder: &str, quotas: &[&QuotaId]) -> Result<(BTreeMap<QuotaId, Entry>, DbTime)> {
        let rows = sql_built!(conn, quotas.len() == 1, |text| {
            text.push(
                "SELECT c.now_ms, q.id, q.version, q.max_units, q.used, q.reserved, q.forfeited, q.wanted,
                    l.holder, l.amount, l.spent, l.overrun, l.expires_at, l.state
                FROM clock c CROSS JOIN quotas q LEFT JOIN leases l
                    ON l.quota_id = q.id AND ((l.state = 'Live' AND l.expires_at <= c.now_ms) OR l.holder = ",
            );
            text.push_bind(holder.to_owned())
                .push(") WHERE q.fleet_id = ")
                .push_bind(self.key())
                .push(" AND q.id IN (");
            let mut list = text.separated(", ");
            for quota in quotas {
                list.push_bind(quota.0);
            }
            text.push(")");
        })?;
        let (mut entries, mut now) = (BTreeMap::<QuotaId, Entry>::new(), DbTime::default());
        for row in rows {
            now = DbTime(row.int("now_ms")?);
            let id = QuotaId(row.int("id")?);
            let entry = match entries.entry(id) {
                std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => place.insert(Entry {
                    id,
                    version: row.int("version")?,
                    quota: read_quota(&row)?,
                    own: Lease::none(now),
                    is_new: true,
                }),
            };
            match row.optional_text("holder")? {
                None => {}
                Some(of) if of == holder => (entry.own, entry.is_new) = (read_lease(&row)?, false),
                // The writing statement marks the same leases.
                Some(_) => entry.quota.expire(&mut read_lease(&row)?),
            }
        }
        Ok((entries, now))
    }

    /// Writes each quota and the holder's lease, in ascending order. Returns a row for each that still stood as it was read.
    async fn write_entries(&self, conn: &mut Conn, holder: &str, entries: &BTreeMap<QuotaId, Entry>, now: DbTime) -> Result<Vec<Row>> {
        sql_built!(conn, entries.len() == 1, |text| {
            text.push(
                "INSERT INTO ledger_entries (fleet_id, quota_id, version, used, reserved, forfeited, wanted,
                    holder, amount, spent, overrun, expires_at, state, now_ms) ",
            );
            text.push_values(entries.values(), |mut row, entry| {
                let Entry { quota, own, .. } = entry;
                row.push_bind(self.key()).push_bind(entry.id.0).push_bind(entry.version);
                row.push_bind(stored(quota.used))
                    .push_bind(stored(quota.reserved))
                    .push_bind(stored(quota.forfeited));
                row.push_bind(quota.wanted).push_bind(holder.to_owned());
                row.push_bind(stored(own.amount))
                    .push_bind(stored(own.spent))
                    .push_bind(stored(own.overrun));
                row.push_bind(own.expires_at.0);
                row.push_bind(entry.keeps_lease().then_some(own.state.as_stored())).push_bind(now.0);
            });
            text.push(" RETURNING quota_id");
        })
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
        let lost = self
            .forfeit(
                &quotas,
                |holder, lease, _| holder != me && lease.state != LeaseState::Closed,
                Quota::close,
            )
            .await?;
        self.release_slots_of_the_dead().await?;
        Ok(lost)
    }

    /// Frees what dead holders had leased of requests in flight: of those known to be dead at once, of others when their leases have been expired
    /// for ten minutes. Returns how many leases gave something back.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn release_slots_of_the_dead(&self) -> Result<u64> {
        let dead = "SELECT DISTINCT l.quota_id FROM quotas q JOIN leases l ON l.quota_id = q.id
            WHERE q.fleet_id = $1 AND q.unit = 'InFlight' AND q.forfeited > 0 AND l.state <> 'Live' AND l.amount > l.spent ORDER BY l.quota_id";
        let quotas = sql!(self.store().read().await?, all, dead, self.key())?;
        let is_dead = |_: &str, lease: &Lease, now: DbTime| match lease.state {
            LeaseState::Live => false,
            LeaseState::Expired => lease.expires_at.plus_ms(SLOTS_KEPT_MS) <= now,
            LeaseState::Closed => true,
        };
        self.forfeit(
            &quotas,
            |holder, lease, now| lease.rest() > 0 && is_dead(holder, lease, now),
            Quota::release,
        )
        .await
    }

    /// The lock of a ledger transaction, and the quota under it.
    async fn lock(&self, tx: &mut Conn, id: QuotaId) -> Result<Option<Quota>> {
        let lock = "UPDATE quotas SET version = version + 1 WHERE fleet_id = $1 AND id = $2
            RETURNING max_units, used, reserved, forfeited, wanted";
        let row = sql!(tx, optional, lock, self.key(), id.0)?;
        row.as_ref().map(read_quota).transpose()
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
                    "SELECT holder, amount, spent, overrun, expires_at, state FROM leases WHERE quota_id = $1",
                    id.0
                )? {
                    let (holder, mut lease) = (row.text("holder")?, read_lease(&row)?);
                    if due(&holder, &lease, now) {
                        let before = lease.clone();
                        change(&mut quota, &mut lease);
                        let gone = (before.state == LeaseState::Live && before.rest() > 0) || lease.amount < before.amount;
                        lost += u64::from(gone);
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

/// The reports of one call, and what is left of them to be settled.
struct Settling<'r> {
    holder: String,
    reports: &'r [LeaseReport],
    /// Places in `reports` by quota.
    left: BTreeMap<QuotaId, Vec<usize>>,
    answers: Vec<Option<LeaseAnswer>>,
}

impl<'r> Settling<'r> {
    fn new(holder: HolderId, reports: &'r [LeaseReport]) -> Self {
        let mut left = BTreeMap::<QuotaId, Vec<usize>>::new();
        for (at, report) in reports.iter().enumerate() {
            left.entry(report.quota).or_default().push(at);
        }
        Self {
            holder: holder.to_string(),
            reports,
            left,
            answers: vec![None; reports.len()],
        }
    }

    fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    fn answered(&mut self, outcome: BTreeMap<QuotaId, Vec<(usize, LeaseAnswer)>>) {
        for (quota, answers) in outcome {
            self.left.remove(&quota);
            for (at, answer) in answers {
                self.answers[at] = Some(answer);
            }
        }
    }
}

/// A quota as it was read, with the holder's lease.
struct Entry {
    id: QuotaId,
    version: i64,
    quota: Quota,
    own: Lease,
    /// The holder has no row yet.
    is_new: bool,
}

impl Entry {
    fn settle(&mut self, report: &LeaseReport, now: DbTime) -> LeaseAnswer {
        let of_holder = Report {
            spent: report.spent,
            amount: report.amount,
            overrun: report.overrun,
            want: report.want,
            need: report.need,
        };
        let wanted = self.quota.report(&mut self.own, of_holder, now);
        LeaseAnswer {
            quota: report.quota,
            amount: self.own.amount,
            spent: self.own.spent,
            overrun: self.own.overrun,
            max_units: self.quota.max,
            used: self.quota.used,
            forfeited: self.quota.forfeited,
            wanted,
            exhausted: self.quota.is_exhausted(),
            expires_at: self.own.expires_at,
        }
    }

    /// Who asked in vain and never had anything leaves no row behind.
    fn keeps_lease(&self) -> bool {
        !(self.is_new && self.own.amount == 0 && self.own.overrun == 0)
    }
}

fn read_quota(row: &Row) -> Result<Quota> {
    Ok(Quota {
        max: count(row.optional_int("max_units")?.unwrap_or(i64::MAX)),
        used: row.count("used")?,
        reserved: row.count("reserved")?,
        forfeited: row.count("forfeited")?,
        wanted: row.flag("wanted")?,
    })
}

fn read_lease(row: &Row) -> Result<Lease> {
    Ok(Lease {
        amount: row.count("amount")?,
        spent: row.count("spent")?,
        overrun: row.count("overrun")?,
        expires_at: DbTime(row.int("expires_at")?),
        state: row.parsed("state", "leases.state")?,
    })
}

async fn write_state(tx: &mut Conn, id: QuotaId, holder: &str, lease: &Lease) -> Result<()> {
    sql!(
        tx,
        exec,
        "UPDATE leases SET state = $3, amount = $4 WHERE quota_id = $1 AND holder = $2",
        id.0,
        holder,
        lease.state.as_stored(),
        stored(lease.amount)
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

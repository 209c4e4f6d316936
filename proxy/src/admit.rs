//! Admission: from a presented digest to a grant, and from a grant to a permit. Memory answers; the control side is asked only on a miss.

use std::sync::Arc;
use std::time::Duration;

use store::{LimitAction, LimitUnit, TokenDigest, Window};
use tokio::sync::{mpsc, oneshot};

use crate::block::Block;
use crate::data_thread::DataThread;
use crate::grant::{Grant, Standing};
use crate::limit_hit::{LimitHit, Who, money};
use crate::meter::Meter;
use crate::permit::{Demand, Permit, Share};
use crate::refusal::Refusal;
use crate::shared::{LeaseRequest, Leased, LoadRequest, Loaded, Shared};

/// A request that loses the race for newly leased units asks again: each round admits somebody, so nobody is refused while there is room.
/// After this many rounds something is wrong, and it is told to come back.
const LEASE_ROUNDS: usize = 1_000;
/// How long a request waits for one answer of the control side before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(5);

/// The grant of a presented token, checked as far as the head allows: known, alive, its project active.
pub(crate) async fn grant(thread: &DataThread, digest: &TokenDigest) -> Result<Arc<Grant>, Refusal> {
    let shared = &thread.shared;
    let now = shared.clock.mono_ms();
    if let Some(known) = shared.grants.get(digest) {
        check(shared, &known, now)?;
        return Ok(known);
    }
    if shared.clock.is_stale(now) {
        return Err(Refusal::DatabaseUnavailable);
    }
    let grant = load(thread, digest).await?;
    check(shared, &grant, shared.clock.mono_ms())?;
    Ok(grant)
}

/// Asked in the same poll in which a request starts: whether it still may on this grant. False: a change has come, admit it anew.
pub(crate) fn may_start(thread: &DataThread, grant: &Grant) -> Result<bool, Refusal> {
    if grant.is_stale() {
        return Ok(false);
    }
    check(&thread.shared, grant, thread.shared.clock.mono_ms())?;
    Ok(true)
}

fn check(shared: &Shared, grant: &Grant, now: u64) -> Result<(), Refusal> {
    if shared.clock.is_stale(now) {
        return Err(Refusal::DatabaseUnavailable);
    }
    match grant.standing {
        Standing::Live => {}
        Standing::Inactive => {
            return Err(Refusal::TokenInactive {
                token: grant.token_name.clone(),
            });
        }
        Standing::ProjectInactive => {
            return Err(Refusal::ProjectInactive {
                project: grant.project_name.clone(),
            });
        }
    }
    if shared.clock.db_time(now) >= grant.ends_at {
        return Err(Refusal::TokenExpired {
            token: grant.token_name.clone(),
        });
    }
    Ok(())
}

/// A share of every limit that the grant is under, or of none.
pub(crate) async fn permit(thread: &DataThread, grant: &Grant, demand: &Demand) -> Result<Permit, Refusal> {
    let mut permit = Permit::default();
    for meter in &grant.meters {
        // Who is refused here lets go of what it has: the permit gives it back.
        if let Some(share) = share(thread, grant, meter, demand).await? {
            permit.add(share);
        }
    }
    Ok(permit)
}

/// What one limit lets the request have; `None` if the limit only warns and cannot be counted at this moment.
async fn share(thread: &DataThread, grant: &Grant, meter: &Arc<Meter>, demand: &Demand) -> Result<Option<Share>, Refusal> {
    let warns = meter.action == LimitAction::Warn;
    if meter.unit == LimitUnit::Cost && demand.metered && demand.price.is_none() && !warns {
        return Err(Refusal::ModelNotPriced);
    }
    let units = if warns { 0 } else { demand.units(meter) };
    let clock = &thread.shared.clock;
    if units > meter.max_units() && meter.needs_estimate() {
        return Err(Refusal::RequestOverLimit(hit(thread, grant, meter, units)));
    }
    for _ in 0..LEASE_ROUNDS {
        let now = clock.mono_ms();
        if let Some(block) = meter.block(clock.db_time(now)) {
            if warns {
                warn_once(grant, meter, &block);
                return Ok(Some(Share::of(block, meter.unit, 0)));
            }
            if meter.needs_estimate() {
                block.is_used_by(units);
            }
            if block.take(units) {
                if block.claim_refill() {
                    refill(thread, meter, &block);
                }
                return Ok(Some(Share::of(block, meter.unit, units)));
            }
            if meter.unit == LimitUnit::InFlight && block.is_empty_for_now(now) {
                break;
            }
            if block.refuses(units) && !block.claim_second_look(units, now) {
                return Err(Refusal::LimitReached(hit(thread, grant, meter, units)));
            }
        }
        match lease(thread, meter, units).await {
            Leased::Granted(share) => {
                if !warns && share.block().claim_refill() {
                    refill(thread, meter, share.block());
                }
                return Ok(Some(share));
            }
            Leased::Outrun => {}
            // Meanwhile units may have come back from a request that was never sent; or this was the ledger's last word; or the window has ended.
            Leased::Empty => match meter.block(clock.db_time(clock.mono_ms())) {
                Some(block) if block.available() < units && !block.refuses(units) => {
                    block.was_empty(clock.mono_ms());
                    break;
                }
                _ => {}
            },
            Leased::Gone if meter.window == Window::Lifetime => {
                return Err(Refusal::TokenInactive {
                    token: grant.token_name.clone(),
                });
            }
            Leased::Gone => {}
            Leased::Unavailable if warns => return Ok(None),
            Leased::Unavailable => return Err(Refusal::DatabaseUnavailable),
        }
    }
    Err(Refusal::LimitBusy(hit(thread, grant, meter, units)))
}

/// What a refusal tells of the limit that caused it.
fn hit(thread: &DataThread, grant: &Grant, meter: &Meter, units: u64) -> Box<LimitHit> {
    let now = thread.shared.clock.db_time(thread.shared.clock.mono_ms());
    let block = meter.block(now);
    let (_, end) = meter.window.around(now);
    Box::new(LimitHit {
        who: match meter.token() {
            Some(_) => Who::Token(grant.token_name.clone()),
            None => Who::Project(grant.project_name.clone()),
        },
        unit: meter.unit,
        window: meter.window,
        max_units: meter.max_units(),
        used: block.map_or(0, |block| block.standing().used),
        units,
        resets_in_s: (meter.window != Window::Lifetime).then(|| u32::try_from((end.ms_since(now) + 999) / 1_000).unwrap_or(u32::MAX).max(1)),
    })
}

fn warn_once(grant: &Grant, meter: &Meter, block: &Block) {
    if block.claim_warning() {
        let standing = block.standing();
        tracing::warn!(
            token = &*grant.token_name,
            project = &*grant.project_name,
            whole_project = meter.token().is_none(),
            per = ?meter.window,
            used = money(standing.used),
            budget = money(standing.max_units),
            "a budget is passed that only warns: requests are served"
        );
    }
}

async fn load(thread: &DataThread, digest: &TokenDigest) -> Result<Arc<Grant>, Refusal> {
    let (reply, answer) = oneshot::channel();
    thread
        .control
        .loads
        .try_send(LoadRequest { digest: *digest, reply })
        .map_err(|e| overwhelmed(&e))?;
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Loaded::Found(grant))) => Ok(grant),
        Ok(Ok(Loaded::NotFound)) => Err(Refusal::TokenNotFound),
        Ok(Ok(Loaded::Unavailable) | Err(_)) | Err(_) => Err(Refusal::DatabaseUnavailable),
    }
}

async fn lease(thread: &DataThread, meter: &Arc<Meter>, units: u64) -> Leased {
    let (reply, answer) = oneshot::channel();
    let request = LeaseRequest {
        meter: Arc::clone(meter),
        units,
        reply: Some(reply),
    };
    if thread.control.leases.try_send(request).is_err() {
        return Leased::Unavailable;
    }
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(leased)) => leased,
        Ok(Err(_)) | Err(_) => Leased::Unavailable,
    }
}

/// Asks for more before the block is empty; nobody waits for it.
fn refill(thread: &DataThread, meter: &Arc<Meter>, block: &Block) {
    if thread
        .control
        .leases
        .try_send(LeaseRequest {
            meter: Arc::clone(meter),
            units: 0,
            reply: None,
        })
        .is_err()
    {
        block.refill_done();
    }
}

fn overwhelmed<T>(error: &mpsc::error::TrySendError<T>) -> Refusal {
    match error {
        mpsc::error::TrySendError::Full(_) => Refusal::Overloaded,
        mpsc::error::TrySendError::Closed(_) => Refusal::Draining,
    }
}

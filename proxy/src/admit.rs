//! Admission: from a presented digest to a grant, and from a grant to a permit. Memory answers; the control side is asked only on a miss.

use std::sync::Arc;
use std::time::Duration;

use store::TokenDigest;
use tokio::sync::{mpsc, oneshot};

use crate::block::{Block, Permit};
use crate::data_thread::DataThread;
use crate::grant::{Grant, Standing};
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

/// One unit of the token's request limit; `None` for a token without one.
pub(crate) async fn permit(thread: &DataThread, grant: &Grant) -> Result<Option<Permit>, Refusal> {
    let Some(block) = &grant.requests else { return Ok(None) };
    for _ in 0..LEASE_ROUNDS {
        if let Some(permit) = block.take() {
            if block.claim_refill() {
                refill(thread, block);
            }
            return Ok(Some(permit));
        }
        if block.is_exhausted() && !block.claim_second_look(thread.shared.clock.mono_ms()) {
            return Err(Refusal::LimitReached {
                token: grant.token_name.clone(),
                standing: block.standing(),
            });
        }
        match lease(thread, block).await {
            Leased::Granted(permit) => {
                if block.claim_refill() {
                    refill(thread, block);
                }
                return Ok(Some(permit));
            }
            Leased::Outrun => {}
            // Meanwhile a unit may have come back from a request that was never sent; or this was the ledger's last word.
            Leased::Empty if block.available() > 0 || block.is_exhausted() => {}
            Leased::Empty => break,
            Leased::Gone => {
                return Err(Refusal::TokenInactive {
                    token: grant.token_name.clone(),
                });
            }
            Leased::Unavailable => return Err(Refusal::DatabaseUnavailable),
        }
    }
    Err(Refusal::LimitBusy {
        token: grant.token_name.clone(),
        standing: block.standing(),
    })
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

async fn lease(thread: &DataThread, block: &Arc<Block>) -> Leased {
    let (reply, answer) = oneshot::channel();
    let request = LeaseRequest {
        block: Arc::clone(block),
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
fn refill(thread: &DataThread, block: &Arc<Block>) {
    if thread
        .control
        .leases
        .try_send(LeaseRequest {
            block: Arc::clone(block),
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

//! Admission: from a presented digest to a grant, and from a grant to a permit. Memory answers; the control side is asked only on a miss.

use std::rc::Rc;
use std::sync::Arc;

use store::TokenDigest;
use tokio::sync::{mpsc, oneshot};

use crate::block::{Block, Permit};
use crate::data_thread::DataThread;
use crate::grant::{Grant, Standing};
use crate::refusal::Refusal;
use crate::shared::{LeaseRequest, Leased, LoadRequest, Loaded};

/// A request that loses the race for newly leased units asks again: each round admits somebody, so nobody is refused while there is room.
/// After this many rounds something is wrong, and it is told to come back.
const LEASE_ROUNDS: usize = 1_000;

/// The grant of a presented token, checked as far as the head allows: known, alive, its project active.
pub(crate) async fn grant(thread: &Rc<DataThread>, digest: &TokenDigest) -> Result<Arc<Grant>, Refusal> {
    let shared = &thread.shared;
    if shared.clock.is_stale(shared.clock.mono_ms()) {
        return Err(Refusal::DatabaseUnavailable);
    }
    let grant = match shared.grants.get(digest) {
        Some(known) => known,
        None => load(thread, digest).await?,
    };
    check(thread, &grant)?;
    Ok(grant)
}

/// Whether a request may start on this grant at this moment.
pub(crate) fn check(thread: &DataThread, grant: &Grant) -> Result<(), Refusal> {
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
    let clock = &thread.shared.clock;
    if clock.db_time(clock.mono_ms()) >= grant.ends_at {
        return Err(Refusal::TokenExpired {
            token: grant.token_name.clone(),
        });
    }
    Ok(())
}

/// One unit of the token's request limit; `None` for a token without one.
pub(crate) async fn permit(thread: &Rc<DataThread>, grant: &Grant) -> Result<Option<Permit>, Refusal> {
    let Some(block) = &grant.requests else { return Ok(None) };
    for _ in 0..LEASE_ROUNDS {
        if let Some(permit) = block.take() {
            if block.claim_refill() {
                refill(thread, block);
            }
            return Ok(Some(permit));
        }
        if block.is_exhausted() {
            return Err(Refusal::LimitReached {
                token: grant.token_name.clone(),
                standing: block.standing(),
            });
        }
        match lease(thread, block).await {
            Leased::Granted => {}
            Leased::Empty => break,
            Leased::Gone => {
                return Err(Refusal::TokenInactive {
                    token: grant.token_name.clone(),
                });
            }
            Leased::Unavailable => return Err(Refusal::DatabaseUnavailable),
        }
    }
    let standing = block.standing();
    match block.take() {
        Some(permit) => Ok(Some(permit)),
        None if block.is_exhausted() => Err(Refusal::LimitReached {
            token: grant.token_name.clone(),
            standing,
        }),
        None => Err(Refusal::LimitBusy {
            token: grant.token_name.clone(),
            standing,
        }),
    }
}

async fn load(thread: &DataThread, digest: &TokenDigest) -> Result<Arc<Grant>, Refusal> {
    let (reply, answer) = oneshot::channel();
    thread
        .control
        .loads
        .try_send(LoadRequest { digest: *digest, reply })
        .map_err(|e| overwhelmed(&e))?;
    match answer.await {
        Ok(Loaded::Found(grant)) => Ok(grant),
        Ok(Loaded::NotFound) => Err(Refusal::TokenNotFound),
        Ok(Loaded::Unavailable) | Err(_) => Err(Refusal::DatabaseUnavailable),
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
    answer.await.unwrap_or(Leased::Unavailable)
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

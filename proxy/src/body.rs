//! Reading a request's body whole, under the process's byte budget and its deadlines; and letting go of one that nobody will read.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::refusal::Refusal;
use crate::shared::Shared;

/// A body that is not wanted is read on for this long and this far, so that the client can finish writing and read our answer.
const DISCARD_DEADLINE: Duration = Duration::from_secs(5);
const DISCARD_BYTES: usize = 64 << 20;

/// A whole body and the part of the budget that it occupies.
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    pub(crate) charge: Charge,
}

/// Bytes taken from the budget; given back on drop.
pub(crate) struct Charge {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Charge {
    fn add(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.shared
            .body_budget
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .map_err(|_| Refusal::Overloaded)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shared.body_budget.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

/// Reads `body` to its end.
pub(crate) async fn read(shared: &Arc<Shared>, body: &mut Incoming) -> Result<Held, Refusal> {
    let limits = &shared.settings.limits;
    tokio::time::timeout(limits.body_deadline, collect(shared, body))
        .await
        .unwrap_or(Err(Refusal::BodyTimeout))
}

async fn collect(shared: &Arc<Shared>, body: &mut Incoming) -> Result<Held, Refusal> {
    let limits = &shared.settings.limits;
    let too_large = Refusal::BodyTooLarge {
        limit: limits.max_body_bytes,
    };
    if body.size_hint().lower() > limits.max_body_bytes as u64 {
        return Err(too_large);
    }
    let mut charge = Charge {
        shared: Arc::clone(shared),
        bytes: 0,
    };
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(limits.body_idle, body.frame())
            .await
            .map_err(|_| Refusal::BodyTimeout)?;
        let Some(frame) = frame else { break };
        // Trailers carry nothing that a provider of JSON endpoints reads.
        let Ok(data) = frame.map_err(|_| Refusal::BodyAborted)?.into_data() else {
            continue;
        };
        if charge.bytes + data.len() > limits.max_body_bytes {
            return Err(too_large);
        }
        charge.add(data.len())?;
        // A small body arrives in one piece and is passed on without a copy.
        if first.is_empty() && more.is_empty() {
            first = data;
        } else {
            if more.is_empty() {
                more.extend_from_slice(&first);
                first.clear();
            }
            more.extend_from_slice(&data);
        }
    }
    let bytes = if more.is_empty() { first } else { more.freeze() };
    Ok(Held { bytes, charge })
}

/// Reads the rest of an unwanted body aside, while our answer is already on its way: closing a socket with unread bytes in it would
/// reset the connection and take the answer along.
pub(crate) fn discard(mut body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    tokio::task::spawn_local(async move {
        let drain = async {
            let mut left = DISCARD_BYTES;
            while let Some(Ok(frame)) = body.frame().await {
                match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        let _ = tokio::time::timeout(DISCARD_DEADLINE, drain).await;
    });
}

//! A request's body as admission needs it: read whole under the process's byte budget and its deadlines, or left to stream through; and letting
//! go of one that nobody will read.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use llm::BodyKind;
use tokio::time::{Instant, timeout, timeout_at};

use crate::idle::IdleTimer;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::upstream::{Streamed, UpstreamBody};
use crate::waking::holding_back;

/// A body that is not wanted is read on for this long and this far, so that the client can finish writing and read our answer.
const DISCARD_DEADLINE: Duration = Duration::from_secs(30);
const DISCARD_IDLE: Duration = Duration::from_secs(5);
const DISCARD_BYTES: usize = 64 << 20;
/// What an announced length lets us reserve at once; what is announced is not yet there.
const RESERVED: usize = 1 << 20;

/// The body of an admitted request.
pub(crate) enum Payload {
    Whole(Held),
    Stream(Incoming),
    Empty,
}

/// A whole body and the part of the budget that it occupies.
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    charge: Charge,
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

impl Payload {
    /// Takes the body out of `unread` in the way of its kind. What is refused stays there.
    pub(crate) async fn take(shared: &Arc<Shared>, kind: BodyKind, unread: &mut Option<Incoming>) -> Result<Self, Refusal> {
        let Some(body) = unread else { return Ok(Self::Empty) };
        let payload = match kind {
            BodyKind::Json => Self::Whole(read(shared, body).await?),
            // Read all the same: as long as a body lies unread before the rest of the connection, a hang-up cannot be seen.
            BodyKind::None => {
                read(shared, body).await?;
                Self::Empty
            }
            BodyKind::Multipart => {
                check_announced(shared, body)?;
                return Ok(unread.take().map_or(Self::Empty, Self::Stream));
            }
        };
        *unread = None;
        Ok(payload)
    }

    /// The whole body, if it was read.
    pub(crate) fn whole(&self) -> Bytes {
        match self {
            Self::Whole(held) => held.bytes.clone(),
            Self::Stream(_) | Self::Empty => Bytes::new(),
        }
    }

    /// The same on its way upstream, and what it occupies of the budget until the provider has answered.
    pub(crate) fn into_upstream(self, shared: &Shared) -> (UpstreamBody, Option<Charge>) {
        let limits = &shared.settings.limits;
        match self {
            Self::Whole(held) => (UpstreamBody::Whole(held.bytes), Some(held.charge)),
            Self::Stream(body) => {
                let streamed = Streamed {
                    body,
                    left: limits.max_body_bytes,
                    idle: IdleTimer::new(limits.body_idle),
                };
                (UpstreamBody::Stream(Box::new(streamed)), None)
            }
            Self::Empty => (UpstreamBody::Empty, None),
        }
    }
}

fn check_announced(shared: &Shared, body: &Incoming) -> Result<(), Refusal> {
    let limit = shared.settings.limits.max_body_bytes;
    if body.size_hint().lower() > limit as u64 {
        return Err(Refusal::BodyTooLarge { limit });
    }
    Ok(())
}

/// Reads `body` to its end.
async fn read(shared: &Arc<Shared>, body: &mut Incoming) -> Result<Held, Refusal> {
    let limits = &shared.settings.limits;
    check_announced(shared, body)?;
    let mut charge = Charge {
        shared: Arc::clone(shared),
        bytes: 0,
    };
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let mut deadline = None;
    while !body.is_end_stream() {
        let (frame, woken) = holding_back(|| body.frame().now_or_never());
        if woken && !body.is_end_stream() {
            // There is more to read, which the connection must be told.
            poll_fn(|cx| {
                cx.waker().wake_by_ref();
                Poll::Ready(())
            })
            .await;
        }
        let frame = match frame {
            Some(frame) => frame,
            // Only who has to wait asks the clock.
            None => {
                let now = Instant::now();
                let last = *deadline.get_or_insert_with(|| now + limits.body_deadline);
                timeout_at(last.min(now + limits.body_idle), body.frame())
                    .await
                    .map_err(|_| Refusal::BodyTimeout)?
            }
        };
        let Some(frame) = frame else { break };
        // Trailers carry nothing that a provider of JSON endpoints reads.
        let Ok(data) = frame.map_err(|_| Refusal::BodyAborted)?.into_data() else {
            continue;
        };
        if charge.bytes + data.len() > limits.max_body_bytes {
            return Err(Refusal::BodyTooLarge {
                limit: limits.max_body_bytes,
            });
        }
        charge.add(data.len())?;
        // A small body arrives in one piece and is passed on without a copy.
        if first.is_empty() && more.is_empty() {
            first = data;
        } else {
            if more.is_empty() {
                let coming = usize::try_from(body.size_hint().lower()).unwrap_or(RESERVED).min(RESERVED);
                more.reserve(first.len() + data.len() + coming);
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
            while let Ok(Some(Ok(frame))) = timeout(DISCARD_IDLE, body.frame()).await {
                match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        let _ = timeout(DISCARD_DEADLINE, drain).await;
    });
}

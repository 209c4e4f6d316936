//! One request and the head of its answer. A retry happens only while not a byte of the request has been written.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;

use super::connect::connect;
use super::{Egress, Origin, Pool, Sender, UpstreamBody};
use crate::block::Permit;
use crate::settings::Limits;

/// A provider's answer with the connection it came over.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) sender: Sender,
}

/// Why there is no answer; what it means for the permit is settled already.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    /// No connection: nothing was sent.
    Unreachable(String),
    /// The head did not come in time.
    TimedOut,
    /// The connection broke, or the answer is not HTTP.
    Broken(hyper::Error),
    /// The grant went stale before the request was dispatched: admit it again.
    Stale(Box<Request<UpstreamBody>>),
}

/// Connections that a stale pool may hand out before a fresh one is made.
const MAX_POOLED_TRIES: usize = 3;

/// Sends `request`. `still_granted` is asked in the same poll in which the request is dispatched, so that a revocation acknowledged
/// before is never followed by a request on the old grant.
pub(crate) async fn exchange(
    pool: &Pool,
    egress: &Egress,
    limits: &Limits,
    origin: &Arc<Origin>,
    mut request: Request<UpstreamBody>,
    permit: &mut Option<Permit>,
    still_granted: impl Fn() -> bool,
) -> Result<Answered, ExchangeError> {
    let mut tries = 0;
    loop {
        let (mut sender, pooled) = match pool.take(origin).filter(|_| tries < MAX_POOLED_TRIES) {
            Some(sender) => (sender, true),
            None => (dial(origin, egress, limits.connect_deadline).await?, false),
        };
        tries += 1;
        if !sender.is_ready() && sender.ready().await.is_err() {
            if pooled {
                continue;
            }
            return Err(ExchangeError::Unreachable("the connection closed at once".to_owned()));
        }
        if !still_granted() {
            pool.put(origin, sender);
            return Err(ExchangeError::Stale(Box::new(request)));
        }
        if let Some(permit) = permit {
            permit.dispatch();
        }
        match tokio::time::timeout(limits.first_byte_deadline, sender.try_send_request(request)).await {
            Ok(Ok(response)) => {
                if let Some(permit) = permit.take() {
                    permit.spend();
                }
                return Ok(Answered { response, sender });
            }
            Ok(Err(mut failed)) => match failed.take_message() {
                Some(untouched) => {
                    if let Some(permit) = permit {
                        permit.not_sent();
                    }
                    if !pooled {
                        return Err(ExchangeError::Unreachable(failed.into_error().to_string()));
                    }
                    request = untouched;
                }
                None => return Err(ExchangeError::Broken(failed.into_error())),
            },
            Err(_elapsed) => return Err(ExchangeError::TimedOut),
        }
    }
}

async fn dial(origin: &Origin, egress: &Egress, deadline: Duration) -> Result<Sender, ExchangeError> {
    match tokio::time::timeout(deadline, connect(origin, egress)).await {
        Ok(Ok(sender)) => Ok(sender),
        Ok(Err(error)) => Err(ExchangeError::Unreachable(error.to_string())),
        Err(_elapsed) => Err(ExchangeError::Unreachable(format!("no connection within {} ms", deadline.as_millis()))),
    }
}

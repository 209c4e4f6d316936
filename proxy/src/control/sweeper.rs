//! Removes what windows that ended long ago have left, and closes the books of dead holders: every process looks for expired leases now and then, so that a limit's figures become final though
//! nobody asks for its token any more.

use std::time::Duration;

use store::Fleet;

use super::outage::Outage;

/// Contracts.md §3 asks for 10 s; a little more for most, so that the processes of a fleet do not look all at once.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
const JITTER_MS: u128 = 2_000;

/// Runs until it is aborted: a sweep cut short has happened in part, and the next one does the rest.
pub(crate) async fn sweep(fleet: Fleet) {
    let mut outage = Outage::new("expired leases and windows cannot be looked for");
    loop {
        let jitter = u64::try_from(uuid::Uuid::new_v4().as_u128() % JITTER_MS).unwrap_or(0);
        tokio::time::sleep(SWEEP_EVERY - Duration::from_millis(jitter)).await;
        match fleet.sweep_expired_leases().await {
            Ok(expired) => {
                outage.ended();
                if expired > 0 {
                    tracing::info!(leases = expired, "what dead processes had leased and not reported is forfeited");
                }
            }
            Err(error) => {
                outage.began(&error);
                continue;
            }
        }
        for done in [fleet.release_slots_of_the_dead().await, fleet.purge_windows().await] {
            if let Err(error) = done {
                outage.began(&error);
            }
        }
    }
}

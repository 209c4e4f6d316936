//! Carries the threads' usage sums into the database. What cannot be written now is kept and written later; nothing is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use store::{Fleet, HolderId, TokenId, UsageDelta};
use tokio::sync::watch;

use super::outage::Outage;
use crate::database::Writer;
use crate::settings::Reporting;
use crate::shared::Shared;

const FLUSH_EVERY: Duration = Duration::from_millis(400);
/// On a database that other processes share, where each flush of each is a statement.
const FLUSH_SPARINGLY: Duration = Duration::from_secs(2);

/// Rows that could not be written yet, added up, so that a database that is away costs memory per row and not per flush.
#[derive(Default)]
struct Kept(BTreeMap<(i32, Option<TokenId>, String, String), UsageDelta>);

impl Kept {
    fn add(&mut self, delta: UsageDelta) {
        let key = (delta.day, delta.token, delta.model.clone(), delta.provider.clone());
        match self.0.get_mut(&key) {
            None => drop(self.0.insert(key, delta)),
            Some(row) => {
                row.requests += delta.requests;
                row.input_tokens += delta.input_tokens;
                row.cached_tokens += delta.cached_tokens;
                row.output_tokens += delta.output_tokens;
                row.reasoning_tokens += delta.reasoning_tokens;
                row.estimated += delta.estimated;
                row.cost += delta.cost;
                row.last_at = row.last_at.max(delta.last_at);
            }
        }
    }
}

impl Kept {
    /// Takes all of it out, under the next number if there is something.
    fn next_batch(&mut self, seq: &mut u64) -> Vec<UsageDelta> {
        *seq += u64::from(!self.0.is_empty());
        std::mem::take(&mut self.0).into_values().collect()
    }
}

/// Runs until `done` says that no thread adds any more, then flushes for the last time.
pub(crate) async fn flush(fleet: Fleet, holder: HolderId, shared: Arc<Shared>, mut done: watch::Receiver<bool>) {
    let mut kept = Kept::default();
    // A batch that was sent and not answered may have been booked: it is repeated as it was, under its number, until it is answered.
    let (mut batch, mut seq) = (Vec::new(), 0);
    let mut outage = Outage::new("usage cannot be written: it is kept and written later");
    let pause = match shared.settings.reporting {
        Reporting::Prompt => FLUSH_EVERY,
        Reporting::Sparing => FLUSH_SPARINGLY,
    };
    loop {
        let last = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            // A sender that is gone means the same.
            _ = done.wait_for(|done| *done) => true,
        };
        for thread in &shared.threads {
            thread.usage.collect().into_iter().for_each(|delta| kept.add(delta));
        }
        if batch.is_empty() {
            batch = kept.next_batch(&mut seq);
        }
        while !batch.is_empty() {
            match fleet.add_usage(holder, seq, &batch).await {
                Ok(()) => {
                    shared.database.wrote(Writer::Usage, None);
                    outage.ended();
                    // What came while the last batch was in doubt follows at once.
                    batch = kept.next_batch(&mut seq);
                }
                Err(error) => {
                    shared.database.wrote(Writer::Usage, Some(&error));
                    outage.began(&error);
                    break;
                }
            }
        }
        if last {
            if !batch.is_empty() {
                tracing::warn!(rows = batch.len() + kept.0.len(), "usage was not written before the end, and is lost");
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_one_row_adds_up() {
        let (mut kept, token) = (Kept::default(), Some(TokenId::new()));
        for _ in 0..3 {
            kept.add(UsageDelta {
                day: 1,
                token,
                model: "m".into(),
                requests: 2,
                input_tokens: 5,
                ..UsageDelta::default()
            });
        }
        let rows: Vec<_> = kept.0.into_values().collect();
        assert_eq!((rows.len(), rows[0].requests, rows[0].input_tokens), (1, 6, 15));
    }
}

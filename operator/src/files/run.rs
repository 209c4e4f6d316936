//! When a pass is due: a changed file, a change in the database, a moment that comes, or simply some time without a look.
//! It refuses to know what a pass does.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use store::StoreError;

use super::reconciler::{FilesReconciler, PassReport};
use super::scan::Scan;

/// How often the files are looked at.
const SCAN_EVERY: Duration = Duration::from_millis(250);
/// How often the objects are looked at while no file changes: quotas run out and `.env` files are edited without a sign.
const DRIVE_EVERY: Duration = Duration::from_millis(500);
/// The longest pause after passes that the database failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl FilesReconciler {
    /// Runs until `shutdown` is ready; what is under way then is left as a crash would leave it, which the next start finishes. Errors of the
    /// database are logged and tried again.
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send) {
        let mut wakeups = self.wakeups();
        let mut before: Option<Arc<Scan>> = None;
        let mut driven = Instant::now();
        let mut recheck: Option<Instant> = None;
        let mut pause = SCAN_EVERY;
        tokio::pin!(shutdown);
        loop {
            let woken = tokio::select! {
                () = &mut shutdown => return,
                changed = wakeups.changed() => changed.is_ok(),
                () = tokio::time::sleep(pause) => false,
            };
            let due = woken || recheck.is_some_and(|at| Instant::now() >= at) || driven.elapsed() >= DRIVE_EVERY;
            let looked = tokio::select! {
                () = &mut shutdown => return,
                looked = self.look(&mut before, due) => looked,
            };
            let report = match looked {
                Ok(None) => continue,
                Ok(Some(report)) => Ok(report),
                Err(error) => Err(error),
            };
            driven = Instant::now();
            // What this pass itself committed is no news.
            wakeups.mark_unchanged();
            match report {
                Ok(report) => {
                    recheck = report.recheck_in.map(|wait| driven + wait);
                    pause = report.recheck_in.map_or(SCAN_EVERY, |wait| wait.min(SCAN_EVERY));
                }
                Err(error) => {
                    tracing::error!("reconciling failed and is tried again: {error}");
                    recheck = None;
                    pause = (pause * 2).clamp(SCAN_EVERY, LONGEST_PAUSE);
                }
            }
        }
    }

    /// Scans, and follows the scan if it shows something new or a pass is due anyway.
    async fn look(&mut self, before: &mut Option<Arc<Scan>>, due: bool) -> Result<Option<PassReport>, StoreError> {
        let now = Instant::now();
        let scan = self.scan().await?;
        let changed = before.as_ref().is_none_or(|before| !Arc::ptr_eq(before, &scan));
        if !(changed || due || self.awaits_deletion()) {
            return Ok(None);
        }
        *before = None;
        let report = self.follow(Arc::clone(&scan), now).await?;
        // What one object did may be news to another: look once more before resting.
        *before = (report.effects == 0).then_some(scan);
        Ok(Some(report))
    }
}

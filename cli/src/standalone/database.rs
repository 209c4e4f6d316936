//! Opens the data directory's database for the fleet that the manifests declare, or for the one that has claimed it before.

use std::time::{Duration, Instant};

use operator::files::{CheckReport, claim_of};
use store::{Claim, Fleet, HolderId, KeyRing, Store, StoreError};

use crate::data_dir::{DataDir, database_path};
use crate::exit::Failure;
use crate::serving;

/// How long the start waits for its own data plane to follow the feed; it goes on without, since only a status is late then.
const PATIENCE: Duration = Duration::from_secs(2);

/// A claimed database that no other process uses.
pub(super) struct Database {
    /// Its pools.
    pub(super) store: Store,
    /// Who owns it.
    pub(super) claim: Claim,
    /// The claimed fleet.
    pub(super) fleet: Fleet,
    /// This process, as a holder of leases.
    pub(super) holder: HolderId,
}

/// Opens, migrates and claims. With nothing valid declared, what was claimed before goes on being served; with neither, the faults say why not.
pub(super) async fn open(dir: &DataDir, manifests: &CheckReport) -> Result<Database, Failure> {
    let path = database_path(dir.path());
    let declared = claim_of(manifests);
    let faults = || Failure::of_lines(&manifests.faults);
    if declared.is_err() && !path.exists() {
        return Err(faults());
    }
    let key = dir.sealing_key().map_err(Failure::new)?;
    dir.ensure_management_token().map_err(Failure::new)?;
    let failed = |error: StoreError| match error {
        // SQLite does not always know why its files cannot grow.
        StoreError::Full(_) | StoreError::Unavailable(_) if dir.is_full() => Failure::new(format_args!(
            "{}: no space left on its disk: free some space, or give --data-dir a directory on another disk",
            path.display()
        )),
        error => Failure::new(format_args!("{}: {error}", path.display())),
    };

    let store = Store::open_sqlite(&path, KeyRing::single(key)).await.map_err(failed)?;
    store.migrate().await.map_err(failed)?;
    let claim = match declared {
        Ok(claim) => claim,
        Err(_) => store.claimed().await.map_err(failed)?.map(|(claim, _)| claim).ok_or_else(faults)?,
    };
    let fleet = store.claim(&claim).await.map_err(failed)?;
    let holder = HolderId::new();
    serving::take_over(&fleet, holder).await.map_err(failed)?;
    Ok(Database { store, claim, fleet, holder })
}

/// Waits until this process has acknowledged everything that stands in the change feed now, within [`PATIENCE`].
pub(super) async fn acknowledged(fleet: &Fleet, holder: HolderId) -> store::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let head = fleet.feed_head().await?.version;
    while Instant::now() < deadline {
        if fleet
            .replicas()
            .await?
            .iter()
            .any(|replica| replica.holder == holder && replica.acked >= head)
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tracing::warn!("the data plane has not followed the manifests yet; status says so until it has");
    Ok(())
}

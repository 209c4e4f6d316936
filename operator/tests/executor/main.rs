//! What people do to manifests and `.env` files, and what comes of it: the executor on a real database, with the clock moved by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "../support/mod.rs"]
mod support;

mod changing;
mod delivering;
mod sharing;
mod vanishing;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crds::conditions::ConditionType;
use store::{FeedVersion, HolderId, RevisionState, RevokedBy};
use support::{FLEET, Home, MINUTE, PROJECT, living, token};

/// A home with an issued token `web`.
async fn issued() -> Home {
    let home = Home::new().await;
    home.write("token.yaml", &token("web", "maxRequests: 5"));
    let mut home = home;
    home.settled().await;
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_executor_follows_the_files_and_the_database_by_itself() {
    let home = Home::new().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(home.process().into_reconciler().run(async move { drop(stopped.await) }));
    home.write("token.yaml", &token("web", ""));
    until(|| home.value("web").is_some()).await;
    fs::remove_file(home.env_path("web")).unwrap();
    until(|| home.value("web").is_some()).await;
    home.fleet.revoke_token(home.token("web").await.id, RevokedBy::Manage).await.unwrap();
    until(|| !home.env_path("web").exists()).await;
    home.write("other.yaml", &token("other", ""));
    until(|| home.value("other").is_some()).await;
    home.remove("other.yaml");
    until(|| !home.env_path("other").exists()).await;
    drop(stop);
    running.await.unwrap();
}

/// Waits for a condition, and not for ever.
async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

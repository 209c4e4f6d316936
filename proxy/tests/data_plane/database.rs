//! The database away: what is known goes on for a while, nothing else is invented, and it heals by itself.

use std::time::{Duration, Instant};

use store::{RevokedBy, TokenChange};

use crate::provider::{OK, Provider};
use crate::stage::{Setup, Stage, Upstream, issue};
use crate::wait;

/// Without its clock the database answers nothing that matters.
const GONE: &str = "DROP VIEW clock";
const BACK: &str = "CREATE VIEW clock AS SELECT CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER) AS now_ms";

async fn stage(stale_after: Duration) -> Stage {
    let provider = Provider::start().await;
    let upstream = Upstream::from(&provider);
    provider.always(OK);
    Setup::new(upstream)
        .max_requests(100_000)
        .with(|s| s.stale_after = stale_after)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_block_in_hand_is_spent_then_it_is_503_until_the_database_is_back() {
    let stage = stage(Duration::from_secs(300)).await;
    let mut client = stage.connect().await;
    assert_eq!(client.send(stage.chat()).await.status, 200);
    let (_, unknown) = issue(&stage.fleet, stage.project, 60_000, None).await;
    stage.acknowledged().await;
    assert_eq!(client.send(stage.chat()).await.status, 200);
    stage.sql(GONE).await;
    let mut served = 0;
    let refused = loop {
        let answer = client.send(stage.chat()).await;
        match answer.status {
            200 => served += 1,
            _ => break answer,
        }
        assert!(served < 5_000, "the block never ends");
    };
    assert!(served > 10, "{served}");
    assert_eq!(refused.verdict(), (503, "database_unavailable".to_owned()));
    assert!(refused.header("retry-after").is_some());
    let answer = client.send(stage.chat().replace(&stage.key, &unknown)).await;
    // The look-up itself needs no clock; a token that can be looked up is served.
    assert!(
        answer.status == 200 || answer.verdict() == (503, "database_unavailable".to_owned()),
        "{answer:?}"
    );
    stage.sql(BACK).await;
    wait::until("service", || async { stage.send(stage.chat()).await.status == 200 }).await;
    let spent = served + 3;
    wait::until("the ledger", || async {
        let (used, reserved, forfeited) = stage.quota().await;
        used >= spent && reserved == 0 && forfeited == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_stale_window_nothing_is_served_and_it_heals_alone() {
    let stage = stage(Duration::from_millis(1_500)).await;
    assert_eq!(stage.send(stage.chat()).await.status, 200);
    stage.sql(GONE).await;
    wait::until("the end of the window", || async { stage.send(stage.chat()).await.status != 200 }).await;
    let answer = stage.send(stage.chat()).await;
    assert_eq!(answer.verdict(), (503, "database_unavailable".to_owned()));
    assert!(answer.header("retry-after").is_some());
    let ready = stage.send("GET /ready HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(ready.status, 200, "all replicas would leave their Service at once");
    stage.sql(BACK).await;
    wait::until("service", || async { stage.send(stage.chat()).await.status == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_admitted_before_the_stale_window_ended_does_not_start_after_it() {
    let stage = stage(Duration::from_millis(1_500)).await;
    let request = stage.chat();
    let (first, rest) = request.split_at(request.len() - 3);
    let mut client = stage.connect().await;
    client.write(first).await;
    wait::until("the grant", || async { stage.metric("llm_proxy_grants").await == Some(1.0) }).await;
    stage.sql(GONE).await;
    wait::until("the end of the window", || async { stage.send(stage.chat()).await.status == 503 }).await;
    client.write(rest).await;
    assert_eq!(client.answer().await.verdict(), (503, "database_unavailable".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_hangs_makes_nobody_wait_for_long() {
    let stage = stage(Duration::from_secs(300)).await;
    let mut lock = stage.sql_connection().await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut lock).await.unwrap();
    let began = Instant::now();
    let answer = stage.send(stage.chat()).await;
    assert_eq!(answer.verdict(), (503, "database_unavailable".to_owned()));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    sqlx::raw_sql("ROLLBACK").execute(&mut lock).await.unwrap();
    wait::until("service", || async { stage.send(stage.chat()).await.status == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_from_an_older_copy_is_believed_from_then_on() {
    let stage = stage(Duration::from_secs(300)).await;
    for n in 0..20 {
        let change = TokenChange {
            max_requests: Some(Some(100_000 + n)),
            ..TokenChange::default()
        };
        stage.fleet.change_token(stage.token, &change).await.unwrap();
    }
    stage.acknowledged().await;
    assert_eq!(stage.send(stage.chat()).await.status, 200);
    // Back by ten versions.
    stage
        .sql("UPDATE feed_head SET version = version - 10; DELETE FROM changes WHERE version > (SELECT version FROM feed_head)")
        .await;
    wait::until("the older version", || async {
        let replicas = stage.fleet.replicas().await.unwrap();
        let version = stage.fleet.feed_head().await.unwrap().version;
        replicas.iter().any(|r| r.acked == version)
    })
    .await;
    assert_eq!(stage.send(stage.chat()).await.status, 200);
    stage.fleet.revoke_token(stage.token, RevokedBy::Spec).await.unwrap();
    wait::until("the revocation", || async { stage.send(stage.chat()).await.status == 401 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_without_a_database_ends_all_the_same() {
    let mut stage = stage(Duration::from_secs(300)).await;
    assert_eq!(stage.send(stage.chat()).await.status, 200);
    stage.sql(GONE).await;
    let report = stage.drain().await;
    assert!(!report.leases_returned, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_grew_beyond_this_binary_makes_it_unready_until_it_fits_again() {
    let stage = stage(Duration::from_secs(2)).await;
    let ready = async || stage.send("GET /ready HTTP/1.1\r\nhost: x\r\n\r\n".to_owned()).await;
    assert_eq!(ready().await.status, 200);
    stage
        .sql("UPDATE schema_info SET version = 900, min_reader = 900, min_writer = 900")
        .await;
    wait::until("not ready", || async { ready().await.status == 503 }).await;
    assert!(ready().await.body.contains("version 900"), "{:?}", ready().await);
    stage.sql("UPDATE schema_info SET version = 900, min_reader = 1, min_writer = 1").await;
    wait::until("ready", || async { ready().await.status == 200 }).await;
}

//! Once a take-away is acknowledged no request starts on what was before, wherever it was waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use store::{RevokedBy, TokenChange};
use tokio::net::TcpListener;

use crate::client::Client;
use crate::provider::{OK, Provider};
use crate::stage::{Setup, Upstream};
use crate::wait;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_token_is_revoked_while_its_body_arrives_is_refused() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).max_requests(3).start().await;
    let request = stage.chat();
    let (first, rest) = request.split_at(request.len() - 5);
    let mut client = stage.connect().await;
    client.write(first).await;
    // It has been admitted once: the grant is in memory.
    wait::until("the grant", || async { stage.metric("llm_proxy_grants").await == Some(1.0) }).await;
    stage.fleet.revoke_token(stage.token, RevokedBy::Spec).await.unwrap();
    stage.acknowledged().await;
    client.write(rest).await;
    assert_eq!(client.answer().await.verdict(), (401, "token_inactive".to_owned()));
    assert!(provider.is_left_alone().await);
    stage.settles_at(0).await;
}

/// Clients ask without a pause while the token is revoked: how many answers of 200 began after the acknowledgement.
async fn late_starts(upstream: Upstream, heads: Option<Arc<AtomicUsize>>) -> usize {
    let stage = Arc::new(Setup::new(upstream).max_requests(1_000_000).with(|s| s.threads = 2).start().await);
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let late = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (address, request) = (stage.address(), stage.chat());
        let (stop, acknowledged, late) = (Arc::clone(&stop), Arc::clone(&acknowledged), Arc::clone(&late));
        clients.spawn(async move {
            let mut client = Client::open(address).await;
            while !stop.load(Ordering::SeqCst) {
                let after = acknowledged.load(Ordering::SeqCst);
                let answer = client.send(&request).await;
                late.fetch_add(usize::from(after && answer.status == 200), Ordering::SeqCst);
            }
        });
    }
    wait::until("load", || async { stage.quota().await.0 > 50 }).await;
    stage.fleet.revoke_token(stage.token, RevokedBy::Spec).await.unwrap();
    stage.acknowledged().await;
    let received = heads.as_ref().map(|h| h.load(Ordering::SeqCst));
    acknowledged.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.store(true, Ordering::SeqCst);
    clients.join_all().await;
    assert_eq!(received, heads.map(|h| h.load(Ordering::SeqCst)), "a head after the acknowledgement");
    late.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_nothing_starts_after_the_acknowledgement() {
    let provider = Provider::start().await;
    let upstream = Upstream::from(&provider);
    let heads = provider.always(OK);
    assert_eq!(late_starts(upstream, Some(heads)).await, 0);
    assert_eq!(late_starts(Upstream::Echo, None).await, 0);
}

/// A provider whose TLS handshake waits for the test. Its certificate does not matter: nothing may be sent.
async fn while_connecting(change: impl AsyncFnOnce(&crate::stage::Stage)) -> (u16, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (acceptor, bundle) = crate::egress::tls_acceptor(dir.path());
    let mut setup = Setup::new(Upstream::Url(format!("https://localhost:{}", address.port()))).max_requests(3);
    setup.ttl_ms = 60_000;
    setup.settings.egress.ca_bundle = Some(bundle);
    let stage = setup.start().await;
    let mut client = stage.connect().await;
    client.write(stage.chat()).await;
    let (stream, _) = wait::soon("a connection", listener.accept()).await.unwrap();
    change(&stage).await;
    let mut tls = acceptor.accept(stream).await.unwrap();
    let answer = client.answer().await;
    let mut sent = Vec::new();
    drop(stage);
    let _ = wait::soon("the end", tokio::io::AsyncReadExt::read_to_end(&mut tls, &mut sent)).await;
    assert_eq!(String::from_utf8_lossy(&sent), "");
    answer.verdict()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_token_is_revoked_while_it_connects_is_refused() {
    let verdict = while_connecting(async |stage| {
        stage.fleet.revoke_token(stage.token, RevokedBy::Spec).await.unwrap();
        stage.acknowledged().await;
    });
    assert_eq!(verdict.await, (401, "token_inactive".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_token_expires_while_it_connects_is_refused() {
    let verdict = while_connecting(async |stage| {
        stage
            .sql("DROP VIEW clock; CREATE VIEW clock AS SELECT CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER) + 600000 AS now_ms;")
            .await;
        // A request that would be refused for its type anyway: it does not need the provider.
        let probe = stage.chat().replace("application/json", "text/plain");
        wait::until("the new time", || async { stage.send(&probe).await.status == 401 }).await;
    });
    assert_eq!(verdict.await, (401, "token_expired".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_token_returns_without_a_new_connection() {
    let provider = Provider::start().await;
    let upstream = Upstream::from(&provider);
    let _heads = provider.always(OK);
    let stage = Setup::new(upstream).start().await;
    let mut client = stage.connect().await;
    assert_eq!(client.send(stage.chat()).await.status, 200);
    let state = |state| TokenChange {
        state: Some(state),
        ..TokenChange::default()
    };
    stage.fleet.change_token(stage.token, &state(store::TokenState::Suspended)).await.unwrap();
    stage.acknowledged().await;
    assert_eq!(client.send(stage.chat()).await.verdict(), (401, "token_inactive".to_owned()));
    stage.fleet.change_token(stage.token, &state(store::TokenState::Active)).await.unwrap();
    stage.acknowledged().await;
    assert_eq!(client.send(stage.chat()).await.status, 200);
}

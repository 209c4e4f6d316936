//! A unit of a limit is spent exactly when a byte of its request may have gone upstream, on every way out.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::client::End;
use crate::provider::{EVENTS, OK, Provider, chunk};
use crate::stage::{Setup, Upstream};
use crate::wait;

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_before_the_head_counts_once_and_is_booked_by_estimate() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).max_requests(3).start().await;
    let mut client = stage.connect().await;
    client.write(stage.chat()).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    drop(client);
    peer.closed().await;
    stage.settles_at(1).await;
    wait::until("the booking", || async { stage.usage().await == (1, 1, 8) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_counts_nothing() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stage = Setup::new(Upstream::Url(format!("http://{nobody}"))).max_requests(1).start().await;
    for _ in 0..3 {
        assert_eq!(stage.send(stage.chat()).await.verdict(), (502, "upstream_unreachable".to_owned()));
    }
    stage.settles_at(0).await;
    assert_eq!(stage.usage().await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_connection_that_the_provider_closed_is_replaced_and_counts_once() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).max_requests(10).start().await;
    let mut client = stage.connect().await;
    for _ in 0..5 {
        client.write(stage.chat()).await;
        let mut peer = provider.accept().await;
        peer.request().await;
        peer.write(OK).await;
        assert_eq!(client.answer().await.status, 200);
    }
    stage.settles_at(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_connection_that_breaks_under_a_post_is_a_502_that_counts_and_is_not_sent_twice() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).max_requests(10).start().await;
    let mut client = stage.connect().await;
    client.write(stage.chat()).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    peer.write(OK).await;
    assert_eq!(client.answer().await.status, 200);
    client.write(stage.chat()).await;
    peer.request().await;
    peer.reset();
    assert_eq!(client.answer().await.verdict(), (502, "upstream_error".to_owned()));
    assert!(provider.is_left_alone().await);
    stage.settles_at(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_answers_before_it_has_read_the_request_blocks_nobody_behind_it() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).max_requests(10).start().await;
    let mut client = stage.connect().await;
    // Far more than two sockets hold: the rest of it stays on our side.
    let body = format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "x".repeat(24 << 20));
    client.write(stage.post("", &body)).await;
    let mut early = provider.accept().await;
    early.head().await;
    early.write(OK).await;
    assert_eq!(client.answer().await.status, 200);
    // Its connection is still busy with the body: the next request needs another one.
    client.write(stage.chat()).await;
    let mut next = provider.accept().await;
    next.request().await;
    next.write(OK).await;
    assert_eq!(client.answer().await.status, 200);
    stage.settles_at(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_answer_in_time_is_a_504_that_counts() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider)
        .max_requests(10)
        .with(|s| s.limits.first_byte_deadline = Duration::from_millis(100))
        .start()
        .await;
    let mut client = stage.connect().await;
    client.write(stage.chat()).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    assert_eq!(client.answer().await.verdict(), (504, "timeout".to_owned()));
    peer.closed().await;
    stage.settles_at(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_breaks_off_counts_once() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).max_requests(10).start().await;
    let mut client = stage.connect().await;
    client.write(stage.chat()).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    peer.write(format!("{EVENTS}{}", chunk("data: {}\n\n"))).await;
    client.sees("data: {}").await;
    peer.reset();
    let answer = client.answer().await;
    assert!(answer.end == End::Complete && answer.body.contains("upstream_error"), "{answer:?}");
    stage.settles_at(1).await;
    wait::until("the booking", || async { stage.usage().await.0 == 1 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_while_the_limit_has_room_however_many_ask_at_once() {
    let provider = Provider::start().await;
    let url = Upstream::from(&provider);
    let heads = provider.always(OK);
    let stage = Setup::new(url).max_requests(64).start().await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (address, request) = (stage.address(), stage.chat());
        asking.spawn(async move { crate::client::Client::open(address).await.send(request).await.verdict() });
    }
    let verdicts = wait::soon("all answers", asking.join_all()).await;
    let refused: Vec<_> = verdicts.iter().filter(|(status, _)| *status != 200).collect();
    assert!(refused.is_empty(), "{} refused: {refused:?}", refused.len());
    assert_eq!(heads.load(Ordering::SeqCst), 64);
    assert_eq!(stage.send(stage.chat()).await.verdict(), (429, "rate_limit_exceeded".to_owned()));
    stage.settles_at(64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_while_the_ledger_is_awaited_counts_nothing_and_keeps_nothing() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).max_requests(1).start().await;
    let mut lock = stage.sql_connection().await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut lock).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut client = stage.connect().await;
        client.write(stage.chat()).await;
        waiting.push(client);
    }
    wait::until("four requests in flight", || async {
        stage.metric("llm_proxy_in_flight").await == Some(4.0)
    })
    .await;
    drop(waiting);
    wait::until("their end", || async { stage.metric("llm_proxy_in_flight").await == Some(0.0) }).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut lock).await.unwrap();
    stage.settles_at(0).await;
    assert!(provider.is_left_alone().await);
    let mut client = stage.connect().await;
    client.write(stage.chat()).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    peer.write(OK).await;
    assert_eq!(client.answer().await.status, 200, "the one unit is still there");
    stage.settles_at(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_breaks_off_on_its_way_counts_because_its_head_went_upstream() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).max_requests(3).start().await;
    let mut client = stage.connect().await;
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 1000\r\n\r\n--b",
        stage.key
    );
    client.write(head).await;
    let mut peer = provider.accept().await;
    peer.head().await;
    drop(client);
    peer.closed().await;
    stage.settles_at(1).await;
}

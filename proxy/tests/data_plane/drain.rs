//! Leaving in order (contracts.md §6).

use std::time::{Duration, Instant};

use crate::client::End;
use crate::provider::{EVENTS, OK, Provider, chunk};
use crate::stage::{Setup, Upstream};
use crate::wait;

#[tokio::test(flavor = "multi_thread")]
async fn without_connections_it_is_over_at_once() {
    let mut stage = Setup::new(Upstream::Echo).max_requests(10).start().await;
    assert_eq!(
        stage.send(stage.chat().replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await.status,
        200
    );
    let began = Instant::now();
    let report = stage.drain().await;
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(report.cut == 0 && report.leases_returned, "{report:?}");
    assert_eq!(stage.quota().await, (1, 0, 0));
    assert!(stage.fleet.replicas().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_announced_every_answer_closes_its_connection_and_ready_says_no() {
    let mut stage = Setup::new(Upstream::Echo).with(|s| s.drain.delay = Duration::from_secs(3)).start().await;
    let (mut kept, mut probe, mut preflight) = (stage.connect().await, stage.connect().await, stage.connect().await);
    let (chat, address) = (stage.chat(), stage.address());
    assert_eq!(kept.send(&chat).await.header("connection"), None);
    let proxy = stage.proxy.take().unwrap();
    let draining = tokio::spawn(proxy.drain());
    wait::until("/ready saying no", || async {
        let mut client = crate::client::Client::open(address).await;
        client.send("GET /ready HTTP/1.1\r\nhost: x\r\n\r\n").await.status == 503
    })
    .await;
    let ready = probe.send("GET /ready HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!((ready.status, ready.header("connection")), (503, Some("close")));
    let live = preflight.send("OPTIONS /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!((live.status, live.header("connection")), (204, Some("close")));
    let answer = kept.send(&chat).await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(kept.until_closed().await, "");
    wait::soon("the end", draining).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_of_the_grace_streams_get_an_event_and_waiting_requests_an_answer() {
    let provider = Provider::start().await;
    let mut stage = Setup::new(&provider)
        .max_requests(10)
        .with(|s| s.drain.grace = Duration::from_millis(200))
        .start()
        .await;
    let mut streaming = stage.connect().await;
    streaming.write(stage.chat()).await;
    let mut first = provider.accept().await;
    first.request().await;
    first.write(format!("{EVENTS}{}", chunk("data: {}\n\n"))).await;
    streaming.sees("data: {}").await;
    let mut waiting = stage.connect().await;
    waiting.write(stage.chat()).await;
    let mut second = provider.accept().await;
    second.request().await;

    let proxy = stage.proxy.take().unwrap();
    let draining = tokio::spawn(proxy.drain());
    let stream = streaming.answer().await;
    assert!(stream.end == End::Complete && stream.body.contains("\"draining\""), "{stream:?}");
    assert_eq!(waiting.answer().await.verdict(), (503, "draining".to_owned()));
    first.closed().await;
    second.closed().await;
    let report = wait::soon("the end", draining).await.unwrap();
    assert_eq!((report.cut, report.leases_returned), (2, true));
    assert_eq!(stage.quota().await, (2, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_up_nobody() {
    let provider = Provider::start().await;
    let mut stage = Setup::new(&provider)
        .max_requests(10)
        .with(|s| s.drain.grace = Duration::from_millis(200))
        .start()
        .await;
    let mut client = stage.connect().await;
    client.write(stage.chat()).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    peer.write(EVENTS).await;
    client.head().await;
    let flood = tokio::spawn(async move {
        let piece = chunk(&"x".repeat(1 << 20));
        while peer.try_write(&piece).await {}
    });
    let began = Instant::now();
    let report = stage.drain().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((report.cut, report.leases_returned), (1, true));
    wait::soon("the provider let go", flood).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_in_time_is_not_cut() {
    let provider = Provider::start().await;
    let mut stage = Setup::new(&provider).start().await;
    let mut client = stage.connect().await;
    client.write(stage.chat()).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    peer.write(format!("{EVENTS}{}", chunk("data: {}\n\n"))).await;
    client.sees("data: {}").await;
    let address = stage.address();
    let proxy = stage.proxy.take().unwrap();
    let draining = tokio::spawn(proxy.drain());
    wait::until("the closed door", || async { tokio::net::TcpStream::connect(address).await.is_err() }).await;
    peer.write(chunk("data: [DONE]\n\n") + "0\r\n\r\n").await;
    let answer = client.answer().await;
    assert!(answer.end == End::Complete && answer.body.ends_with("[DONE]\n\n"), "{answer:?}");
    assert_eq!(wait::soon("the end", draining).await.unwrap().cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_still_wait_to_be_accepted_are_served() {
    let provider = Provider::start().await;
    let upstream = Upstream::from(&provider);
    provider.always(OK);
    for _ in 0..5 {
        let mut stage = Setup::new(upstream_of(&upstream)).with(|s| s.threads = 2).start().await;
        let (chat, address) = (stage.chat(), stage.address());
        // Without await in between: all of them are in the kernel's queue when the drain begins.
        let mut sockets = Vec::new();
        for _ in 0..100 {
            let socket = std::net::TcpStream::connect(address).unwrap();
            std::io::Write::write_all(&mut &socket, chat.as_bytes()).unwrap();
            sockets.push(socket);
        }
        let proxy = stage.proxy.take().unwrap();
        let draining = tokio::spawn(proxy.drain());
        let served = tokio::task::spawn_blocking(move || {
            sockets
                .into_iter()
                .filter(|socket| {
                    let mut text = String::new();
                    let _ = std::io::Read::read_to_string(&mut &*socket, &mut text);
                    text.starts_with("HTTP/1.1 200")
                })
                .count()
        });
        assert_eq!(wait::soon("all answers", served).await.unwrap(), 100);
        wait::soon("the end", draining).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_may_still_ask_and_half_a_head_holds_nobody_up() {
    let mut stage = Setup::new(Upstream::Echo).start().await;
    let (mut idle, mut half, mut later) = (stage.connect().await, stage.connect().await, stage.connect().await);
    assert_eq!(idle.send(stage.chat()).await.status, 200);
    assert_eq!(later.send(stage.chat()).await.status, 200);
    half.write("GET /v1/mod").await;
    later.write("GET /v1/mod").await;
    let (address, chat) = (stage.address(), stage.chat());
    let proxy = stage.proxy.take().unwrap();
    let began = Instant::now();
    let draining = tokio::spawn(proxy.drain());
    wait::until("the closed door", || async { tokio::net::TcpStream::connect(address).await.is_err() }).await;
    let answer = idle.send(chat).await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    wait::soon("the end", draining).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

fn upstream_of(upstream: &Upstream) -> Upstream {
    match upstream {
        Upstream::Echo => Upstream::Echo,
        Upstream::Url(url) => Upstream::Url(url.clone()),
    }
}

//! Answers on their way through: at once, unbuffered, ended as they ended at the provider, their connections reused only when clean.

use std::time::Duration;

use crate::client::{Client, End};
use crate::provider::{EVENTS, OK, Peer, Provider, chunk};
use crate::stage::{Setup, Stage};
use crate::wait;

/// A request that has arrived at the provider.
async fn asked(stage: &Stage, provider: &Provider) -> (Client, Peer) {
    let mut client = stage.connect().await;
    client.write(stage.chat()).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    (client, peer)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_piece_is_passed_on_as_soon_as_it_is_here() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    let (mut client, mut peer) = asked(&stage, &provider).await;
    peer.write(EVENTS).await;
    let head = client.head().await;
    for piece in ["data: {\"a\"", ":1}\n", "\n"] {
        peer.write(chunk(piece)).await;
        client.sees(piece).await;
    }
    peer.write("0\r\n\r\n").await;
    let answer = client.rest_of(head).await;
    assert_eq!((answer.body.as_str(), answer.end), ("data: {\"a\":1}\n\n", End::Complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_the_provider_back_and_not_our_memory() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    let (mut client, mut peer) = asked(&stage, &provider).await;
    let (piece, pieces) = (chunk(&format!("data: {}\n\n", "x".repeat(1 << 20))), 64);
    peer.write(EVENTS).await;
    let mut written = 0;
    while written < pieces {
        // Two sockets hold a few pieces; without a reader the rest stays with the provider.
        match tokio::time::timeout(Duration::from_millis(300), peer.write_on(&piece, written)).await {
            Ok(()) => written += 1,
            Err(_) => break,
        }
    }
    assert!(written < pieces, "everything was taken");
    let provide = async {
        while written < pieces {
            peer.write_on(&piece, written).await;
            written += 1;
        }
        peer.write("0\r\n\r\n").await;
    };
    let (answer, ()) = tokio::join!(client.answer(), provide);
    assert_eq!((answer.end, answer.body.len()), (End::Complete, pieces * ((1 << 20) + 8)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_of_promised_length_breaks_off_without_an_event() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    let (mut client, mut peer) = asked(&stage, &provider).await;
    peer.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 100\r\n\r\ndata: {}\n\n")
        .await;
    client.sees("data: {}\n\n").await;
    peer.reset();
    let answer = client.answer().await;
    assert_eq!((answer.body.as_str(), answer.end), ("data: {}\n\n", End::Cut));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_stream_breaks_off_without_an_event() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    let (mut client, mut peer) = asked(&stage, &provider).await;
    peer.write(EVENTS.replace("\r\n\r\n", "\r\ncontent-encoding: gzip\r\n\r\n")).await;
    peer.write(chunk("\u{1f}")).await;
    client.sees("\u{1f}").await;
    peer.reset();
    let answer = client.answer().await;
    assert_eq!((answer.body.as_str(), answer.end), ("\u{1f}", End::Cut));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_ends_with_an_error_event_and_lets_go_of_the_provider() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider)
        .with(|s| s.limits.reply_idle = Duration::from_millis(100))
        .start()
        .await;
    let (mut client, mut peer) = asked(&stage, &provider).await;
    peer.write(format!("{EVENTS}{}", chunk("data: {}\n\n"))).await;
    let answer = client.answer().await;
    assert!(answer.body.contains("\"upstream_error\"") && answer.end == End::Complete, "{answer:?}");
    peer.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_nothing_but_a_head_pass_and_their_connection_is_used_again() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    let (mut client, mut peer) = asked(&stage, &provider).await;
    for (head, status) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n", 304),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
        (
            "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            200,
        ),
    ] {
        peer.write(head).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str(), answer.end), (status, "", End::Complete));
        client.write(stage.chat()).await;
        peer.request().await;
    }
    assert!(provider.is_left_alone().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_its_connection_passes_whole() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n",
        "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 8\r\n\r\n",
    ] {
        let (mut client, mut peer) = asked(&stage, &provider).await;
        peer.write(head).await;
        peer.write("{\"a\":1}\n").await;
        if !head.contains("content-length") {
            drop(peer);
        } else {
            peer.closed().await;
        }
        let answer = client.answer().await;
        assert_eq!((answer.body.as_str(), answer.end), ("{\"a\":1}\n", End::Complete), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_do_not_spoil_an_answer_or_its_connection() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    let (mut client, mut peer) = asked(&stage, &provider).await;
    for _ in 0..3 {
        peer.write(format!("{EVENTS}{}0\r\nx-trailer: 1\r\n\r\n", chunk("data: {}\n\n"))).await;
        let answer = client.answer().await;
        assert_eq!((answer.body.as_str(), answer.end), ("data: {}\n\n", End::Complete));
        client.write(stage.chat()).await;
        peer.request().await;
    }
    assert!(provider.is_left_alone().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_switches_protocols_unasked_is_a_502() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    let (mut client, mut peer) = asked(&stage, &provider).await;
    peer.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhello")
        .await;
    assert_eq!(client.answer().await.verdict(), (502, "upstream_error".to_owned()));
    client.write(stage.chat()).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    peer.write(OK).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_is_seen_though_the_client_sent_a_body_where_none_belongs() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    let mut client = stage.connect().await;
    client
        .write(stage.get("/v1/models", "content-length: 100000\r\n") + &"x".repeat(100_000))
        .await;
    let mut peer = provider.accept().await;
    let head = peer.request().await;
    assert_eq!(crate::client::header(&head, "content-length"), None);
    drop(client);
    peer.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_left_before_the_head_is_no_error_of_ours() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    let (client, mut peer) = asked(&stage, &provider).await;
    drop(client);
    peer.closed().await;
    wait::until("the record", || async {
        stage.metric("llm_proxy_requests_total{status=\"499\"}").await == Some(1.0)
    })
    .await;
    assert_eq!(stage.metric("llm_proxy_requests_total{status=\"500\"}").await, None);
    assert_eq!(stage.metric("llm_proxy_in_flight").await, Some(0.0));
}

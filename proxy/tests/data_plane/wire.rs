//! What a provider may put on the wire: split anywhere, cut anywhere, with framings that two readers might read differently, or with more behind it
//! than belongs there. An answer is whole or visibly cut, and nothing of it ever reaches the next request.

use std::time::Duration;

use crate::client::{Answer, Client, End};
use crate::provider::{EVENTS, OK, Peer, Provider, chunk};
use crate::stage::{Setup, Stage};
use crate::wait;

const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

/// A request that has arrived at the provider over a connection of its own.
async fn asked(stage: &Stage, provider: &Provider) -> (Client, Peer) {
    let mut client = stage.connect().await;
    client.write(stage.chat()).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    (client, peer)
}

/// The next request is served over another connection, and has its own answer.
async fn goes_on(client: &mut Client, stage: &Stage, provider: &Provider) {
    client.write(stage.chat()).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    peer.write(OK).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert!(OK.ends_with(&answer.body), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_byte_by_byte_arrives_whole_and_its_connection_is_used_again() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    let (mut client, mut peer) = asked(&stage, &provider).await;
    for (wire, body) in [
        (format!("{JSON}content-length: 7\r\n\r\n{{\"a\":1}}"), "{\"a\":1}"),
        (
            format!(
                "{EVENTS}{}{}0;x=y\r\nx-trailer: 1\r\n\r\n",
                chunk("data: {\"a\":1}\n\n"),
                chunk("data: [DONE]\n\n")
            ),
            "data: {\"a\":1}\n\ndata: [DONE]\n\n",
        ),
        (format!("HTTP/1.1 100 Continue\r\n\r\n{JSON}content-length: 0\r\n\r\n"), ""),
    ] {
        for byte in wire.bytes() {
            peer.write([byte]).await;
            tokio::task::yield_now().await;
        }
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str(), answer.end), (200, body, End::Complete));
        client.write(stage.chat()).await;
        peer.request().await;
    }
    assert!(provider.is_left_alone().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_two_readers_might_frame_differently_is_a_502_and_ends_its_connection() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).max_requests(1_000).start().await;
    let many = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let large = format!("x: {}\r\n", "x".repeat(100 << 10));
    let mut client = stage.connect().await;
    let mut sent = 0;
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding : chunked\r\n",
        "HTTP/1.1 200 OK\r\nx: 1\r\n content-length: 2\r\n",
        "HTTP/1.1 200 OK\r\nx: 1\rcontent-length: 2\r\n",
        "HTTP/1.1 20 OK\r\ncontent-length: 2\r\n",
        "HTTP/2 200\r\ncontent-length: 2\r\n",
        "\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n",
        &format!("HTTP/1.1 200 OK\r\n{many}"),
        &format!("HTTP/1.1 200 OK\r\n{large}"),
        &"HTTP/1.1 102 Processing\r\n\r\n".repeat(40),
    ] {
        client.write(stage.chat()).await;
        let mut peer = provider.accept().await;
        peer.request().await;
        // It may be given up before all of it is written.
        peer.try_write(format!("{head}\r\n{{}}")).await;
        let answer = client.answer().await;
        assert_eq!(answer.verdict(), (502, "upstream_error".to_owned()), "{head:?}: {answer:?}");
        peer.closed().await;
        sent += 1;
    }
    goes_on(&mut client, &stage, &provider).await;
    stage.settles_at(sent + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_chunk_ends_a_stream_with_an_event_and_cuts_anything_else() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    for broken in ["zz\r\n", "\r\n", "-1\r\n", "5\n", "10000000000000000\r\n", "2\r\nabc\r\n", "5;\rx\r\n"] {
        let (mut client, mut peer) = asked(&stage, &provider).await;
        peer.write(format!("{EVENTS}{}", chunk("data: {}\n\n"))).await;
        client.sees("data: {}").await;
        peer.try_write(broken).await;
        let answer = client.answer().await;
        assert_eq!(answer.end, End::Complete, "{broken:?}: {answer:?}");
        assert!(answer.body.contains("\"upstream_error\""), "{broken:?}: {answer:?}");
        peer.closed().await;

        let (mut client, mut peer) = asked(&stage, &provider).await;
        peer.write(format!("{JSON}transfer-encoding: chunked\r\n\r\n{}", chunk("{\"a\":"))).await;
        client.sees("{\"a\":").await;
        peer.try_write(broken).await;
        assert_eq!(client.answer().await.end, End::Cut, "{broken:?}");
        peer.closed().await;
    }
}

/// Whether an answer that was cut by its provider shows it.
fn shows_the_cut(answer: Option<&Answer>) -> bool {
    match answer {
        None => true,
        Some(answer) => answer.status == 502 || answer.end == End::Cut || answer.body.contains("\"upstream_error\""),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_provider_closes_or_resets_the_answer_never_looks_whole() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    let whole = [
        format!("{JSON}content-length: 7\r\n\r\n{{\"a\":1}}"),
        format!("{EVENTS}{}{}0\r\nx: 1\r\n\r\n", chunk("data: {}\n\n"), chunk("data: [DONE]\n\n")),
    ];
    for wire in &whole {
        let head = wire.find("\r\n\r\n").expect("a head") + 4;
        // Within the head a few places are like all others.
        let cuts = [0, 1, 20, head - 3, head - 1].into_iter().chain(head..wire.len());
        for cut in cuts {
            for reset in [false, true] {
                let (mut client, mut peer) = asked(&stage, &provider).await;
                peer.write(&wire[..cut]).await;
                if reset {
                    peer.reset();
                } else {
                    drop(peer);
                }
                let text = client.until_closed_or_answered().await;
                assert!(shows_the_cut(text.as_ref()), "cut at {cut} of {wire:?}, reset: {reset}: {text:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_an_answer_never_becomes_another_requests_answer() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    let forged = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n\"forged!!\"";
    for answer in [
        OK.to_owned(),
        format!("{EVENTS}{}0\r\n\r\n", chunk("data: {}\n\n")),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        // A length that the status makes void.
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n".to_owned(),
    ] {
        let (mut client, mut peer) = asked(&stage, &provider).await;
        peer.write(format!("{answer}{forged}")).await;
        assert!(!client.answer().await.body.contains("forged"));
        peer.closed().await;
        goes_on(&mut client, &stage, &provider).await;

        // The same, once the connection is idle.
        let (mut client, mut peer) = asked(&stage, &provider).await;
        peer.write(&answer).await;
        assert!(client.answer().await.status < 400);
        peer.try_write(forged).await;
        peer.closed().await;
        goes_on(&mut client, &stage, &provider).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_closes_its_half_after_an_answer_or_before_it_is_not_asked_again_over_it() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    let (mut client, mut peer) = asked(&stage, &provider).await;
    peer.write(OK).await;
    peer.finish().await;
    assert_eq!(client.answer().await.end, End::Complete);
    peer.closed().await;
    goes_on(&mut client, &stage, &provider).await;

    let (mut client, mut peer) = asked(&stage, &provider).await;
    peer.finish().await;
    assert_eq!(client.answer().await.verdict(), (502, "upstream_error".to_owned()));
    peer.closed().await;
    goes_on(&mut client, &stage, &provider).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_before_the_end_of_the_body_reaches_the_client_though_the_provider_closes() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).max_requests(10).start().await;
    let mut client = stage.connect().await;
    // Far more than two sockets hold.
    let body = format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "x".repeat(24 << 20));
    client.write(stage.post("", &body)).await;
    let mut peer = provider.accept().await;
    peer.head().await;
    peer.write("HTTP/1.1 413 Payload Too Large\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        .await;
    peer.finish().await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (413, "{}"));
    peer.closed().await;
    goes_on(&mut client, &stage, &provider).await;
    stage.settles_at(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_when_its_time_is_over() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider)
        .with(|s| s.limits.upstream_idle = Duration::from_millis(80))
        .start()
        .await;
    let (mut client, mut peer) = asked(&stage, &provider).await;
    peer.write(OK).await;
    assert_eq!(client.answer().await.status, 200);
    peer.closed().await;
    goes_on(&mut client, &stage, &provider).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_streams_through_in_the_framing_that_it_came_in() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider).start().await;
    let head = |framing: &str| {
        format!(
            "POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: multipart/form-data; boundary=b\r\n{framing}\r\n\r\n",
            stage.key
        )
    };
    let mut client = stage.connect().await;
    client.write(head("content-length: 12")).await;
    let mut peer = provider.accept().await;
    assert!(peer.head().await.contains("\r\ncontent-length: 12"));
    client.write("--b\r\n").await;
    peer.sees("--b\r\n").await;
    client.write("x\r\n--b-").await;
    peer.sees("x\r\n--b-").await;
    peer.write(OK).await;
    assert_eq!(client.answer().await.status, 200);

    client.write(head("transfer-encoding: chunked")).await;
    assert!(peer.head().await.contains("\r\ntransfer-encoding: chunked"));
    client.write(chunk("--b\r\n")).await;
    peer.sees("5\r\n--b\r\n\r\n").await;
    client.write(chunk("x\r\n--b--") + "0\r\nx-trailer: 1\r\n\r\n").await;
    peer.sees("8\r\nx\r\n--b--\r\n0\r\n\r\n").await;
    peer.write(OK).await;
    assert_eq!(client.answer().await.status, 200);
    wait::until("both booked", || async { stage.usage().await.0 == 2 }).await;
    assert!(provider.is_left_alone().await);
}

//! What clients may send and what they get for it, byte by byte.

use std::time::Duration;

use crate::client::{Client, End};
use crate::provider::{OK, Provider};
use crate::stage::{Setup, Stage, Upstream};

/// A stage whose provider always answers.
async fn stage() -> Stage {
    let provider = Provider::start().await;
    let upstream = Upstream::from(&provider);
    provider.always(OK);
    Setup::new(upstream)
        .with(|s| {
            s.limits.body_idle = Duration::from_millis(150);
            s.limits.max_body_bytes = 1 << 20;
        })
        .start()
        .await
}

fn verdict(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_there_but_unreadable_or_doubled_is_malformed_and_not_missing() {
    let stage = stage().await;
    let ask = async |headers: &[u8]| {
        let mut client = stage.connect().await;
        client.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n").await;
        client.write(headers).await;
        client.send("\r\n").await.verdict()
    };
    assert_eq!(ask(b"authorization: Bearer sk-\xff\r\n").await, verdict(401, "invalid_token"));
    let good = format!("authorization: Bearer {}\r\n", stage.key);
    assert_eq!(ask(good.as_bytes()).await.0, 200);
    let two = format!("{good}authorization: Bearer sk-other\r\n");
    assert_eq!(ask(two.as_bytes()).await, verdict(401, "invalid_token"));
    let unreadable = format!("authorization: Bearer \u{fc}\r\nx-api-key: {}\r\n", stage.key);
    assert_eq!(ask(unreadable.as_bytes()).await, verdict(401, "invalid_token"));
    assert_eq!(ask(b"x-api-key: a\r\nx-api-key: b\r\n").await, verdict(401, "invalid_token"));
    assert_eq!(ask(b"authorization: Basic abc\r\n").await, verdict(401, "missing_token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_websockets_are_refused_other_upgrades_are_passed_over() {
    let stage = stage().await;
    let mut client = stage.connect().await;
    // What Java's own client sends over cleartext, unasked.
    let h2c = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n";
    for _ in 0..2 {
        let answer = client.send(stage.post(h2c, r#"{"model":"m"}"#)).await;
        assert_eq!((answer.status, answer.end), (200, End::Complete), "{answer:?}");
    }
    let websocket = "connection: upgrade\r\nupgrade: WebSocket\r\n";
    for target in ["/v1/realtime", "/v1/responses"] {
        assert_eq!(
            client.send(stage.get(target, websocket)).await.verdict(),
            verdict(501, "websocket_not_supported")
        );
    }
    assert_eq!(client.send(stage.chat()).await.status, 200, "the connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_exactly_one_host() {
    let stage = stage().await;
    let rest = format!("authorization: Bearer {}\r\n\r\n", stage.key);
    for hosts in ["", "host: a\r\nhost: a\r\n"] {
        let answer = stage.send(format!("GET /v1/models HTTP/1.1\r\n{hosts}{rest}")).await;
        assert_eq!(answer.verdict(), verdict(400, "invalid_host"), "{hosts:?}");
    }
    let answer = stage.send(format!("GET /v1/models HTTP/1.0\r\n{rest}")).await;
    assert_eq!(answer.status, 200, "HTTP/1.0 knows no Host");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_brings_no_whole_head_in_its_time_is_closed_and_one_that_is_served_is_not() {
    let deadline = Duration::from_millis(300);
    let setup = Setup::new(Upstream::Echo).with(|settings| settings.limits.head_deadline = deadline);
    let stage = setup.start().await;
    let (mut silent, mut slow, mut busy) = (stage.connect().await, stage.connect().await, stage.connect().await);
    slow.write("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n").await;
    let words = "word ".repeat(40);
    let chat = serde_json::json!({"model": "echo-20ms", "stream": true, "messages": [{"role": "user", "content": words}]}).to_string();
    let asked = std::time::Instant::now();
    let answer = busy.send(stage.post("", &chat)).await;
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert!(asked.elapsed() > 2 * deadline, "a reply may take longer than a head");
    // Its time began anew with the end of its last reply.
    assert_eq!(busy.send(stage.chat()).await.status, 200);
    assert_eq!((silent.until_closed().await, slow.until_closed().await), (String::new(), String::new()));
    busy.until_closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_targets_lead_nowhere_else() {
    let stage = stage().await;
    let key = &stage.key;
    for (line, expected) in [
        ("GET http://elsewhere.invalid/v1/models HTTP/1.1", 200),
        ("GET /v1//models HTTP/1.1", 404),
        ("GET //v1/models HTTP/1.1", 404),
        ("GET /v1/%6dodels HTTP/1.1", 404),
        ("GET /v1/models/ HTTP/1.1", 404),
        ("GET /v1/models/..%2fusers HTTP/1.1", 404),
        ("GET /v1/files/%2e%2e/content HTTP/1.1", 404),
        ("GET /v1/../v1/models HTTP/1.1", 404),
        ("GET /V1/models HTTP/1.1", 404),
        ("CONNECT elsewhere.invalid:443 HTTP/1.1", 404),
        ("HEAD /v1/models HTTP/1.1", 405),
        ("TRACE /v1/models HTTP/1.1", 405),
        ("OPTIONS * HTTP/1.1", 204),
    ] {
        let mut client = stage.connect().await;
        client
            .write(format!("{line}\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n"))
            .await;
        let head = client.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {expected} ")), "{line}: {head}");
        assert!(crate::client::header(&head, "x-request-id").is_some(), "{line}: {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_is_served_in_its_own_language() {
    let stage = Setup::new(Upstream::Echo).start().await;
    for body in [r#"{"model":"echo","messages":[]}"#, r#"{"model":"echo","stream":true,"messages":[]}"#] {
        let mut client = stage.connect().await;
        client.write(stage.post("", body).replace("HTTP/1.1", "HTTP/1.0")).await;
        let answer = client.until_closed().await;
        assert!(
            answer.starts_with("HTTP/1.0 200") && !answer.to_ascii_lowercase().contains("transfer-encoding"),
            "{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_ahead_are_answered_in_order() {
    let stage = stage().await;
    let mut client = stage.connect().await;
    client
        .write(stage.get("/v1/nowhere", "") + &stage.chat() + &stage.get("/v1/models/x%20y", ""))
        .await;
    assert_eq!(client.answer().await.status, 404);
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.answer().await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_with_trailers_is_one_body() {
    let stage = stage().await;
    let mut client = stage.connect().await;
    let head = stage.post("transfer-encoding: chunked\r\n", "").replace("content-length: 0\r\n", "");
    for _ in 0..2 {
        client
            .write(format!("{head}7\r\n{{\"model\r\n6;x=y\r\n\":\"m\"}}\r\n0\r\nx-trailer: 1\r\n\r\n"))
            .await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_before_100_continue_closes_since_nobody_knows_whether_the_body_still_comes() {
    let stage = stage().await;
    let head = stage
        .post("expect: 100-continue\r\n", "")
        .replace("content-length: 0", "content-length: 13")
        .replace(&stage.key, "sk-lp-x");
    let mut client = stage.connect().await;
    let answer = client.send(head).await;
    assert_eq!(answer.verdict(), verdict(401, "invalid_token"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(client.until_closed().await, "", "no 100, and no second answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_is_a_408_that_closes() {
    let stage = stage().await;
    let mut client = stage.connect().await;
    client
        .write(stage.post("", "{}").replace("content-length: 2", "content-length: 100"))
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.verdict(), verdict(408, "request_timeout"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.header("x-request-id").is_some());
}

fn form(stage: &Stage, framing: &str) -> String {
    format!(
        "POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: multipart/form-data; boundary=b\r\n{framing}\r\n\r\n",
        stage.key
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_stalls_is_a_408() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider)
        .with(|s| s.limits.body_idle = Duration::from_millis(100))
        .start()
        .await;
    let mut client = stage.connect().await;
    client.write(form(&stage, "content-length: 1000") + "--b").await;
    assert_eq!(client.answer().await.verdict(), verdict(408, "request_timeout"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_grows_too_large_is_a_413_announced_or_not() {
    let stage = stage().await;
    let mut client = stage.connect().await;
    client.write(form(&stage, "content-length: 2000000")).await;
    assert_eq!(client.answer().await.verdict(), verdict(413, "request_too_large"));

    let provider = Provider::start().await;
    let stage = Setup::new(&provider)
        .max_requests(2)
        .with(|s| s.limits.max_body_bytes = 1 << 20)
        .start()
        .await;
    let mut client = stage.connect().await;
    client.write(form(&stage, "transfer-encoding: chunked")).await;
    let mut peer = provider.accept().await;
    peer.head().await;
    let (gone, chunk) = (
        tokio::spawn(async move { peer.closed().await }),
        format!("10000\r\n{}\r\n", "x".repeat(1 << 16)),
    );
    for _ in 0..24 {
        client.write(&chunk).await;
    }
    client.write("0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.verdict(), verdict(413, "request_too_large"));
    assert_eq!(answer.header("connection"), Some("close"));
    gone.await.unwrap();
    stage.settles_at(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_413_is_readable_by_a_client_that_first_writes_everything() {
    let stage = stage().await;
    for close in ["", "connection: close\r\n"] {
        let mut client = stage.connect().await;
        let head = stage.post(close, "").replace("content-length: 0", "content-length: 30000000");
        client.write(head).await;
        client.write(vec![b' '; 30_000_000]).await;
        assert_eq!(client.answer().await.verdict(), verdict(413, "request_too_large"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_names_its_request_and_those_on_v1_their_origin() {
    let stage = stage().await;
    let origin = "origin: https://app.example\r\n";
    for (request, status) in [
        (stage.get("/v1/models", origin), 200),
        (stage.get("/v1/nowhere", origin), 404),
        (stage.post(origin, "{"), 400),
        (stage.get("/v1/models", origin).replace(&stage.key, "x"), 401),
        (
            format!(
                "OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{origin}access-control-request-method: POST\r\naccess-control-request-headers: authorization, x-stainless-os\r\n\r\n"
            ),
            204,
        ),
    ] {
        let answer = stage.send(&request).await;
        assert_eq!(answer.status, status, "{request}");
        assert!(answer.header("x-request-id").is_some(), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"), "{answer:?}");
    }
    for path in ["/health", "/ready", "/live", "/metrics"] {
        let answer = stage.send(stage.get(path, origin)).await;
        assert!(answer.status == 200 && answer.header("x-request-id").is_some(), "{answer:?}");
        // Without a token anybody's page could read it.
        assert_eq!(answer.header("access-control-allow-origin"), None, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_the_clients_or_a_fresh_one() {
    let stage = stage().await;
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let answer = stage.send(stage.get("/v1/nowhere", "")).await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert!(id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
        assert!(ids.insert(id), "{answer:?}");
    }
    let answer = stage.send(stage.get("/v1/nowhere", "x-request-id: mine-1\r\n")).await;
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_a_431() {
    let stage = stage().await;
    let large = format!("x-large: {}\r\n", "x".repeat(80 << 10));
    let answer = stage.send(stage.get("/v1/models", &large)).await;
    assert_eq!((answer.status, answer.end), (431, End::Complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_outlives_refusals_of_bodies_that_were_sent() {
    let stage = stage().await;
    let mut client: Client = stage.connect().await;
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(200_000));
    for _ in 0..3 {
        assert_eq!(client.send(stage.post("", &long).replace(&stage.key, "x")).await.status, 401);
        assert_eq!(client.send(stage.post("", &long)).await.status, 400);
        assert_eq!(client.send(stage.chat()).await.status, 200);
    }
}

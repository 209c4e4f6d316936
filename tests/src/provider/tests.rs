//! The scripted provider, tried on itself with the kit's own client.

use std::time::{Duration, Instant};

use super::*;
use crate::client::{self, Connection, End, Request};
use crate::wait;

fn connect(provider: &Provider) -> Connection {
    Connection::open(provider.addr()).unwrap()
}

#[test]
fn it_answers_in_openai_formats_and_keeps_what_it_received() {
    let provider = Provider::start();
    let mut connection = connect(&provider);
    let whole = connection.send(&Request::chat(false).bearer("key")).unwrap();
    assert_eq!((whole.status, whole.json()["object"].as_str()), (200, Some("chat.completion")));
    let streamed = connection.send(&Request::chat(true)).unwrap();
    assert_eq!(streamed.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert!(streamed.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(streamed.text().matches("\"usage\":{").count(), 1);
    assert_eq!(connection.send(&Request::get("/v1/models")).unwrap().json()["data"][0]["object"], "model");
    assert_eq!(connection.send(&Request::get("/v1/nowhere")).unwrap().status, 404);
    assert_eq!((provider.heads(), provider.connections()), (4, 1));
    let first = &provider.exchanges()[0];
    assert_eq!((first.method(), first.target()), ("POST", "/v1/chat/completions"));
    assert_eq!(first.header("Authorization"), Some("Bearer key"));
    assert_eq!(first.json()["model"], "gpt-4o-mini");
}

#[test]
fn a_queue_goes_first_and_then_the_standing_answer() {
    let provider = Provider::start();
    provider.always(wire::error(500, "no", "server_error", serde_json::Value::Null));
    provider.once(Reply::json_with(429, "retry-after: 7\r\n", &serde_json::json!({})));
    let first = client::send(provider.addr(), &Request::chat(false)).unwrap();
    assert_eq!((first.status, first.header("retry-after")), (429, Some("7")));
    assert_eq!(client::send(provider.addr(), &Request::chat(false)).unwrap().status, 500);
    provider.as_openai();
    assert_eq!(client::send(provider.addr(), &Request::chat(false)).unwrap().status, 200);
}

#[test]
fn chunks_leave_one_by_one_at_their_times() {
    let provider = Provider::start();
    let pause = Duration::from_millis(20);
    provider.once(Reply::events(&["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"], pause));
    let response = client::send(provider.addr(), &Request::chat(true)).unwrap();
    assert_eq!(response.end, End::Complete);
    let seen: Vec<_> = response.arrivals.iter().map(|arrival| arrival.bytes.clone()).collect();
    assert_eq!(seen, [b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"]);
    assert!(response.arrivals[2].at - response.arrivals[0].at >= 2 * pause - Duration::from_millis(5));
    assert_eq!(provider.last().writes().len(), 5);
}

#[test]
fn a_reset_before_the_head_and_one_in_the_body_reach_the_client() {
    let provider = Provider::start();
    provider.once(Reply::reset());
    assert!(client::send(provider.addr(), &Request::chat(true)).is_err());
    provider.once(
        Reply::event_stream()
            .chunks(&["data: 1\n\n"], Duration::ZERO)
            .wait(Duration::from_millis(20))
            .then(Step::Reset),
    );
    let response = client::send(provider.addr(), &Request::chat(true)).unwrap();
    assert_eq!((response.end, response.text().as_str()), (End::Cut, "data: 1\n\n"));
    assert_eq!(provider.last().ending(), Some(Ending::Done));
}

#[test]
fn a_hang_up_is_seen_at_once_even_while_it_is_silent() {
    let provider = Provider::start();
    for (number, with_unread_bytes) in [false, true].into_iter().enumerate() {
        provider.once(if with_unread_bytes {
            Reply::event_stream().then(Step::Silence)
        } else {
            Reply::silent()
        });
        let mut connection = connect(&provider);
        connection.write(&Request::chat(true).bytes(provider.addr())).unwrap();
        let request = provider.request(number);
        let hung_up = connection.hang_up();
        let seen = wait::some("the hang-up at the provider", wait::SOON, || request.peer_closed());
        assert!(seen - hung_up < Duration::from_millis(100), "{:?}", seen - hung_up);
    }
}

#[test]
fn after_its_own_fin_it_waits_for_the_peers() {
    let provider = Provider::start();
    provider.once(Reply::json(200, &serde_json::json!({})).then(Step::Finish));
    let mut connection = connect(&provider);
    assert_eq!(connection.send(&Request::chat(false)).unwrap().status, 200);
    assert!(connection.closes_within(wait::SOON));
    assert_eq!(provider.last().ending(), None);
    let _ = connection.hang_up();
    wait::until("the peer's FIN", wait::SOON, || provider.last().peer_closed().is_some());
}

#[test]
fn an_answer_may_come_before_the_body_and_a_body_may_never_end() {
    let provider = Provider::start();
    provider.once(wire::error(413, "too large", "invalid_request_error", serde_json::Value::Null).before_body());
    let mut connection = connect(&provider);
    connection
        .write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n")
        .unwrap();
    assert_eq!(connection.response().unwrap().status, 413);
    let mut connection = connect(&provider);
    connection
        .write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 10\r\n\r\nhalf")
        .unwrap();
    wait::until("the head", wait::SOON, || provider.heads() == 2);
    let _ = connection.hang_up();
    wait::until("the hang-up", wait::SOON, || provider.last().peer_closed().is_some());
    assert!(provider.last().body().is_empty());
}

#[test]
fn chunked_requests_are_decoded() {
    let provider = Provider::start();
    let mut connection = connect(&provider);
    connection
        .write(b"POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
        .unwrap();
    assert_eq!(connection.response().unwrap().status, 200);
    assert_eq!(provider.last().body(), b"{}");
}

/// Not a benchmark: it only keeps a slip from making every limits test slow. The figure in release stands in the bench's table.
#[test]
fn it_keeps_up_with_a_load() {
    let provider = Provider::start_counting(Reply::json(200, &wire::chat("m")));
    let start = Instant::now();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut connection = connect(&provider);
            std::thread::spawn(move || {
                for _ in 0..500 {
                    assert_eq!(connection.send(&Request::chat(false)).unwrap().status, 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!((provider.heads(), provider.connections()), (2000, 4));
    assert!(provider.exchanges().is_empty());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

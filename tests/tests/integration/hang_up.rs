//! A client that hangs up is hung up on at the provider too, at once, whether or not anything is being written.

use std::time::Duration;

use testkit::client::{Connection, Request};
use testkit::provider::{Reply, Step, wire};
use testkit::stage::Stage;
use testkit::wait;

const ROUNDS: usize = 50;

/// The longest that a client's close may take to reach the provider.
const LIMIT: Duration = Duration::from_millis(100);

#[test]
fn the_provider_sees_a_hang_up_within_100_ms_before_the_head_and_in_a_silent_stream() {
    let stage = Stage::new("");
    let events = wire::chat_events("m", &["The"], false);
    let mut delays = Vec::new();
    for round in 0..ROUNDS {
        let before_the_head = round % 2 == 0;
        let in_a_stream = Reply::event_stream().chunks(&events[..2], Duration::ZERO).then(Step::Silence);
        stage.provider.once(if before_the_head { Reply::silent() } else { in_a_stream });
        let mut connection = Connection::open(stage.process.addr()).unwrap();
        // Streams and whole answers alike.
        let request = Request::chat(!before_the_head || round % 4 == 0).bearer(&stage.key);
        connection.write(&request.bytes(stage.process.addr())).unwrap();
        let exchange = stage.provider.request(round);
        if before_the_head {
            wait::until("the body at the provider", wait::SOON, || !exchange.body().is_empty());
        } else {
            let response = connection
                .response_while(|arrival| !String::from_utf8_lossy(&arrival.bytes).contains("The"))
                .unwrap();
            assert_eq!(response.status, 200);
        }
        let hung_up = connection.hang_up();
        let seen = wait::some("the hang-up at the provider", wait::SOON, || exchange.peer_closed());
        delays.push(seen.saturating_duration_since(hung_up));
    }
    delays.sort_unstable();
    eprintln!(
        "hang-up seen by the provider: median {:?}, worst of {ROUNDS} {:?}",
        delays[ROUNDS / 2],
        delays[ROUNDS - 1]
    );
    assert!(delays[ROUNDS - 1] <= LIMIT, "{:?}", delays[ROUNDS - 1]);
}

#[test]
fn a_hang_up_counts_its_request_once_and_frees_everything_else() {
    let stage = Stage::new(&testkit::manifests::max_requests(4));
    for round in 0..3 {
        stage.provider.once(Reply::silent());
        let mut connection = Connection::open(stage.process.addr()).unwrap();
        connection
            .write(&Request::chat(true).bearer(&stage.key).bytes(stage.process.addr()))
            .unwrap();
        let exchange = stage.provider.request(round);
        let _ = connection.hang_up();
        wait::until("the hang-up at the provider", wait::SOON, || exchange.peer_closed().is_some());
    }
    assert_eq!(stage.send(Request::chat(false)).status, 200);
    assert_eq!(stage.send(Request::chat(false)).status, 429);
    wait::until("the count", wait::SOON, || {
        stage.process.setup().status().quota("app").is_some_and(|quota| quota.used == 4)
    });
    wait::until("no request in flight", wait::SOON, || {
        let metrics = stage.process.send(&Request::get("/metrics")).text();
        metrics
            .lines()
            .any(|line| line.starts_with("llm_proxy_in_flight ") && line.ends_with(" 0"))
    });
}

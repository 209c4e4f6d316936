//! Leaving in order: nothing that was accepted is lost, and nobody waits longer than announced.

use std::time::Duration;

use testkit::client::{Connection, End, Request};
use testkit::manifests::{self, Folder};
use testkit::provider::{Provider, Reply, wire};
use testkit::stage::PROVIDER_KEY;
use testkit::standalone::{Setup, Standalone};
use testkit::wait;

const WORDS: [&str; 20] = ["w"; 20];

struct Draining {
    provider: Provider,
    _folder: Folder,
    process: Standalone,
    key: String,
}

fn start(args: &[&str]) -> Draining {
    let provider = Provider::start();
    let folder = Folder::with_tokens(&provider.base_url(), PROVIDER_KEY, &[("app", &manifests::max_requests(1_000_000))]);
    let process = args.iter().fold(Setup::new(&folder), |setup, arg| setup.arg(arg)).start();
    let key = process.key("app");
    Draining {
        provider,
        _folder: folder,
        process,
        key,
    }
}

impl Draining {
    /// A stream that takes `pause` per event, begun and seen to run.
    fn stream(&self, pause: Duration) -> std::thread::JoinHandle<(End, String)> {
        let events = wire::chat_events("m", &WORDS, true);
        self.provider.once(Reply::events(&events, pause));
        let (addr, request) = (self.process.addr(), Request::chat(true).bearer(&self.key));
        let seen = self.provider.heads();
        let stream = std::thread::spawn(move || {
            let response = Connection::open(addr).unwrap().send(&request).unwrap();
            (response.end, response.text())
        });
        wait::until("a running stream", wait::SOON, || {
            self.provider.heads() > seen && self.provider.last().writes().len() > 2
        });
        stream
    }
}

#[test]
fn a_running_stream_ends_by_itself_and_the_exit_is_clean() {
    let mut draining = start(&["--drain-grace", "20s"]);
    let stream = draining.stream(Duration::from_millis(40));
    draining.process.terminate();
    let (end, text) = stream.join().unwrap();
    assert_eq!(end, End::Complete);
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(draining.process.wait(wait::SOON).code(), Some(0));
    let quota = draining.process.setup().status().quota("app").unwrap();
    assert_eq!((quota.used, quota.reserved, quota.forfeited), (1, 0, 0), "the lease is returned");
}

#[test]
fn while_it_is_announced_requests_are_served_and_told_to_close() {
    let mut draining = start(&["--drain-delay", "1s"]);
    let process = &draining.process;
    let mut kept = Connection::open(process.addr()).unwrap();
    assert_eq!(kept.send(&Request::get("/ready")).unwrap().status, 200);
    process.terminate();
    wait::until("/ready saying no", wait::SOON, || {
        testkit::client::send(process.addr(), &Request::get("/ready")).is_ok_and(|response| response.status == 503)
    });
    let response = kept.send(&Request::chat(false).bearer(&draining.key)).unwrap();
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert!(kept.closes_within(Duration::from_secs(5)));
    let response = process.send(&Request::chat(false).bearer(&draining.key));
    assert_eq!(response.status, 200, "a new connection is still taken");
    assert_eq!(draining.process.wait(wait::SOON).code(), Some(0));
    assert!(Connection::open(draining.process.addr()).is_err());
}

#[test]
fn when_the_grace_ends_a_stream_gets_an_error_event() {
    let mut draining = start(&["--drain-grace", "1s"]);
    let stream = draining.stream(Duration::from_millis(500));
    draining.process.terminate();
    let (end, text) = stream.join().unwrap();
    assert_eq!(end, End::Complete, "{text}");
    assert!(text.contains("\"draining\"") && !text.contains("[DONE]"), "{text}");
    assert_eq!(draining.process.wait(wait::SOON).code(), Some(0));
    wait::until("the provider let go", wait::SOON, || draining.provider.last().ending().is_some());
}

#[test]
fn a_second_signal_exits_at_once() {
    let mut draining = start(&["--drain-grace", "60s"]);
    let stream = draining.stream(Duration::from_secs(5));
    draining.process.interrupt();
    wait::until("the drain", wait::SOON, || Connection::open(draining.process.addr()).is_err());
    assert!(draining.process.runs(), "it waits for the stream");
    draining.process.terminate();
    let status = draining.process.wait(Duration::from_secs(5));
    assert_ne!(status.code(), Some(0), "it did not end as it should");
    let (end, _) = stream.join().unwrap();
    assert_ne!(end, End::Complete);
}

#[test]
fn under_load_not_one_request_is_lost() {
    let mut draining = start(&["--drain-delay", "500ms", "--drain-grace", "20s"]);
    draining.provider.always(Reply::json(200, &wire::chat("m")));
    let (addr, key) = (draining.process.addr(), draining.key.clone());
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let request = Request::get("/v1/models").bearer(&key);
            std::thread::spawn(move || {
                let (mut served, mut lost) = (0, 0);
                // Ends when no new connection is taken any more: from then on another replica would be asked.
                // One that nobody has accepted when the last listener closes is reset; it is as good as refused if the next one is refused.
                let mut unaccepted = 0;
                while let Ok(mut connection) = Connection::open(addr) {
                    (lost, unaccepted) = (lost + unaccepted, 0);
                    for sent in 0.. {
                        match connection.send(&request) {
                            Ok(response) if response.status == 200 => {
                                served += 1;
                                if response.header("connection") == Some("close") {
                                    break;
                                }
                            }
                            Ok(response) => panic!("{} {}", response.status, response.text()),
                            Err(_) if sent == 0 => {
                                unaccepted = 1;
                                break;
                            }
                            Err(_) => {
                                lost += 1;
                                break;
                            }
                        }
                    }
                }
                (served, lost)
            })
        })
        .collect();
    wait::until("load", wait::SOON, || draining.provider.heads() > 20);
    draining.process.terminate();
    let (served, lost) = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    eprintln!("through a drain: {served} served, {lost} lost");
    assert_eq!(lost, 0);
    assert_eq!(draining.process.wait(wait::SOON).code(), Some(0));
}

//! Everything at once: clients and providers that fail in every way, in any order, over two data threads. Afterwards the books are right.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::client::{Client, header};
use crate::provider::{EVENTS, OK, Peer, Provider, chunk};
use crate::stage::{Setup, Upstream};
use crate::wait;

const CLIENTS: u64 = 24;
const REQUESTS: u64 = 60;

/// What happens to one request. The client decides, and tells the provider in a header.
#[derive(Clone, Copy, Debug)]
enum Act {
    Fine,
    FineAndClose,
    Stream,
    Close,
    Reset,
    BreakOff,
    Refuse,
    Late,
    /// The client leaves a provider that is silent.
    LeaveSilence,
    /// The client leaves in the middle of a stream.
    LeaveStream,
    /// The client leaves at any moment.
    LeaveAnyhow,
    NoJson,
    HalfABody,
    Large,
}

const ACTS: [Act; 14] = [
    Act::Fine,
    Act::FineAndClose,
    Act::Stream,
    Act::Close,
    Act::Reset,
    Act::BreakOff,
    Act::Refuse,
    Act::Late,
    Act::LeaveSilence,
    Act::LeaveStream,
    Act::LeaveAnyhow,
    Act::NoJson,
    Act::HalfABody,
    Act::Large,
];

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

async fn provide(mut peer: Peer, heads: Arc<AtomicUsize>) {
    while let Some(head) = peer.try_request().await {
        heads.fetch_add(1, Ordering::SeqCst);
        let act: usize = header(&head, "x-act").and_then(|v| v.parse().ok()).expect("an act");
        let written = match ACTS[act] {
            Act::Fine | Act::Large | Act::NoJson | Act::HalfABody => peer.try_write(OK).await,
            // Announced: a provider that just closes races the next request, which then gets a 502 because a POST is not sent twice.
            Act::FineAndClose => {
                peer.try_write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
                    .await;
                return;
            }
            Act::Stream => peer.try_write(EVENTS).await && peer.try_write(chunk("data: {}\n\n")).await && peer.try_write("0\r\n\r\n").await,
            Act::Close => return,
            Act::Reset => return peer.reset(),
            Act::BreakOff => {
                peer.try_write(EVENTS).await;
                peer.try_write(chunk("data: {}\n\n")).await;
                return peer.reset();
            }
            Act::Refuse => peer.try_write("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}").await,
            Act::Late | Act::LeaveAnyhow => {
                tokio::time::sleep(Duration::from_millis(3)).await;
                peer.try_write(OK).await
            }
            Act::LeaveSilence => return peer.closed().await,
            Act::LeaveStream => {
                peer.try_write(EVENTS).await;
                peer.try_write(chunk("data: {}\n\n")).await;
                return peer.closed().await;
            }
        };
        if !written {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_each_head_at_the_provider_is_booked_and_nothing_leaks() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let provider = Provider::start().await;
    let upstream = Upstream::from(&provider);
    let heads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&heads);
    tokio::spawn(async move {
        loop {
            tokio::spawn(provide(provider.accept_whenever().await, Arc::clone(&counted)));
        }
    });
    let stage = Setup::new(upstream)
        .max_requests(100_000)
        .with(|s| {
            s.threads = 2;
            // All bodies together are far larger: a leak would show as `overloaded`.
            s.limits.body_budget_bytes = 4 << 20;
        })
        .start()
        .await;
    let doubtful = Arc::new(AtomicU64::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let (address, doubtful) = (stage.address(), Arc::clone(&doubtful));
        let requests: Vec<_> = ACTS.iter().enumerate().map(|(n, act)| request_of(&stage, n, *act)).collect();
        clients.spawn(async move {
            let mut random = Random(seed ^ number);
            let mut client = Client::open(address).await;
            for _ in 0..REQUESTS {
                let n = random.below(ACTS.len() as u64) as usize;
                let (act, request) = (ACTS[n], &requests[n]);
                let expected: &[u16] = match act {
                    Act::Fine | Act::FineAndClose | Act::Stream | Act::Late | Act::Large => &[200],
                    // The reset may overtake what was written before it.
                    Act::BreakOff => &[200, 502],
                    Act::Close | Act::Reset | Act::Refuse => &[502],
                    Act::NoJson => &[400],
                    Act::LeaveSilence | Act::LeaveStream | Act::LeaveAnyhow | Act::HalfABody => &[],
                };
                client.write(request).await;
                if expected.is_empty() {
                    match act {
                        Act::LeaveStream => client.sees("data: {}").await,
                        // It may leave before the head went upstream, and after it was handed over.
                        Act::LeaveSilence | Act::LeaveAnyhow => {
                            doubtful.fetch_add(1, Ordering::SeqCst);
                            tokio::time::sleep(Duration::from_micros(random.below(6_000))).await;
                        }
                        _ => {}
                    }
                    client = Client::open(address).await;
                } else {
                    let answer = client.answer().await;
                    assert!(expected.contains(&answer.status), "seed {seed}: {act:?}: {answer:?}");
                    if answer.header("connection") == Some("close") {
                        client = Client::open(address).await;
                    }
                }
            }
        });
    }
    clients.join_all().await;
    wait::until("the last request's end", || async {
        stage.metric("llm_proxy_in_flight").await == Some(0.0)
    })
    .await;
    wait::until("a settled ledger", || async {
        let (_, reserved, forfeited) = stage.quota().await;
        reserved == 0 && forfeited == 0
    })
    .await;
    let (used, heads, doubtful) = (
        stage.quota().await.0,
        heads.load(Ordering::SeqCst) as u64,
        doubtful.load(Ordering::SeqCst),
    );
    assert!(heads > 100, "{heads}");
    assert!(
        (heads..=heads + doubtful).contains(&used),
        "seed {seed}: {used} booked, {heads} heads, {doubtful} doubtful"
    );
    wait::until("the usage", || async { stage.usage().await.0 == used }).await;
    assert_eq!(stage.send(stage.chat().replace("\r\n\r\n", "\r\nx-act: 0\r\n\r\n")).await.status, 200);
}

fn request_of(stage: &crate::stage::Stage, n: usize, act: Act) -> String {
    let header = format!("x-act: {n}\r\n");
    match act {
        Act::NoJson => stage.post(&header, "{]"),
        Act::HalfABody => stage.post(&header, "{\"model\":").replace("content-length: 9", "content-length: 900"),
        Act::Large => stage.post(&header, &format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "x".repeat(100_000))),
        _ => stage.post(&header, "{\"model\":\"m\"}"),
    }
}

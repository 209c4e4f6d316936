//! Limits over windows, of LLM tokens, of money and of requests in flight: what is admitted, what is booked, and what a refusal says.

use std::sync::atomic::Ordering;

use store::{Limit, LimitAction, LimitScope, LimitUnit, TokenChange, Window};

use crate::client::{Answer, Client};
use crate::provider::{EVENTS, OK, Provider, chunk};
use crate::stage::{Setup, Stage, Upstream, issue, limit};
use crate::wait;

/// 2027-01-15 08:00:00 UTC, where a minute, an hour and a test begin.
const T0: i64 = 1_800_000_000_000;
/// Half a minute into it.
const MID: i64 = T0 + 30_000;

/// A provider that counted far more than anybody could have guessed.
const GREEDY: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 61\r\n\r\n{\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":400},\"x\":1}";

async fn over(answer: &'static str, setup: impl FnOnce(Setup) -> Setup) -> (Stage, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let provider = Provider::start().await;
    let upstream = Upstream::from(&provider);
    let heads = provider.always(answer);
    (setup(Setup::new(upstream).clock(MID)).start().await, heads)
}

fn says(answer: &Answer, what: &str) -> bool {
    answer.body.contains(what)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_per_minute_are_refused_beyond_the_limit_until_the_window_rolls() {
    let (stage, heads) = over(OK, |s| s.limit(LimitUnit::Requests, Window::Minute, 3)).await;
    for left in ["2", "1", "0"] {
        let answer = stage.send(stage.chat()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("3"));
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some(left));
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), None);
    }
    let refused = stage.send(stage.chat()).await;
    assert_eq!(refused.verdict(), (429, "rate_limit_exceeded".to_owned()));
    assert!(says(&refused, "has used 3 of its 3 requests per minute"), "{refused:?}");
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&after), "{after}");
    assert_eq!(
        (refused.header("x-should-retry"), refused.header("x-ratelimit-remaining-requests")),
        (None, Some("0"))
    );
    stage.clock(T0 + 60_000).await;
    wait::until("the next window", || async { stage.send(stage.chat()).await.status == 200 }).await;
    assert_eq!(heads.load(Ordering::SeqCst), 4);
    stage.window_settles_at(LimitUnit::Requests, Window::Minute, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_is_exact_over_two_replicas_that_open_it_at_once() {
    let (stage, heads) = over(OK, |s| s.limit(LimitUnit::Requests, Window::Hour, 100)).await;
    let second = stage.another().await;
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..16 {
        let address = if n % 2 == 0 { stage.address() } else { second.addr() };
        let request = stage.chat();
        clients.spawn(async move {
            let mut client = Client::open(address).await;
            let mut served = 0;
            loop {
                let answer = client.send(&request).await;
                match answer.status {
                    200 => served += 1,
                    _ if says(&answer, "has used 100 of its 100") => return (served, answer),
                    _ => {
                        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{answer:?}");
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    }
                }
            }
        });
    }
    let ended = wait::soon("the final refusals", clients.join_all()).await;
    assert_eq!(ended.iter().map(|(served, _)| served).sum::<usize>(), 100);
    assert_eq!(heads.load(Ordering::SeqCst), 100);
    let refused = &ended[0].1;
    assert_eq!(
        refused.header("x-should-retry"),
        Some("false"),
        "half an hour is not worth holding a request"
    );
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 3_500);
    stage.window_settles_at(LimitUnit::Requests, Window::Hour, 100).await;
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_project_share_its_limit_and_each_has_the_one_for_tokens() {
    let shared = |scope, max| limit(LimitUnit::Requests, Window::Day, scope, max);
    let (stage, heads) = over(OK, |s| {
        s.project_limit(shared(LimitScope::Project, 3))
            .project_limit(shared(LimitScope::Token, 2))
    })
    .await;
    let (_, other) = issue(&stage.fleet, stage.project, 3_600_000, None).await;
    let by_other = stage.chat().replace(&stage.key, &other);
    for expected in [200, 200, 429] {
        assert_eq!(stage.send(stage.chat()).await.status, expected);
    }
    assert_eq!(stage.send(&by_other).await.status, 200);
    let refused = stage.send(&by_other).await;
    assert!(refused.status == 429 && says(&refused, "Project n/project has used"), "{refused:?}");
    assert_eq!(heads.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_takes_nothing_of_its_other_limits() {
    let (stage, _) = over(OK, |s| {
        s.limit(LimitUnit::Requests, Window::Hour, 50)
            .limit(LimitUnit::TotalTokens, Window::Minute, 100)
    })
    .await;
    let large = stage.post("", r#"{"model":"m","max_tokens":95,"messages":[]}"#);
    for _ in 0..3 {
        let refused = stage.send(&large).await;
        assert_eq!((refused.status, refused.header("x-should-retry")), (429, Some("false")), "{refused:?}");
        assert!(says(&refused, "may use 100 tokens per minute"), "{refused:?}");
    }
    assert_eq!(stage.send(stage.chat()).await.status, 200);
    stage.window_settles_at(LimitUnit::Requests, Window::Hour, 1).await;
    stage.window_settles_at(LimitUnit::TotalTokens, Window::Minute, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn llm_tokens_are_reserved_by_estimate_and_settled_to_what_the_provider_counted() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider)
        .clock(MID)
        .limit(LimitUnit::TotalTokens, Window::Day, 100)
        .limit(LimitUnit::OutputTokens, Window::Day, 1_000)
        .start()
        .await;
    let mut client = stage.connect().await;
    // 44 bytes are 11 tokens, and 60 for the answer.
    client.write(stage.post("", r#"{"model":"m","max_tokens":60,"messages":[] }"#)).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    let second = stage.send(stage.post("", r#"{"model":"m","max_tokens":60,"messages":[] }"#)).await;
    assert_eq!(
        (second.status, second.header("retry-after")),
        (429, Some("1")),
        "71 of 100 are reserved: {second:?}"
    );
    peer.write(OK).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("x-ratelimit-limit-tokens")), (200, Some("100")));
    stage.window_settles_at(LimitUnit::TotalTokens, Window::Day, 5).await;
    stage.window_settles_at(LimitUnit::OutputTokens, Window::Day, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overrun_is_booked_and_blocks_the_next() {
    let (stage, heads) = over(GREEDY, |s| s.limit(LimitUnit::TotalTokens, Window::Minute, 200)).await;
    assert_eq!(stage.send(stage.chat()).await.status, 200);
    stage.window_settles_at(LimitUnit::TotalTokens, Window::Minute, 500).await;
    let refused = stage.send(stage.chat()).await;
    assert!(
        refused.status == 429 && says(&refused, "has used 500 of its 200 tokens per minute"),
        "{refused:?}"
    );
    assert_eq!(heads.load(Ordering::SeqCst), 1);
    stage.clock(T0 + 60_000).await;
    wait::until("the next window", || async { stage.send(stage.chat()).await.status == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_a_cut_stream_and_a_refused_connection_settle_what_was_used() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider)
        .clock(MID)
        .limit(LimitUnit::TotalTokens, Window::Day, 10_000)
        .start()
        .await;
    // The client leaves before the answer: its prompt of 32 bytes was read.
    let mut client = stage.connect().await;
    client.write(stage.chat()).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    drop(client);
    peer.closed().await;
    stage.window_settles_at(LimitUnit::TotalTokens, Window::Day, 8).await;
    // The provider breaks off after two pieces.
    let mut client = stage.connect().await;
    client.write(stage.post("", r#"{"model":"m","stream":true,"messages":[]}"#)).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    let piece = chunk("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
    peer.write(format!("{EVENTS}{piece}{piece}")).await;
    client.sees("delta").await;
    peer.reset();
    client.answer().await;
    // 41 bytes are 11 tokens.
    stage.window_settles_at(LimitUnit::TotalTokens, Window::Day, 8 + 11 + 2).await;
    // The provider refuses: nothing was used.
    let mut client = stage.connect().await;
    client.write(stage.chat()).await;
    let mut peer = provider.accept().await;
    peer.request().await;
    peer.write("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 500);
    stage.window_settles_at(LimitUnit::TotalTokens, Window::Day, 21).await;
}

const PRICES: &str = r#"[{"model":"echo","input":100000000,"cached":0,"output":1000000000,"reasoning":0}]"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_reserved_settled_and_blocks_with_a_word_for_money() {
    // Input at 100 and output at 1,000 micro-cents: the answer costs 3 × 100 + 2 × 1,000.
    let (stage, _) = over(OK, |s| s.prices(PRICES).limit(LimitUnit::Cost, Window::Month, 5_000)).await;
    let small = || stage.post("", r#"{"model":"echo","max_tokens":1,"messages":[]}"#);
    for used in [2_300, 4_600] {
        assert_eq!(stage.send(small()).await.status, 200);
        stage.window_settles_at(LimitUnit::Cost, Window::Month, used).await;
    }
    let refused = stage.send(small()).await;
    assert_eq!(refused.verdict(), (429, "insufficient_quota".to_owned()));
    assert!(says(&refused, "has spent $0.000046 of its $0.00005 per month"), "{refused:?}");
    assert_eq!(refused.header("x-should-retry"), Some("false"), "the month is long");
    wait::until("the cost in the usage table", || async {
        stage.fleet.usage().await.unwrap().iter().map(|row| row.cost).sum::<i64>() == 4_600
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_budget_that_blocks_a_model_without_a_price_is_refused_and_under_one_that_warns_it_is_served() {
    let (stage, heads) = over(OK, |s| s.limit(LimitUnit::Cost, Window::Day, 5_000)).await;
    assert_eq!(stage.send(stage.chat()).await.verdict(), (403, "model_not_priced".to_owned()));
    assert_eq!(heads.load(Ordering::SeqCst), 0);
    let warns = Limit {
        action: LimitAction::Warn,
        ..limit(LimitUnit::Cost, Window::Day, LimitScope::Token, 5_000)
    };
    let change = TokenChange {
        limits: Some(vec![warns]),
        ..TokenChange::default()
    };
    stage.fleet.change_token(stage.token, &change).await.unwrap();
    stage.acknowledged().await;
    assert_eq!(stage.send(stage.chat()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_only_warns_is_counted_and_never_refuses() {
    let warns = Limit {
        action: LimitAction::Warn,
        ..limit(LimitUnit::Cost, Window::Lifetime, LimitScope::Token, 3_000)
    };
    let (stage, _) = over(OK, |s| s.prices(PRICES).project_limit(warns)).await;
    for n in 1..=4 {
        assert_eq!(stage.send(stage.chat()).await.status, 200);
        stage.window_settles_at(LimitUnit::Cost, Window::Lifetime, 2_300 * n).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_limited_and_a_place_comes_back_when_an_answer_ends() {
    let provider = Provider::start().await;
    let stage = Setup::new(&provider)
        .clock(MID)
        .limit(LimitUnit::InFlight, Window::Lifetime, 2)
        .start()
        .await;
    let mut running = Vec::new();
    for _ in 0..2 {
        let mut client = stage.connect().await;
        client.write(stage.chat()).await;
        let mut peer = provider.accept().await;
        peer.request().await;
        running.push((client, peer));
    }
    let refused = stage.send(stage.chat()).await;
    assert_eq!(
        (refused.verdict(), refused.header("retry-after")),
        ((429, "rate_limit_exceeded".to_owned()), Some("1"))
    );
    assert!(says(&refused, "2 requests in flight"), "{refused:?}");
    // One answer ends, and one client leaves.
    let (mut client, mut peer) = running.pop().unwrap();
    peer.write(OK).await;
    assert_eq!(client.answer().await.status, 200);
    // Its connection is not to be used again: the test answers on fresh ones.
    drop(peer);
    let (client, mut peer) = running.pop().unwrap();
    drop(client);
    peer.closed().await;
    for _ in 0..5 {
        let mut client = stage.connect().await;
        client.write(stage.chat()).await;
        let mut peer = provider.accept().await;
        peer.request().await;
        peer.write(OK).await;
        assert_eq!(client.answer().await.status, 200);
    }
    stage.window_settles_at(LimitUnit::InFlight, Window::Lifetime, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_limit_holds_within_its_window_once_it_is_acknowledged() {
    let (stage, heads) = over(OK, |s| s.limit(LimitUnit::Requests, Window::Day, 100)).await;
    let second = stage.another().await;
    for address in [stage.address(), second.addr()] {
        for _ in 0..5 {
            assert_eq!(Client::open(address).await.send(stage.chat()).await.status, 200);
        }
    }
    let set = async |max| {
        let change = TokenChange {
            limits: Some(vec![limit(LimitUnit::Requests, Window::Day, LimitScope::Token, max)]),
            ..TokenChange::default()
        };
        let version = stage.fleet.change_token(stage.token, &change).await.unwrap();
        wait::until("the acknowledgement of both", || async {
            let replicas = stage.fleet.replicas().await.unwrap();
            replicas.len() == 2 && replicas.iter().all(|replica| replica.acked >= version)
        })
        .await;
    };
    let exhaust = async || {
        for address in [stage.address(), second.addr(), stage.address(), second.addr()] {
            let mut client = Client::open(address).await;
            while client.send(stage.chat()).await.status == 200 {}
        }
    };
    set(12).await;
    exhaust().await;
    assert!(heads.load(Ordering::SeqCst) <= 12);
    wait::until("the whole of the lowered limit", || async {
        exhaust().await;
        heads.load(Ordering::SeqCst) == 12
    })
    .await;
    set(15).await;
    wait::until("the whole of the raised limit", || async {
        exhaust().await;
        heads.load(Ordering::SeqCst) == 15
    })
    .await;
    stage.window_settles_at(LimitUnit::Requests, Window::Day, 15).await;
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_rate_limits_gets_no_headers_about_them() {
    let (stage, _) = over(OK, |s| s.max_requests(5)).await;
    let answer = stage.send(stage.chat()).await;
    assert_eq!((answer.status, answer.header("x-ratelimit-limit-requests")), (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_returns_what_is_leased_of_every_limit() {
    let (mut stage, _) = over(OK, |s| {
        s.limit(LimitUnit::Requests, Window::Day, 10_000)
            .limit(LimitUnit::TotalTokens, Window::Day, 1_000_000)
            .limit(LimitUnit::InFlight, Window::Lifetime, 100)
    })
    .await;
    assert_eq!(stage.send(stage.chat()).await.status, 200);
    assert!(stage.drain().await.leases_returned);
    assert_eq!(stage.window(LimitUnit::Requests, Window::Day).await, (1, 0, 0));
    assert_eq!(stage.window(LimitUnit::TotalTokens, Window::Day).await, (5, 0, 0));
    assert_eq!(stage.window(LimitUnit::InFlight, Window::Lifetime).await, (0, 0, 0));
}

//! Two data planes on one database: a limit is exact over both, and neither keeps what the other needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use store::{HolderId, LeaseReport};

use crate::client::Client;
use crate::provider::{OK, Provider};
use crate::stage::{Setup, Upstream, issue};
use crate::wait;

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_exact_over_two_replicas() {
    let provider = Provider::start().await;
    let upstream = Upstream::from(&provider);
    let heads = provider.always(OK);
    let stage = Setup::new(upstream).max_requests(200).start().await;
    let second = stage.another().await;
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..16 {
        let address = if n % 2 == 0 { stage.address() } else { second.addr() };
        let request = stage.chat();
        clients.spawn(async move {
            let mut client = Client::open(address).await;
            let mut served = 0;
            // Until the refusal is final: others may hold the rest for a moment.
            loop {
                let answer = client.send(&request).await;
                match answer.status {
                    200 => served += 1,
                    _ if answer.header("x-should-retry") == Some("false") => return served,
                    _ => {
                        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")), "{answer:?}");
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    }
                }
            }
        });
    }
    let served: usize = wait::soon("the final refusals", clients.join_all()).await.into_iter().sum();
    assert_eq!((served, heads.load(Ordering::SeqCst)), (200, 200));
    stage.settles_at(200).await;
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_holds_idle_the_other_gets_soon() {
    let provider = Provider::start().await;
    let upstream = Upstream::from(&provider);
    let _heads = provider.always(OK);
    let stage = Setup::new(upstream).max_requests(2).start().await;
    let second = stage.another().await;
    // The first one leases a unit and, in advance, the last one.
    assert_eq!(stage.send(stage.chat()).await.status, 200);
    wait::until("the second unit at the other replica", || async {
        Client::open(second.addr()).await.send(stage.chat()).await.status == 200
    })
    .await;
    stage.settles_at(2).await;
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_for_units_that_another_holds_does_not_keep_the_ledger_from_hearing_of_the_rest() {
    let provider = Provider::start().await;
    let upstream = Upstream::from(&provider);
    let _heads = provider.always(OK);
    let stage = Setup::new(upstream).max_requests(1_000).start().await;
    let (token, key) = issue(&stage.fleet, stage.project, 3_600_000, Some(1)).await;
    let tokens = stage.fleet.tokens().await.unwrap();
    let quota = tokens.iter().find(|t| t.id == token).and_then(|t| t.quota).unwrap().id;
    let everything = LeaseReport {
        quota,
        spent: 0,
        amount: 0,
        want: 1,
        overrun: 0,
        need: 1,
    };
    assert_eq!(stage.fleet.settle(HolderId::new(), &[everything]).await.unwrap()[0].amount, 1);
    let stop = Arc::new(AtomicBool::new(false));
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (address, request, stop) = (stage.address(), stage.chat().replace(&stage.key, &key), Arc::clone(&stop));
        flood.spawn(async move {
            let mut client = Client::open(address).await;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(client.send(&request).await.header("retry-after"), Some("1"));
            }
        });
    }
    for n in 1..=3 {
        assert_eq!(stage.send(stage.chat()).await.status, 200);
        wait::until("the booking", || async { stage.quota().await.0 == n }).await;
    }
    stop.store(true, Ordering::Relaxed);
    flood.join_all().await;
}

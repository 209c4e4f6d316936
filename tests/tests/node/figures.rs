//! What it costs on a node: the image, the memory of idle pods, and the time from a token to its Secret. A table to be read; the bounds are loose,
//! because the machine is shared and the binary under test is mostly a debug build.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use testkit::cluster::User;
use testkit::wait;

use crate::site::Site;
use crate::stage::Stage;

/// The resident memory of each process of this subcommand on the node, in MiB.
fn resident(site: &Site, command: &str) -> Vec<f64> {
    let processes = site.node.run(&["ps", "-eo", "pid,args"]);
    let wanted = processes.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (pid, program) = (words.next()?, words.next()?);
        (program.ends_with("llm-proxy") && words.next() == Some(command)).then_some(pid)
    });
    wanted
        .map(|pid| {
            let status = site.node.run(&["cat", &format!("/proc/{pid}/status")]);
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
                line.split_whitespace().next().unwrap().parse::<f64>().unwrap()
            };
            eprintln!("{command}: VmRSS {} kB, of which anonymous {} kB", field("VmRSS:"), field("RssAnon:"));
            field("VmRSS:") / 1024.0
        })
        .collect()
}

/// Creates tokens one after the other, and returns how long each one's Secret took, shortest first.
async fn issue(client: Client, namespace: &str, tokens: usize) -> Vec<Duration> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let seen: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let watching = tokio::spawn({
        let seen = Arc::clone(&seen);
        async move {
            let events = watcher(secrets, watcher::Config::default()).applied_objects();
            let note = |secret: Secret| {
                seen.lock().unwrap().entry(secret.name_any()).or_insert_with(Instant::now);
                std::future::ready(Ok(()))
            };
            events.try_for_each(note).await
        }
    });
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("llm-proxy.dev", "v1alpha1", "WitheringToken"));
    let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &kind);
    let mut took = Vec::new();
    for index in 0..tokens {
        let name = format!("figure-{index}");
        let token = DynamicObject::new(&name, &kind).data(json!({ "spec": { "projectRef": { "name": "demo" } } }));
        let begun = Instant::now();
        api.create(&PostParams::default(), &token).await.unwrap();
        let at = loop {
            if let Some(&at) = seen.lock().unwrap().get(&name) {
                break at;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no Secret {name}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        took.push(at.duration_since(begun));
    }
    watching.abort();
    took.sort_unstable();
    took
}

#[test]
fn image_memory_and_time_to_a_secret_are_shown_and_within_reason() {
    let Some(site) = Site::shared() else { return };
    let stage = Stage::with_fleet(site, 1);
    let tokens = if wait::long_variant() { 100 } else { 20 };
    // Idle: nobody has asked for anything but this fleet.
    let (operators, proxies) = (resident(site, "operator"), resident(site, "proxy"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let took = runtime.block_on(async { issue(site.cluster().client(User::Admin), &stage.namespace, tokens).await });
    let (middle, last) = (took[tokens / 2], took[(tokens * 99).div_ceil(100) - 1]);
    let largest = |all: &[f64]| all.iter().copied().fold(0.0, f64::max);
    println!("image, files in it        {:6.1} MB", site.image_size as f64 / 1e6);
    println!("operator, resident        {:6.1} MiB", largest(&operators));
    println!("proxy, resident           {:6.1} MiB", largest(&proxies));
    println!(
        "token to Secret, of {tokens:<5} p50 {:.0} ms, p99 {:.0} ms",
        middle.as_secs_f64() * 1e3,
        last.as_secs_f64() * 1e3
    );
    assert!(operators.len() >= 2 && !proxies.is_empty(), "{operators:?} {proxies:?}");
    // What the chart limits them to.
    assert!(largest(&operators) < 256.0 && largest(&proxies) < 256.0);
    assert!(middle < Duration::from_secs(2) && last < Duration::from_secs(10), "{took:?}");
}

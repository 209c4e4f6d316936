//! Neither the provider's key nor a token's value is anywhere but where it belongs.

use std::fs;

use serde_json::{Value, json};
use testkit::canary::{Find, Scanner};
use testkit::client::Request;
use testkit::manifests::{self, Folder};
use testkit::provider::{Provider, Reply, wire};
use testkit::random::Random;
use testkit::standalone::Setup;
use testkit::{token, wait};

#[test]
fn no_secret_is_in_logs_data_metrics_status_or_answers() {
    let mut random = Random::announced("leaks");
    // With every character that some spelling must escape and a header may hold.
    let provider_key = format!("sk-canary/+\"\\&=%{}", random.base62(32));
    let provider = Provider::start();
    let folder = Folder::with_tokens(
        &provider.base_url(),
        &provider_key,
        &[("app", &manifests::max_requests(40)), ("revoked", "")],
    );
    let setup = Setup::new(&folder).arg("--log-level").arg("trace");
    let mut process = setup.start();
    let (key, revoked) = (process.key("app"), process.key("revoked"));
    assert_eq!(process.send(&Request::chat(false).bearer(&key)).status, 200);
    assert_eq!(provider.last().header("authorization"), Some(format!("Bearer {provider_key}").as_str()));
    let secrets = setup.data().join("secrets");
    let scanner = Scanner::new(&[("provider key", &provider_key), ("token", &key), ("revoked token", &revoked)]).except(&secrets);

    // It finds planted ones first: in the log's own file, and in the data dir.
    let planted = setup.data().join("planted");
    fs::write(&planted, format!("{{\"authorization\":{}}}", json!(format!("Bearer {provider_key}")))).unwrap();
    let finds = scanner.path(setup.data());
    assert!(
        finds.iter().any(|find| find.place.ends_with("planted") && find.secret == "provider key"),
        "{finds:?}"
    );
    fs::remove_file(planted).unwrap();
    assert!(
        !Scanner::new(&[("token", &key)]).path(&secrets).is_empty(),
        "the token stands where it belongs"
    );

    let mut finds: Vec<Find> = Vec::new();
    for (place, bytes) in traffic(&process, &provider, &key, &revoked, &provider_key) {
        finds.extend(scanner.bytes(&place, &bytes));
    }
    folder.put("token-revoked.yaml", &manifests::token("revoked", "app", "  state: Revoked"));
    wait::until("the revocation", wait::SOON, || {
        process.send(&Request::chat(false).bearer(&revoked)).status == 401
    });
    // A broken Secret and a broken token: what is said about them must not quote them.
    folder.put(
        "broken.yaml",
        &format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: broken, namespace: team}}\nstringData: [{}]\n",
            json!(provider_key)
        ),
    );
    wait::until("a complaint about the broken Secret", wait::SOON, || {
        (process.stdout() + &process.stderr()).contains("broken.yaml")
    });
    for accept in ["text/plain", "application/json"] {
        let metrics = process.send(&Request::get("/metrics").header("accept", accept)).body();
        assert!(!metrics.is_empty());
        finds.extend(scanner.bytes("metrics", &metrics));
    }
    let status = setup.status().document.to_string();
    assert!(status.contains("\"app\""));
    finds.extend(scanner.bytes("status", status.as_bytes()));
    for file in ["cmdline", "environ"] {
        finds.extend(scanner.bytes(file, &fs::read(format!("/proc/{}/{file}", process.pid())).unwrap()));
    }
    // While it runs: the database with its write-ahead log.
    assert!(
        fs::read_dir(setup.data())
            .unwrap()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().ends_with("-wal"))
    );
    finds.extend(scanner.path(setup.data()));
    process.stop();
    finds.extend(scanner.path(setup.data()));
    for log in process.output_files() {
        finds.extend(scanner.path(log));
    }
    assert!(process.stderr().len() > 1000, "a log at level trace says something");
    assert_eq!(finds, []);
}

/// Requests of every kind that may tempt somebody to quote a secret; the answers, named.
fn traffic(process: &testkit::standalone::Standalone, provider: &Provider, key: &str, revoked: &str, provider_key: &str) -> Vec<(String, Vec<u8>)> {
    let ask = |request: Request| process.send(&request.bearer(key));
    let mut answers = Vec::new();
    let mut keep = |name: &str, response: testkit::client::Response| {
        answers.push((
            format!("answer: {name}"),
            format!("{:?}{}", response.headers, response.text()).into_bytes(),
        ))
    };
    keep("whole", ask(Request::chat(false)));
    keep("stream", ask(Request::chat(true)));
    keep("models", ask(Request::get("/v1/models")));
    keep("another token", process.send(&Request::chat(false).bearer(revoked)));
    keep("in the query", ask(Request::get(&format!("/v1/models?api_key={key}"))));
    keep("in the path", ask(Request::get(&format!("/v1/{key}"))));
    keep("as x-api-key", process.send(&Request::chat(false).header("x-api-key", key)));
    keep("as the request id", ask(Request::chat(false).header("x-request-id", "fine")));
    keep("bad check", process.send(&Request::chat(false).bearer(&token::with_bad_check(key))));
    keep("cut", process.send(&Request::chat(false).bearer(&key[..40])));
    keep(
        "basic",
        process.send(&Request::chat(false).header("authorization", &format!("Basic {key}"))),
    );
    keep(
        "bad body",
        ask(Request::new("POST", "/v1/chat/completions")
            .header("content-type", "application/json")
            .body("{")),
    );
    let quoting = format!("Incorrect API key provided: {provider_key}");
    provider.once(wire::error(401, &quoting, "invalid_request_error", json!("invalid_api_key")));
    keep("refused credential", ask(Request::chat(false)));
    for reply in [
        Reply::reset(),
        Reply::raw("garbage\r\n\r\n"),
        wire::error(500, "no", "server_error", Value::Null),
    ] {
        provider.once(reply.then(testkit::provider::Step::Close));
        keep("broken provider", ask(Request::chat(false)));
    }
    answers
}

//! How `standalone` starts, refuses to start, and ends.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::process::{Ended, Place, Server, eventually};

/// Asserts a start that is refused with exit code 1 and one line.
fn refused(mut command: Command) -> String {
    let ended: Ended = command.args(["--log-level", "error"]).output().unwrap().into();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(
        ended.stderr.starts_with("error: ") && ended.stderr.lines().count() == 1,
        "{}",
        ended.stderr
    );
    ended.stderr
}

#[test]
fn it_prints_its_address_and_each_env_file_once_it_serves() {
    let place = Place::quickstart();
    let server = Server::start(&place);
    let env_file = server.line();
    assert!(env_file.ends_with("data/secrets/default.hello.env"), "{env_file}");
    let text = fs::read_to_string(&env_file).unwrap();
    let (key, url) = text.trim_end().split_once('\n').unwrap();
    assert!(key.starts_with("OPENAI_API_KEY=sk-lp-"), "{key}");
    assert_eq!(url, format!("OPENAI_BASE_URL={}", server.base_url));
    assert!(
        server.base_url.starts_with("http://127.0.0.1:") && server.base_url.ends_with("/v1"),
        "{}",
        server.base_url
    );
    for secret in [
        env_file.as_ref(),
        place.data().join("encryption.key").as_path(),
        place.data().join("management-token").as_path(),
    ] {
        assert_eq!(fs::metadata(secret).unwrap().permissions().mode() & 0o777, 0o600, "{}", secret.display());
    }
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_restart_keeps_the_key_and_the_secrets() {
    let place = Place::quickstart();
    let read = |name: &str| fs::read(place.data().join(name)).unwrap();
    let kept = || (read("secrets/default.hello.env"), read("encryption.key"), read("management-token"));
    let first = Server::of(with(&place, &["--public-url", "https://llm.example.com/"]), &place);
    first.line();
    let before = kept();
    first.signal("INT");
    assert_eq!(first.wait(), Some(0));
    assert!(
        String::from_utf8(before.0.clone())
            .unwrap()
            .contains("OPENAI_BASE_URL=https://llm.example.com/v1\n")
    );
    let second = Server::of(with(&place, &["--public-url", "https://llm.example.com/"]), &place);
    second.line();
    assert_eq!(kept(), before);
}

#[test]
fn status_reads_the_database_whether_or_not_the_process_runs() {
    let place = Place::quickstart();
    let server = Server::start(&place);
    let running = eventually("status is well", || {
        Some(place.status(&["-o", "json"])).filter(|ended| ended.code == Some(0))
    });
    let document: serde_json::Value = serde_json::from_str(&running.stdout).unwrap();
    assert_eq!(document["fleet"], "standalone/default/quickstart");
    assert_eq!(document["objects"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&document["tokens"][0]["name"], &document["tokens"][0]["maxRequests"]),
        (&"hello".into(), &5.into())
    );
    let prefix = document["tokens"][0]["prefix"].as_str().unwrap();
    assert!(
        fs::read_to_string(server.line()).unwrap().contains(prefix) && prefix.len() == 14,
        "{prefix}"
    );
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let stopped = place.status(&["--json"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    let table = place.status(&[]);
    assert!(
        table.stdout.contains("WitheringToken") && table.stdout.contains("default/hello"),
        "{}",
        table.stdout
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let place = Place::quickstart();
    let server = Server::of(with(&place, &["--drain-delay", "1h"]), &place);
    server.line();
    server.signal("TERM");
    eventually("the drain has begun", || server.log().contains("draining").then_some(()));
    server.signal("INT");
    assert_eq!(server.wait(), Some(1));
    // And it is clean again at the next start.
    Server::start(&place);
}

#[test]
fn a_second_process_on_one_data_directory_is_refused() {
    let place = Place::quickstart();
    let server = Server::start(&place);
    let error = refused(place.standalone());
    assert!(error.contains("in use by another llm-proxy"), "{error}");
    drop(server);
    // The kernel lets the lock go with the killed process.
    Server::start(&place);
}

#[test]
fn a_port_in_use_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = refused(Place::quickstart().standalone_on(&address));
    assert!(error.contains(&address), "{error}");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_refused() {
    let place = Place::quickstart();
    fs::write(place.data(), "a file in its place").unwrap();
    let error = refused(place.standalone());
    assert!(error.contains("--data-dir"), "{error}");
}

#[test]
fn a_database_without_its_key_is_refused_and_no_key_is_made() {
    let place = Place::quickstart();
    drop(Server::start(&place));
    let key = place.data().join("encryption.key");
    fs::remove_file(&key).unwrap();
    let error = refused(place.standalone());
    assert!(error.contains("encryption.key") && !key.exists(), "{error}");
}

#[test]
fn a_database_with_another_key_is_refused() {
    let (place, other) = (Place::quickstart(), Place::quickstart());
    drop(Server::start(&place));
    drop(Server::start(&other));
    fs::copy(other.data().join("encryption.key"), place.data().join("encryption.key")).unwrap();
    let error = refused(place.standalone());
    assert!(error.contains("key"), "{error}");
}

#[test]
fn nothing_valid_and_nothing_stored_is_refused_with_the_faults() {
    let place = Place::empty();
    place.write(
        "proxy.yaml",
        "apiVersion: llm-proxy.dev/v1alpha1\nkind: ProxyConfig\nmetadata: {name: p}\nspec: {database: {sqlite: {}}, providers: 3}\n",
    );
    let ended: Ended = place.standalone().output().unwrap().into();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended
            .stderr
            .lines()
            .any(|line| line.starts_with("error: ") && line.contains("proxy.yaml:")),
        "{ended:?}"
    );
}

#[test]
fn with_stored_state_a_broken_folder_goes_on_serving() {
    let place = Place::quickstart();
    let first = Server::start(&place);
    let before = fs::read(first.line()).unwrap();
    drop(first);
    place.write("proxy.yaml", "{");
    fs::remove_file(place.manifests().join("token.yaml")).unwrap();
    let second = Server::start(&place);
    let after = fs::read(second.line()).unwrap();
    let key = |text: &[u8]| String::from_utf8(text.to_vec()).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(key(&after), key(&before));
}

#[test]
fn another_fleets_manifests_are_refused() {
    let place = Place::quickstart();
    drop(Server::start(&place));
    for file in ["proxy.yaml", "project.yaml"] {
        let text = fs::read_to_string(place.manifests().join(file)).unwrap();
        place.write(file, &text.replace("quickstart", "other"));
    }
    let error = refused(place.standalone());
    assert!(error.contains("belongs to"), "{error}");
}

#[test]
fn log_lines_go_where_they_are_told() {
    let place = Place::quickstart();
    let file = place.path().join("proxy.log");
    let server = Server::of(with(&place, &["--log-file", file.to_str().unwrap(), "--log-format", "json"]), &place);
    server.line();
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.is_empty());
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
    assert_eq!(fs::read_to_string(place.path().join("log")).unwrap(), "");
}

#[test]
fn a_log_file_that_cannot_be_opened_is_refused() {
    let error = refused(with(&Place::quickstart(), &["--log-file", "/nonexistent/proxy.log"]));
    assert!(error.contains("/nonexistent/proxy.log"), "{error}");
}

fn with(place: &Place, more: &[&str]) -> Command {
    let mut command = place.standalone();
    command.args(more);
    command
}

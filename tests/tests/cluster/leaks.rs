//! No secret is anywhere but in the Secrets that are made for it: not in an object of the API, an event, the operator's log, its metrics, the audit
//! log, or, in clear text, the database.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testkit::canary::{Find, Scanner};
use testkit::client::{self, Request};
use testkit::cluster::{Cluster, User};
use testkit::process::Process;
use testkit::random::Random;
use testkit::{operator_process, wait};

use crate::operating::Team;

/// What must not be found, under names that may be printed, and the Secrets that hold it.
struct Canaries {
    provider_key: String,
    password: String,
    edited: String,
    foreign: String,
}

impl Canaries {
    fn mint() -> Self {
        let mut random = Random::announced("leaks in a cluster");
        Self {
            // With every character that some spelling must escape and a header may hold.
            provider_key: format!("sk-canary/+\"\\&=%{}", random.base62(32)),
            password: format!("pw-canary+/{}", random.base62(24)),
            edited: format!("edited-canary-{}", random.base62(24)),
            foreign: format!("foreign-canary-{}", random.base62(24)),
        }
    }

    /// The database's URL with the password in it, which a server that trusts its clients does not ask for.
    fn url(&self, team: &Team) -> String {
        let url = team.database.url();
        let (scheme, rest) = url.split_once("://").unwrap();
        let (_, place) = rest.split_once('@').unwrap_or(("", rest));
        format!("{scheme}://postgres:{}@{place}", self.password_in_url())
    }

    /// The password as a URL has it.
    fn password_in_url(&self) -> String {
        self.password.replace('+', "%2B").replace('/', "%2F")
    }
}

/// The Secrets whose data may hold what they are made for.
const NAMED: [&str; 7] = ["database", "provider", "app", "edited", "taken", "main-management", "main-encryption"];

#[test]
fn no_secret_is_in_objects_events_logs_metrics_or_the_database() {
    let (team, scratch, canaries) = (Team::new(), tempfile::tempdir().unwrap(), Canaries::mint());
    // Applied anew: kubectl's own apply leaves what it was given in an annotation.
    team.kubectl(&["delete", "secret", "database", "provider"]);
    apply(&team, &secret("database", "url", &canaries.url(&team)));
    apply(&team, &secret("provider", "api-key", &canaries.provider_key));
    apply(&team, &secret("taken", "password", &canaries.foreign));
    let operator = start(&team, scratch.path());
    team.apply(&Team::everything());
    for name in ["gone", "edited"] {
        team.apply(&Team::token(name));
    }
    for name in ["app", "gone", "edited"] {
        team.wait_for(&format!("wtok/{name}"), "Ready", wait::SOON);
    }
    let value = |name: &str, key: &str| team.secret_value(name, key);
    let (first, gone, edited) = (value("app", "token"), value("gone", "token"), value("edited", "token"));
    stories(&team, &canaries);
    let renewed = value("app", "token");
    let reissued = value("edited", "token");
    assert!(first != renewed && edited != reissued, "one was rotated, one reissued");
    let (management, encryption) = (value("main-management", "token"), value("main-encryption", "key"));
    let encryption_hex: String = decode(&encryption).iter().map(|byte| format!("{byte:02x}")).collect();
    let operators = team.cluster.token(User::Operator);
    let scanner = Scanner::new(&[
        ("provider key", &canaries.provider_key),
        ("database password", &canaries.password),
        ("database password in its URL", &canaries.password_in_url()),
        ("what somebody wrote over a key", &canaries.edited),
        ("what a foreign Secret holds", &canaries.foreign),
        ("first key", &first),
        ("rotated key", &renewed),
        ("revoked key", &gone),
        ("replaced key", &edited),
        ("reissued key", &reissued),
        ("management token", &management),
        ("encryption key", &encryption),
        ("encryption key's bytes", &encryption_hex),
        ("the operator's own bearer token", &operators),
    ]);

    // Each place is searched with something planted in it first: what is found there would be found.
    let addr = operator_process::address(&operator);
    let plant = Planted::everywhere(&team, scratch.path(), &canaries);
    let finds = everywhere(&scanner, &team, &operator, scratch.path(), addr);
    for place in ["configmaps", "events", "planted.log", "pg_dump"] {
        assert!(
            finds.iter().any(|find| find.place.contains(place)),
            "what was planted in {place} is not found: {finds:?}"
        );
    }
    plant.removed(&team, scratch.path());
    for (place, text) in objects(&team, &[]).iter().filter(|(place, _)| place.starts_with("secrets ")) {
        let name = NAMED.iter().find(|name| *place == format!("secrets {} {name}", team.namespace));
        assert_eq!(
            scanner.bytes(place, text).is_empty(),
            name.is_none(),
            "{place}: the Secrets that are named hold what they are made for"
        );
    }

    let finds = everywhere(&scanner, &team, &operator, scratch.path(), addr);
    assert_eq!(finds, []);
    let log = operator.stderr();
    assert!(
        log.contains("\"TRACE\"") && log.len() > 100_000,
        "a log at level trace says much: {} bytes",
        log.len()
    );
    drop(operator);
}

/// What tempts somebody to quote a secret.
fn stories(team: &Team, canaries: &Canaries) {
    let change = |object: &str, patch: &Value| team.kubectl(&["patch", object, "--type=merge", "-p", &patch.to_string()]);
    // A foreign Secret, an edited one, a deleted one, a rotation, a revocation.
    team.apply(&Team::token("taken"));
    team.wait_for("wtok/taken", "Stalled", wait::SOON);
    change(
        "secret/edited",
        &json!({"stringData": {"token": canaries.edited, "OPENAI_API_KEY": canaries.edited}}),
    );
    wait::until("the edited Secret is written anew", wait::SOON, || {
        team.secret_value("edited", "token") != canaries.edited
    });
    let before = team.secret_value("app", "token");
    change("wtok/app", &json!({"spec": {"rotation": {"trigger": "now"}}}));
    wait::until("it is rotated", wait::SOON, || team.secret_value("app", "token") != before);
    change("wtok/gone", &json!({"spec": {"state": "Revoked"}}));
    team.wait_for("wtok/gone", "Ready=False", wait::SOON);
    // URLs that cannot be used, and a database that is away: what is said about them must not quote them.
    for (name, url) in [
        ("no-port", format!("postgres://postgres:{0}@db:no-port/{0}", canaries.password)),
        ("no-scheme", format!("mysql://postgres:{}@db/x", canaries.password)),
        ("no-url", canaries.password.clone()),
        ("nobody", format!("postgres://postgres:{}@127.0.0.1:9/x", canaries.foreign)),
    ] {
        apply(team, &secret(&format!("url-{name}"), "url", &url));
        let fleet = Team::fleet().replace("{name: main}", &format!("{{name: {name}}}"));
        team.apply(&fleet.replace("{name: database}", &format!("{{name: url-{name}}}")));
        team.wait_for(&format!("llmpx/{name}"), "Ready=False", wait::SOON);
        team.kubectl(&["delete", &format!("llmpx/{name}")]);
        team.kubectl(&["delete", &format!("secret/url-{name}")]);
    }
    team.database.set_away(true);
    team.wait_for("llmpx/main", "DatabaseReady=False", wait::SOON);
    team.database.set_away(false);
    team.wait_for("llmpx/main", "DatabaseReady", wait::SOON);
    apply(team, &secret("provider", "other-key", &canaries.provider_key));
    team.kubectl(&[
        "patch",
        "llmproj/team",
        "--type=json",
        "-p",
        r#"[{"op": "add", "path": "/spec/providers/0/credentials/secretRef/key", "value": "none"}]"#,
    ]);
    team.wait_for("llmproj/team", "Ready=False", wait::SOON);
    team.kubectl(&[
        "patch",
        "llmproj/team",
        "--type=json",
        "-p",
        r#"[{"op": "remove", "path": "/spec/providers/0/credentials/secretRef/key"}]"#,
    ]);
    team.wait_for("llmproj/team", "Ready", wait::SOON);
}

/// One canary in each place, in another spelling each.
struct Planted;

impl Planted {
    fn everywhere(team: &Team, scratch: &Path, canaries: &Canaries) -> Self {
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "planted"}, "binaryData": {"x": base64(&canaries.provider_key)}});
        apply(team, &map.to_string());
        let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "planted"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Plant", "reason": "Planted", "type": "Normal", "reportingController": "tests", "reportingInstance": "tests",
            "regarding": {"kind": "ConfigMap", "name": "planted", "namespace": team.namespace}, "note": format!("see {}", canaries.foreign)});
        apply(team, &event.to_string());
        fs::write(
            scratch.join("planted.log"),
            json!({"authorization": format!("Bearer {}", canaries.provider_key)}).to_string(),
        )
        .unwrap();
        let hex: String = canaries.password.bytes().map(|byte| format!("{byte:02x}")).collect();
        team.database
            .execute(&format!("CREATE TABLE planted (x BYTEA); INSERT INTO planted VALUES ('\\x{hex}')"));
        Self
    }

    fn removed(self, team: &Team, scratch: &Path) {
        team.kubectl(&["delete", "configmap/planted", "event.events.k8s.io/planted"]);
        team.database.execute("DROP TABLE planted");
        fs::remove_file(scratch.join("planted.log")).unwrap();
    }
}

/// Looks everywhere.
fn everywhere(scanner: &Scanner, team: &Team, operator: &Process, scratch: &Path, addr: std::net::SocketAddr) -> Vec<Find> {
    let mut finds = Vec::new();
    for (place, text) in objects(team, &NAMED) {
        finds.extend(scanner.bytes(&place, &text));
    }
    for accept in ["text/plain", "application/openmetrics-text", "application/json"] {
        let metrics = client::send(addr, &Request::get("/metrics").header("accept", accept))
            .expect("metrics")
            .body();
        assert!(!metrics.is_empty());
        finds.extend(scanner.bytes("metrics", &metrics));
    }
    for file in ["cmdline", "environ"] {
        finds.extend(scanner.bytes(file, &fs::read(format!("/proc/{}/{file}", operator.pid())).unwrap()));
    }
    finds.extend(scanner.path(scratch));
    finds.extend(scanner.path(&team.cluster.folder().join("audit.log")));
    finds.extend(scanner.bytes("pg_dump", &team.database.dump()));
    finds
}

/// Every object of every resource in every namespace, as the API server writes it; of the Secrets named only what is not data.
fn objects(team: &Team, named: &[&str]) -> Vec<(String, Vec<u8>)> {
    let cluster: &Cluster = team.cluster;
    let resources = cluster.kubectl(&["api-resources", "--verbs=list", "-o", "name"]).ok();
    assert!(
        resources.lines().count() > 30 && resources.contains("witheringtokens.llm-proxy.dev"),
        "{resources}"
    );
    let all: Vec<&str> = resources.lines().collect();
    let list = cluster
        .kubectl(&["get", &all.join(","), "-A", "-o", "json", "--show-managed-fields", "--ignore-not-found"])
        .ok();
    let list: Value = serde_json::from_str(&list).unwrap();
    let items = list["items"].as_array().unwrap();
    assert!(items.len() > 50, "{} objects", items.len());
    let written = items.iter().map(|object| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, namespace, name) = (
            text(&object["kind"]),
            text(&object["metadata"]["namespace"]),
            text(&object["metadata"]["name"]),
        );
        let mut object = object.clone();
        if kind == "Secret" && namespace == team.namespace && named.contains(&name.as_str()) {
            object.as_object_mut().unwrap().remove("data");
        }
        (format!("{}s {namespace} {name}", kind.to_lowercase()), object.to_string().into_bytes())
    });
    written.collect()
}

/// An operator that says all that it can.
fn start(team: &Team, scratch: &Path) -> Process {
    let (watch, lease) = (
        format!("--watch-namespace={}", team.namespace),
        format!("--lease-namespace={}", team.namespace),
    );
    let id = format!("--cluster-id={}", team.namespace);
    operator_process::start(
        scratch,
        &team.cluster.kubeconfig(User::Operator),
        &[&watch, &lease, &id, "--log-level=trace"],
    )
}

/// Server-side: without the annotation in which kubectl keeps what it has applied.
fn apply(team: &Team, manifest: &str) {
    let args = ["apply", "--server-side", "--force-conflicts", "-n", &team.namespace, "-f", "-"];
    team.cluster.kubectl_with_input(User::Admin, &args, manifest).ok();
}

fn secret(name: &str, key: &str, value: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {key: value}}).to_string()
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

//! What the user does on the first day, on a real node: install the chart, apply a fleet, a project and a token, stream from a pod, run into the
//! limit, scale, revoke, delete, uninstall. The transcript of it is a document.

use testkit::cluster::User;
use testkit::cluster::install::objects;
use testkit::postgres::Database;
use testkit::postgres::wire::Wire;

use crate::remains::{await_only, everything};
use crate::site::{RESTRICTED, SYSTEM, Site, until};
use crate::stage::{await_ready, client};
use crate::terminal::{Terminal, repository};
use crate::traces::Traces;

use std::time::Duration;

/// Where the fleet is.
const TEAM: &str = "team";

/// What each step may take on a loaded machine.
const STEP: &str = "--timeout=120s";

/// What is left after everything was deleted and uninstalled: what NOTES.txt says, and its reason.
const STAYS: [&str; 6] = [
    // Deleting these deletes every object of theirs.
    "CustomResourceDefinition <none> llmprojects.llm-proxy.dev",
    "CustomResourceDefinition <none> proxyconfigs.llm-proxy.dev",
    "CustomResourceDefinition <none> witheringtokens.llm-proxy.dev",
    // The API server's own note of the definitions' group; it goes with them.
    "APIService <none> v1alpha1.llm-proxy.dev",
    // Helm did not make it.
    "Lease llm-proxy-system llm-proxy",
    // The API server forgets them after an hour.
    "Event ",
];

/// The Secrets, made by a person who knows the address of a database.
fn fill_in_the_database(site: &Site, url: &str) {
    let example = std::fs::read_to_string(repository().join("examples/fleet-postgres/database-secret.yaml")).unwrap();
    let mut secret = objects(&example).remove(0);
    secret.data["stringData"] = serde_json::json!({ "url": url });
    apply(site, &serde_json::to_value(&secret).unwrap());
}

fn apply(site: &Site, object: &serde_json::Value) {
    let args = ["-n", TEAM, "apply", "-f", "-"];
    let _ = site.cluster().kubectl_with_input(User::Admin, &args, &object.to_string()).ok();
}

/// Runs the image's binary in a pod with a Secret as its environment; returns whether it was content, and what it said.
fn run(terminal: &mut Terminal<'_>, site: &Site, pod: &str, secret: &str, words: &[&str]) -> (bool, String) {
    apply(site, &client(pod, secret, words));
    let mut phase = String::new();
    until("the pod ends", Duration::from_secs(90), || {
        let get = ["-n", TEAM, "get", "pod", pod, "-o", "jsonpath={.status.phase}"];
        phase = site.kubectl(&get).stdout;
        phase == "Succeeded" || phase == "Failed"
    });
    (phase == "Succeeded", terminal.kubectl(&format!("logs {pod}")))
}

/// The application of the first day: it asks once, and prints the answer as it comes.
const CHAT: [&str; 6] = [
    "openai",
    "chat",
    "--token=$(OPENAI_API_KEY)",
    "--base-url=$(OPENAI_BASE_URL)",
    "--model=echo",
    "one two three",
];

#[test]
fn install_apply_stream_limit_revoke_scale_delete_and_uninstall() {
    let Some(site) = Site::of_its_own() else { return };
    let database = Database::create();
    let wire = Wire::from(site.node.network().machine(), database.server_address());
    site.make_system_namespace();
    let label = format!("{}={}", RESTRICTED.0, RESTRICTED.1);
    let _ = site.kubectl(&["create", "namespace", TEAM]).ok();
    let _ = site.kubectl(&["label", "namespace", TEAM, &label]).ok();
    site.await_account(TEAM);
    let heartbeat = ["-n", "kube-node-lease", "wait", "lease/node1", "--for=create", "--timeout=60s"];
    let _ = site.kubectl(&heartbeat).ok();
    let before = everything(&site);
    let mut terminal = Terminal::new(&site, TEAM);

    terminal.says("The operator");
    terminal.helm("install llm-proxy charts/llm-proxy --set image.tag=tests --wait --timeout 120s");

    terminal.says("A fleet on a PostgreSQL database, a team's project, an application's token");
    terminal.kubectl("apply -f examples/fleet-postgres/");
    // An application of three requests is soon through.
    fill_in_the_database(&site, &database.url_through(wire.address()));
    terminal.kubectl("patch witheringtoken/hello --type=merge --patch={\"spec\":{\"maxRequests\":3}}");
    terminal.kubectl(&format!("wait proxyconfig/main --for=condition=Ready {STEP}"));
    terminal.kubectl(&format!("wait proxyconfig/main --for=jsonpath={{.status.readyReplicas}}=2 {STEP}"));
    terminal.kubectl(&format!("wait witheringtoken/hello --for=condition=Ready {STEP}"));
    terminal.kubectl("get llm-proxy");
    let address = ["-n", TEAM, "get", "service", "main", "-o", "jsonpath={.spec.clusterIP}:8080"];
    await_ready(site.kubectl(&address).ok().parse().unwrap());

    terminal.says("An application streams with the token's Secret as its environment, up to the limit of three requests");
    assert_eq!(run(&mut terminal, &site, "first", "hello", &CHAT), (true, "one two three\n".to_owned()));
    let spend = ["openai", "spend", "--model=echo", "--requests=2", "--then=rate_limit_exceeded"];
    let (content, said) = run(&mut terminal, &site, "second", "hello", &spend);
    assert!(content && said.contains("then refused: rate_limit_exceeded"), "{said}");
    let (content, said) = run(&mut terminal, &site, "third", "hello", &CHAT);
    assert!(!content && said.contains("rate_limit_exceeded"), "{said}");

    terminal.says("One pod, three, and one again");
    for replicas in ["1", "3", "1"] {
        terminal.kubectl(&format!("scale proxyconfig/main --replicas={replicas}"));
        terminal.kubectl(&format!(
            "wait proxyconfig/main --for=jsonpath={{.status.readyReplicas}}={replicas} {STEP}"
        ));
        terminal.kubectl("get proxyconfig/main");
    }

    terminal.says("The platform team's look into the fleet: through the API server, with the rights of its kubeconfig");
    terminal.kubectl("llm-proxy manage project list");

    terminal.says("A token revoked is refused");
    // The Secret goes with the key; an application may have kept both.
    let secret = site.kubectl(&["-n", TEAM, "get", "secret", "hello", "-o", "json"]).ok();
    let mut kept: serde_json::Value = serde_json::from_str(&secret).unwrap();
    kept["metadata"] = serde_json::json!({ "name": "kept" });
    apply(&site, &kept);
    terminal.kubectl("patch witheringtoken/hello --type=merge --patch={\"spec\":{\"state\":\"Revoked\"}}");
    terminal.kubectl(&format!("wait witheringtoken/hello --for=condition=Ready=False {STEP}"));
    let _ = site.kubectl(&["-n", TEAM, "wait", "secret/hello", "--for=delete", STEP]).ok();
    let (content, said) = run(&mut terminal, &site, "fourth", "kept", &CHAT);
    assert!(!content && said.contains("token_inactive"), "{said}");

    terminal.says("Everything goes again");
    let _ = site.kubectl(&["-n", TEAM, "delete", "secret", "kept"]).ok();
    let _ = site.kubectl(&["-n", TEAM, "delete", "pod", "-l", "run=client", "--wait=false"]).ok();
    for object in ["llmproject/demo", "proxyconfig/main"] {
        let patch = "--patch={\"spec\":{\"deletionPolicy\":\"Delete\"}}";
        terminal.kubectl(&format!("patch {object} --type=merge {patch}"));
        let generation = ["-n", TEAM, "get", object, "-o", "jsonpath={.metadata.generation}"];
        let generation = site.kubectl(&generation).ok();
        terminal.kubectl(&format!(
            "wait {object} --for=jsonpath={{.status.observedGeneration}}={generation} {STEP}"
        ));
    }
    terminal.kubectl("delete -f examples/fleet-postgres/ --wait");
    // Rows go with the last pod, and it takes the operator to do that.
    until("the database is nobody's", Duration::from_secs(90), || {
        let tables = ["fleets", "projects", "tokens", "usage", "audit"];
        tables.iter().all(|table| database.number(&format!("SELECT COUNT(*) FROM {table}")) == 0)
    });
    terminal.helm("uninstall llm-proxy --wait --timeout 120s");
    await_only(&site, &before, &STAYS);

    terminal.says("What stayed, by hand");
    terminal.kubectl(&format!("delete lease llm-proxy --namespace {SYSTEM} {STEP}"));
    terminal.kubectl(&format!(
        "delete crd proxyconfigs.llm-proxy.dev llmprojects.llm-proxy.dev witheringtokens.llm-proxy.dev {STEP}"
    ));
    await_only(&site, &before, &STAYS[5..]);
    eprintln!("the story took {:.1} s", terminal.seconds());
    terminal.compare();

    let traces = Traces::of(&site.node);
    for kind in ["address", "route", "control group", "process", "folder"] {
        let now = traces.now();
        assert!(now.iter().any(|trace| trace.starts_with(kind)), "{kind}: {now:#?}");
    }
    drop(site);
    traces.until_gone();
}

#[test]
fn what_stays_is_what_the_notes_say() {
    let notes = std::fs::read_to_string(testkit::charts::chart("llm-proxy").join("templates/NOTES.txt")).unwrap();
    let (_, after) = notes.split_once("these stay").unwrap();
    let said = [
        "llmprojects.llm-proxy.dev",
        "proxyconfigs.llm-proxy.dev",
        "witheringtokens.llm-proxy.dev",
        "the Lease ",
        "-encryption",
        "Events",
    ];
    for what in said {
        assert!(after.contains(what), "{what}");
    }
    // The group's entry is part of the definitions, and the fleet of the first day took its key along.
    assert_eq!(said.len(), STAYS.len());
}

//! What the documents tell people to type at a cluster: every block that is marked `cluster: …` is run as it stands, in the order of reading.
//! There is no node: what Deployments describe runs as processes beside it (`rehearsal`). cli/tests/cli/documents.rs knows which block is run where.

mod rehearsal;

use std::fs;
use std::path::Path;
use std::process::Command;

use rehearsal::Rehearsal;
use testkit::postgres::Database;

/// The block of a document after `<!-- cluster: NAME -->`.
pub(crate) fn block(document: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    let text = fs::read_to_string(&path).unwrap();
    let marker = format!("<!-- cluster: {name} -->\n```sh\n");
    let (_, after) = text
        .split_once(&marker)
        .unwrap_or_else(|| panic!("{document} has no block `cluster: {name}`"));
    after.split_once("\n```").expect("its end").0.to_owned()
}

#[test]
fn the_documents_way_from_an_installation_to_its_end_works() {
    let rehearsal = Rehearsal::start();
    let run = |document: &str, name: &str| rehearsal.run(&block(document, name));

    let installed = run("README.md", "install");
    assert!(installed.contains("STATUS: deployed"), "{installed}");
    let shown = run("README.md", "first fleet");
    for object in [
        "proxyconfig.llm-proxy.dev/main",
        "llmproject.llm-proxy.dev/demo",
        "witheringtoken.llm-proxy.dev/hello",
    ] {
        let line = shown.lines().rfind(|line| line.starts_with(object));
        let ready = line.and_then(|line| line.split_whitespace().nth(1));
        assert_eq!(ready, Some("True"), "{object} in\n{shown}");
    }
    assert!(
        rehearsal
            .kubectl(&["get", "secret", "hello", "-o", "jsonpath={.data.OPENAI_API_KEY}"])
            .len()
            > 50
    );

    let day = run("docs/operator.md", "day to day");
    for told in ["TokenIssued", "Ready", "main scaled", "condition met"] {
        assert!(day.contains(told), "no {told:?} in\n{day}");
    }
    let backup = fs::read_to_string(rehearsal.folder().join("main-encryption.yaml")).unwrap();
    assert!(backup.contains("name: main-encryption") && backup.contains("  key: "));
    assert_eq!(rehearsal.kubectl(&["get", "proxyconfig/main", "-o", "jsonpath={.spec.replicas}"]), "3");

    let upgraded = run("docs/operator.md", "upgrade");
    assert!(upgraded.contains("serverside-applied") && upgraded.contains("REVISION: 2"), "{upgraded}");
    let deployment = [
        "-n",
        "llm-proxy-system",
        "get",
        "deployment/llm-proxy",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    ];
    assert_eq!(rehearsal.kubectl(&deployment), "registry.example.com/llm-proxy:0.1.0");

    let notes = rehearsal.run("helm get notes llm-proxy --namespace llm-proxy-system");
    let ended = run("docs/operator.md", "uninstall");
    assert!(ended.contains("release \"llm-proxy\" uninstalled"), "{ended}");
    // What notes and document say that stays, and nothing else of ours.
    rehearsal.until_gone("deployments,services,poddisruptionbudgets,serviceaccounts,roles,rolebindings");
    let stays = [
        ("the definitions", "get customresourcedefinitions/witheringtokens.llm-proxy.dev"),
        ("the Lease", "-n llm-proxy-system get lease/llm-proxy"),
        ("`NAME-encryption`", "get secret/main-encryption"),
    ];
    for (said, asked) in stays {
        assert!(
            block_of_text("docs/operator.md", "## Uninstall").contains(said.trim_end_matches(" Lease")),
            "{said}"
        );
        assert!(notes.contains(said.trim_matches('`').trim_start_matches("the ")), "{said} in\n{notes}");
        let _ = rehearsal.kubectl(&asked.split(' ').collect::<Vec<_>>());
    }
}

#[test]
fn the_charts_readme_brings_up_a_fleet_by_values_and_an_operator_of_one_namespace() {
    let rehearsal = Rehearsal::start();
    let up = rehearsal.run(&block("charts/llm-proxy/README.md", "first fleet by values"));
    assert!(
        up.contains("STATUS: deployed") && up.contains("proxyconfig.llm-proxy.dev/default condition met"),
        "{up}"
    );
    let _ = rehearsal.run("helm uninstall llm-proxy --namespace llm-proxy-system --wait");
    rehearsal.until_gone("deployments,services");

    let namespaced = rehearsal.run(&block("charts/llm-proxy/README.md", "namespaced"));
    assert!(namespaced.contains("watches: team-a"), "{namespaced}");
    assert_eq!(rehearsal.kubectl(&["-n", "team-a", "get", "roles", "-o", "name"]).lines().count(), 2);
    // The notes say how to go on; what stands in capitals is to be filled in.
    let (_, after) = namespaced.split_once("A fleet needs a PostgreSQL database").expect("the notes");
    let (commands, _) = after.split_once("\nThen projects and tokens").expect("the notes");
    let typed: Vec<&str> = commands.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let database = Database::create();
    let typed = typed
        .join("\n")
        .replace("postgres://USER:PASSWORD@HOST/DATABASE", &format!("'{}'", database.url()));
    let said = rehearsal.run(&typed);
    assert!(said.contains("proxyconfig.llm-proxy.dev/default condition met"), "{said}");
}

#[test]
fn the_contributors_control_plane_answers() {
    let block = block("CONTRIBUTING.md", "look around");
    let command = block
        .strip_prefix("cargo run -p testkit --bin control-plane -- ")
        .expect("what runs a command");
    let programs = testkit::cluster::programs::Programs::find().unwrap();
    let kubectl = programs.kubectl.parent().unwrap().to_owned();
    let mut words = command.split_whitespace();
    assert_eq!((words.next(), words.next(), words.next()), (Some("run"), Some("bash"), None));
    let output = Command::new(env!("CARGO_BIN_EXE_control-plane"))
        .args([
            "run",
            "bash",
            "-c",
            "kubectl get --raw /readyz && kubectl get crd witheringtokens.llm-proxy.dev",
        ])
        .env("PATH", format!("{}:{}", kubectl.display(), std::env::var("PATH").unwrap()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A document's text from a heading on to the next of its rank.
fn block_of_text(document: &str, heading: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
    let text = fs::read_to_string(path).unwrap();
    let (_, after) = text.split_once(&format!("\n{heading}\n")).expect("the heading");
    after.split_once("\n## ").map_or(after, |(section, _)| section).to_owned()
}

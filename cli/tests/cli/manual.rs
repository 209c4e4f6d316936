//! docs/cli.md: every block in it is run, in its order, and every flag that it names exists. The first calls of docs/manage.md.

use std::collections::BTreeSet;
use std::fs;

use crate::by_hand::bash;
use crate::classic::answer;
use crate::process::{Ended, Place, Server, repository, run};
use crate::scripted::{Scripted, json};

fn manual() -> String {
    read("docs/cli.md")
}

fn read(document: &str) -> String {
    fs::read_to_string(repository().join(document)).unwrap()
}

/// The blocks with their markers, such as `run: setup`.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\n```sh\n") {
        let marker = before.lines().last().unwrap_or_default();
        let marker = marker.strip_prefix("<!-- ").and_then(|marker| marker.strip_suffix(" -->"));
        let (block, after) = after.split_once("\n```").unwrap();
        blocks.push((
            marker.unwrap_or_else(|| panic!("a block that is not run: {block}")).to_owned(),
            block.to_owned(),
        ));
        rest = after;
    }
    blocks
}

#[test]
fn every_block_of_the_manual_runs_and_does_what_its_text_says() {
    let place = Place::empty();
    let whole = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Again"},"finish_reason":"stop"}]}"#;
    let provider = Scripted::start([answer("Hello"), json(200, whole), json(200, whole), json(200, whole)]);
    let blocks = blocks(&manual());
    let of = |marker: &str| &blocks.iter().find(|(found, _)| found == marker).unwrap().1;
    let key = "sk-proj-canary-0123456789abcdef";

    let ended: Ended = bash(of("run: setup"), place.path()).env("OPENAI_API_KEY", key).output().unwrap().into();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.contains("My Project (") && ended.stdout.contains("Token:         sk-lp-"),
        "{ended:?}"
    );

    let mut server = bash(&format!("exec {}", of("run: server")), place.path());
    server.env("OPENAI_API_URL", &provider.url);
    let server = Server::of(server, &place);

    // One shell for all the others, so that its variables live on as they would for who types along.
    // What needs an API server is run where there is one: manual.rs and tunnel.rs in tests/tests/cluster.
    let rest = blocks
        .iter()
        .filter(|(marker, _)| !["run: setup", "run: server"].contains(&marker.as_str()) && !marker.starts_with("cluster: "));
    let script: String = rest.map(|(marker, block)| format!("echo '== {marker}'\n{block}\n")).collect();
    let ended: Ended = bash(&script, place.path())
        .env("OPENAI_API_KEY", key)
        .env("MANAGEMENT_API_BASE_URL", &server.base_url)
        .env("PROXY_URL", &server.base_url)
        .env("OPENAI_BASE_URL", format!("{}/v1", server.base_url))
        .output()
        .unwrap()
        .into();
    assert_eq!(ended.code, Some(0), "{ended:?}\n{}", server.log());
    assert!(!ended.stdout.contains(key) && !ended.stderr.contains(key), "{ended:?}");
    let printed = |marker: &str| {
        let after = ended.stdout.split_once(&format!("== {marker}\n")).unwrap().1;
        after.split("\n== ").next().unwrap().to_owned()
    };
    let project = printed("run: project");
    assert!(
        project.contains("My Project") && project.contains("Team B") && project.contains("  no  ") && project.contains("  yes  "),
        "{project}"
    );
    let token = printed("run: token");
    assert!(token.contains("Keep the token now") && token.contains("Max requests: 1000"), "{token}");
    let chat = provider.asked();
    assert!(
        chat.body.contains("gpt-4o") && chat.headers.contains(&format!("authorization: Bearer {key}\r\n")),
        "{chat:?}"
    );
    assert_eq!(printed("run: chat"), "Hello\nAgain");
    assert_eq!(printed("run: spend"), "answered: 2, then refused: rate_limit_exceeded");
    let usage = printed("run: usage");
    assert!(usage.contains("token.update") && usage.contains("every chain holds"), "{usage}");
    let revoke = printed("run: revoke");
    assert!(revoke.contains("**** revoked\n") && revoke.contains("Revoked:         2\n"), "{revoke}");
    let migrate = printed("run: migrate");
    assert!(migrate.contains("up to date") && migrate.contains("taken back from version"), "{migrate}");
}

#[test]
fn the_manual_names_only_flags_that_exist_and_no_command_is_left_out() {
    let text = manual();
    let mut flags = BTreeSet::new();
    let mut commands = vec![Vec::<String>::new()];
    let mut leaves = Vec::new();
    while let Some(command) = commands.pop() {
        let help = run(command.iter().map(String::as_str).chain(["--help"])).stdout;
        flags.extend(words(&help).filter(|word| word.starts_with("--")).map(str::to_owned));
        let listed = help.split_once("\nCommands:\n").map(|(_, rest)| rest.split("\n\n").next().unwrap());
        let subcommands = listed
            .into_iter()
            .flat_map(str::lines)
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let names: Vec<String> = subcommands.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
        if names.is_empty() && !command.is_empty() {
            leaves.push(command.join(" "));
        }
        commands.extend(
            names
                .into_iter()
                .filter(|name| name != "help")
                .map(|name| [command.clone(), vec![name]].concat()),
        );
    }
    assert!(flags.len() > 40 && leaves.len() > 20, "{flags:?} {leaves:?}");
    // kubectl has flags of its own.
    let ours: String = text
        .lines()
        .filter(|line| !line.starts_with("kubectl "))
        .map(|line| format!("{line}\n"))
        .collect();
    let named: BTreeSet<&str> = words(&ours)
        .filter(|word| word.starts_with("--") && word.len() > 2 && !word.starts_with("---"))
        .collect();
    assert!(named.len() > 30, "{named:?}");
    for name in named {
        assert!(flags.contains(name), "there is no {name}");
    }
    for leaf in leaves.iter().filter(|leaf| *leaf != "version") {
        let shortest = leaf.strip_prefix("manage ").unwrap_or(leaf);
        assert!(text.contains(shortest), "the manual does not name {leaf}");
    }
}

#[test]
fn the_management_apis_first_calls_work() {
    let place = Place::empty();
    let server = Server::of(bash("MANAGEMENT_TOKEN=for-this-test exec llm-proxy server", place.path()), &place);
    let blocks = blocks(&read("docs/manage.md"));
    assert_eq!(blocks.len(), 1);
    let block = blocks[0].1.replace("http://localhost:8080", &server.base_url);
    assert_ne!(block, blocks[0].1);
    let ended: Ended = bash(&block, place.path())
        .env("MANAGEMENT_TOKEN", "for-this-test")
        .env("OPENAI_API_KEY", "sk-of-the-provider")
        .output()
        .unwrap()
        .into();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.contains("\"token\":\"sk-lp-") && ended.stdout.contains("\"max_requests\":100"),
        "{ended:?}"
    );
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .filter(|word| !word.is_empty())
}

//! What every document has to keep: a block that people may type is run by a test or says why not, a link leads somewhere, a name exists.
//! The tables are in `tables`. It refuses to know what the documents are about.

mod tables;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which test runs a block: document, marker, the test's file and name.
const RUN: [(&str, &str, &str, &str); 24] = [
    ("README.md", "run: server", "cli/tests/cli/by_hand.rs", "the_readmes_first_steps_work"),
    (
        "README.md",
        "run: first steps",
        "cli/tests/cli/by_hand.rs",
        "the_readmes_first_steps_work",
    ),
    (
        "README.md",
        "run: key",
        "cli/tests/cli/by_hand.rs",
        "the_readmes_way_to_bring_a_key_works_and_leaves_it_in_no_file",
    ),
    ("README.md", "cluster: install", DOCUMENTS, WAY),
    ("README.md", "cluster: first fleet", DOCUMENTS, WAY),
    ("docs/operator.md", "cluster: day to day", DOCUMENTS, WAY),
    ("docs/operator.md", "cluster: upgrade", DOCUMENTS, WAY),
    ("docs/operator.md", "cluster: uninstall", DOCUMENTS, WAY),
    ("charts/llm-proxy/README.md", "cluster: first fleet by values", DOCUMENTS, CHART),
    ("charts/llm-proxy/README.md", "cluster: namespaced", DOCUMENTS, CHART),
    ("docs/cli.md", "run: setup", MANUAL, BLOCKS),
    ("docs/cli.md", "run: server", MANUAL, BLOCKS),
    ("docs/cli.md", "run: project", MANUAL, BLOCKS),
    ("docs/cli.md", "run: token", MANUAL, BLOCKS),
    ("docs/cli.md", "run: chat", MANUAL, BLOCKS),
    ("docs/cli.md", "run: spend", MANUAL, BLOCKS),
    ("docs/cli.md", "run: usage", MANUAL, BLOCKS),
    ("docs/cli.md", "run: revoke", MANUAL, BLOCKS),
    ("docs/cli.md", "run: migrate", MANUAL, BLOCKS),
    ("docs/cli.md", "run: completion", MANUAL, BLOCKS),
    (
        "docs/cli.md",
        "cluster: operate",
        "tests/tests/cluster/manual.rs",
        "the_manuals_way_to_a_key_in_a_cluster_leads_there",
    ),
    (
        "docs/cli.md",
        "cluster: fleet",
        "tests/tests/cluster/tunnel.rs",
        "a_fleet_is_managed_through_the_api_server_with_the_documented_rights",
    ),
    ("docs/manage.md", "run: create", MANUAL, "the_management_apis_first_calls_work"),
    (
        "CONTRIBUTING.md",
        "cluster: look around",
        DOCUMENTS,
        "the_contributors_control_plane_answers",
    ),
];
const DOCUMENTS: &str = "tests/tests/cluster/documents.rs";
const WAY: &str = "the_documents_way_from_an_installation_to_its_end_works";
const CHART: &str = "the_charts_readme_brings_up_a_fleet_by_values_and_an_operator_of_one_namespace";
const MANUAL: &str = "cli/tests/cli/manual.rs";
const BLOCKS: &str = "every_block_of_the_manual_runs_and_does_what_its_text_says";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every document that people read, by its path from the repository's root.
fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "docs", "charts/llm-proxy", "charts/llm-proxy-crds", "crds/table"] {
        for entry in fs::read_dir(repository().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                found.push(Path::new(folder).join(name).to_string_lossy().into_owned());
            }
        }
    }
    found.sort_unstable();
    found
}

/// The fenced blocks of a document: the line before the fence, the fence's language, the text.
fn blocks(text: &str) -> Vec<(String, String, String)> {
    let (mut found, mut before) = (Vec::new(), "");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            found.push((before.to_owned(), language.to_owned(), body.join("\n")));
        }
        before = line;
    }
    found
}

#[test]
fn every_block_that_people_may_type_is_run_by_a_test_or_says_why_not() {
    let mut marked = BTreeSet::new();
    let mut excused = 0;
    for document in documents() {
        for (before, language, body) in blocks(&read(&document)) {
            // The transcript of the node's story: that test writes it, and compares it.
            if document == "docs/first-day.md" {
                continue;
            }
            if !["sh", "bash", "shell", "console"].contains(&language.as_str()) {
                assert!(
                    ["", "python", "yaml", "json", "text", "rust"].contains(&language.as_str()),
                    "{document}: {language}"
                );
                continue;
            }
            let marker = before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
            let marker = marker.unwrap_or_else(|| panic!("{document}: a block without a marker on the line before it:\n{body}"));
            match marker.strip_prefix("not run: ") {
                Some(why) => {
                    assert!(why.split_whitespace().count() >= 5, "{document}: {why:?} is no reason");
                    excused += 1;
                }
                None => assert!(marked.insert((document.clone(), marker.to_owned())), "{document} has {marker:?} twice"),
            }
        }
    }
    let run: BTreeSet<(String, String)> = RUN
        .iter()
        .map(|(document, marker, ..)| ((*document).to_owned(), (*marker).to_owned()))
        .collect();
    assert_eq!(marked, run, "the documents' blocks, and those that a test runs");
    assert!(excused < 10, "{excused}: what is not run must stay the exception");
    for (document, marker, file, test) in RUN {
        assert!(
            read(file).contains(&format!("fn {test}()")),
            "{document}: {marker:?} is run by no test of {file}"
        );
    }
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_of_it() {
    let mut seen = 0;
    for document in documents() {
        let text = read(&document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            let (path, heading) = link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
            let folder = repository().join(&document);
            let target = if path.is_empty() { folder } else { folder.parent().unwrap().join(path) };
            assert!(target.exists(), "{document} links to {link}, which is not there");
            if let Some(heading) = heading {
                let text = fs::read_to_string(&target).unwrap();
                let mut known = text.lines().filter(|line| line.starts_with('#')).map(anchor);
                assert!(known.any(|known| known == heading), "{document} links to {link}: no such heading");
            }
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}

/// What a heading is linked by.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_make_target_and_every_path_that_a_document_names_exists() {
    let makefile = read("Makefile");
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(':').map(|(target, _)| target))
        .filter(|target| !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
        .collect();
    let (mut named, mut paths) = (BTreeSet::new(), 0);
    for document in documents() {
        let text = read(&document);
        let code = text.split('`').skip(1).step_by(2).map(str::to_owned);
        let typed = blocks(&text)
            .into_iter()
            .flat_map(|(.., body)| body.lines().map(str::to_owned).collect::<Vec<_>>());
        for words in code.chain(typed) {
            if let Some(rest) = words.strip_prefix("make ") {
                named.extend(
                    rest.split_whitespace()
                        .take_while(|word| targets.contains(word) || !word.starts_with('-'))
                        .map(str::to_owned),
                );
            }
            // A path is what begins with a folder of ours and has no placeholder in it.
            let ours = [
                "crds/",
                "proxy/",
                "store/",
                "operator/",
                "cli/",
                "tests/",
                "e2e/",
                "charts/",
                "examples/",
                "docs/",
                "migrations/",
            ];
            let path = words.trim_end_matches('/');
            if ours.iter().any(|folder| words.starts_with(folder)) && !path.contains([' ', '<', '*', '{', 'N']) && !path.contains('…') {
                assert!(repository().join(path).exists(), "{document} names {path}, which is not there");
                paths += 1;
            }
        }
    }
    for target in &named {
        assert!(targets.contains(target.as_str()), "there is no `make {target}`");
    }
    assert!(named.len() > 6 && paths > 30, "{named:?} {paths}");
}

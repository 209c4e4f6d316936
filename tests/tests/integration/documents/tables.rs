//! The documents' tables beside what they list: fields, values, rights, conditions, reasons, events, flags. It refuses to know why something is listed.

use std::collections::{BTreeMap, BTreeSet};

use crds::conditions::ConditionType;
use crds::events::EventReason;
use crds::{Kind, Reason};
use serde_json::Value;
use testkit::cluster::install::objects;
use testkit::program;

use super::read;

/// A document from a heading on to the next one of its rank or a higher one.
fn section(document: &str, heading: &str) -> String {
    let text = read(document);
    let (_, after) = text
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("{document} has no {heading}"));
    let rank = heading.bytes().take_while(|byte| *byte == b'#').count();
    let next = (1..=rank).filter_map(|rank| after.find(&format!("\n{} ", "#".repeat(rank)))).min();
    after[..next.unwrap_or(after.len())].to_owned()
}

/// The rows of the tables in a text, each as its cells.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with("| ") || line.starts_with("|---"));
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim_matches('|');
        inner
            .split(" | ")
            .map(|cell| cell.trim().trim_end_matches('|').trim().to_owned())
            .collect()
    };
    lines.filter(|line| !line.starts_with("|---")).map(cells).collect()
}

/// The words in backticks of a text.
fn code(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Calls `found` with the path of each field below a schema.
fn each_field(schema: &Value, path: &str, found: &mut impl FnMut(&str)) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let list = if field["type"] == "array" { "[]" } else { "" };
        let path = format!("{path}.{name}{list}");
        found(&path);
        each_field(field, &path, found);
        each_field(&field["items"], &path, found);
    }
}

#[test]
fn the_manifests_page_has_every_field_of_the_schemas_and_no_other() {
    for kind in Kind::ALL {
        let definition = serde_json::to_value(kind.definition()).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let short = definition["spec"]["names"]["shortNames"][0].as_str().unwrap();
        let name = definition["spec"]["names"]["kind"].as_str().unwrap();
        let rows = rows(&section("docs/manifests.md", &format!("## {name} (`{short}`)")));
        let documented: BTreeSet<String> = rows.iter().skip(1).flat_map(|row| code(&row[0])).collect();
        let mut fields = BTreeSet::new();
        // What Kubernetes itself defines is not told again.
        each_field(schema, "spec", &mut |path| {
            if !path.contains("matchExpressions[].") {
                fields.insert(path.to_owned());
            }
        });
        assert_eq!(documented, fields, "docs/manifests.md, {name}");
    }
}

/// The values with their defaults: empty maps and lists are values, others are looked into.
fn leaves(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) if !fields.is_empty() && path != "resources" => {
            for (name, value) in fields {
                leaves(value, &format!("{path}{}{name}", if path.is_empty() { "" } else { "." }), found);
            }
        }
        leaf => {
            found.insert(path.to_owned(), leaf.clone());
        }
    }
}

#[test]
fn the_charts_readme_has_every_value_with_its_default_and_no_other() {
    let values: Value = serde_yaml::from_str(&read("charts/llm-proxy/values.yaml")).unwrap();
    let mut wanted = BTreeMap::new();
    leaves(&values, "", &mut wanted);
    let mut documented = BTreeSet::new();
    for row in rows(&section("charts/llm-proxy/README.md", "## Values")).iter().skip(1) {
        let names: Vec<&str> = row[0].split(", ").map(|name| name.trim_matches('`')).collect();
        let defaults: Vec<&str> = row[1].split(", ").map(|default| default.trim_matches('`')).collect();
        for (index, name) in names.iter().enumerate() {
            let value = wanted.get(*name).unwrap_or_else(|| panic!("values.yaml has no {name}"));
            let default = defaults.get(index).unwrap_or(&defaults[0]);
            let shown = value.as_str().map_or_else(
                || value.to_string(),
                |text| if text.is_empty() { "\"\"".to_owned() } else { text.to_owned() },
            );
            assert!(*name == "resources" || shown == *default, "{name} is {shown}, not {default}");
            documented.insert((*name).to_owned());
        }
    }
    assert_eq!(documented, wanted.into_keys().collect(), "charts/llm-proxy/README.md");
}

#[test]
fn the_operators_rights_are_those_that_the_document_lists() {
    let mut granted = BTreeSet::new();
    let role = objects(&read("tests/src/cluster/rbac.yaml"))
        .into_iter()
        .find(|object| object.metadata.name.as_deref() == Some("llm-proxy-operator"));
    let words = |list: &Value| -> Vec<String> { list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect() };
    for rule in role.unwrap().data["rules"].as_array().unwrap() {
        for (group, resource) in words(&rule["apiGroups"])
            .into_iter()
            .flat_map(|group| words(&rule["resources"]).into_iter().map(move |resource| (group.clone(), resource)))
        {
            granted.extend(words(&rule["verbs"]).into_iter().map(|verb| format!("{verb} {resource} of {group:?}")));
        }
    }
    let mut documented = BTreeSet::new();
    for row in rows(&section("docs/operator.md", "## Rights")).iter().skip(1) {
        let group = row[0].trim_matches('`');
        for resource in code(&row[1]) {
            documented.extend(row[2].split(", ").map(|verb| format!("{verb} {resource} of {group:?}")));
        }
    }
    assert_eq!(documented, granted);
}

/// The first cells of the tables of a section.
fn listed(heading: &str) -> BTreeSet<String> {
    rows(&section("docs/operator.md", heading)).iter().flat_map(|row| code(&row[0])).collect()
}

#[test]
fn every_condition_reason_and_event_is_told_with_its_meaning() {
    let conditions = listed("## Conditions");
    // These two are told in the text above the table.
    let summing = [ConditionType::Ready, ConditionType::Stalled, ConditionType::Reconciling];
    let mut wanted: BTreeSet<String> = Reason::ALL.iter().map(ToString::to_string).collect();
    wanted.extend(
        ConditionType::ALL
            .iter()
            .filter(|about| !summing.contains(about))
            .map(ToString::to_string),
    );
    assert_eq!(conditions, wanted, "docs/operator.md, Conditions");
    let events: BTreeSet<String> = EventReason::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(listed("## Events"), events, "docs/operator.md, Events");
    for row in rows(&section("docs/operator.md", "## Events")).iter().skip(1) {
        let event: EventReason = row[0].trim_matches('`').parse().unwrap();
        assert_eq!(event.severity().as_str(), row[1], "{event}");
    }
    // The meanings are the words' own.
    let said = section("docs/operator.md", "## Conditions");
    for line in read("crds/src/reasons.rs").lines().collect::<Vec<_>>().windows(2) {
        let (Some(meaning), Some(word)) = (line[0].trim().strip_prefix("/// "), line[1].trim().strip_suffix(',')) else {
            continue;
        };
        if word.parse::<Reason>().is_ok() {
            let meaning = meaning.trim_end_matches('.');
            let told = said
                .lines()
                .any(|line| line.starts_with(&format!("| `{word}` |")) && line.contains(meaning));
            assert!(told, "docs/operator.md does not say of {word}: {meaning}");
        }
    }
}

#[test]
fn the_command_lines_page_has_every_flag_and_variable_of_every_command() {
    let text = read("docs/cli.md");
    let known: BTreeSet<&str> = words(&text).collect();
    let mut commands = vec![Vec::<String>::new()];
    let mut seen = 0;
    while let Some(command) = commands.pop() {
        let mut args: Vec<&str> = command.iter().map(String::as_str).collect();
        args.push("--help");
        let help = String::from_utf8(program::run(&args).stdout).unwrap();
        for word in words(&help) {
            let is_flag = word.starts_with("--") && word.len() > 2 && !["--help", "--version"].contains(&word);
            // What is to be filled in has dashes, if anything: PROJECT-ID.
            let is_variable = word.contains('_') && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
            if is_flag || is_variable {
                assert!(
                    known.contains(word),
                    "docs/cli.md does not name {word} of llm-proxy {}",
                    command.join(" ")
                );
                seen += 1;
            }
        }
        let listed = help.split_once("\nCommands:\n").map(|(_, rest)| rest.split("\n\n").next().unwrap());
        for line in listed
            .into_iter()
            .flat_map(str::lines)
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        {
            let name = line.split_whitespace().next().unwrap();
            if name != "help" {
                commands.push([command.clone(), vec![name.to_owned()]].concat());
            }
        }
    }
    assert!(seen > 200, "{seen}");
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .filter(|word| !word.is_empty())
}

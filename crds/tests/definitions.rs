//! The generated definitions under `yaml/` are those of the types, and obey the conventions that users and tools rely on.
//! `UPDATE_CRDS=1 cargo test -p crds --test definitions` writes them anew.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly, in its helpers too")]

use std::fs;
use std::path::Path;

use crds::Kind;
use serde_json::{Map, Value, json};

const HEADER: &str = "# Generated from the types in crds/src by `UPDATE_CRDS=1 cargo test -p crds --test definitions`; edit those, not this.\n";

fn definition(kind: Kind) -> Value {
    whole_numbers(serde_json::to_value(kind.definition()).unwrap())
}

/// Bounds are floats in the Go types; as YAML `1.0` would read like a fraction.
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => number
            .as_f64()
            .filter(|float| float.fract() == 0.0)
            .map_or(Value::Number(number), |float| json!(float as i64)),
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, whole_numbers(value))).collect(),
        other => other,
    }
}

fn root_schema(kind: Kind) -> Value {
    definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls `look` with every property below a schema, whether it is inside a list, its path, and its schema.
fn each_property(schema: &Value, path: &str, in_list: bool, look: &mut impl FnMut(&str, bool, &Value)) {
    for (name, property) in schema["properties"].as_object().unwrap_or(&Map::new()) {
        let path = format!("{path}.{name}");
        look(&path, in_list, property);
        each_property(property, &path, in_list, look);
    }
    if let Some(items) = schema.get("items") {
        each_property(items, &format!("{path}[]"), true, look);
    }
}

#[test]
fn the_yaml_files_are_those_of_the_types() {
    for kind in Kind::ALL {
        let definition = definition(*kind);
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("yaml")
            .join(format!("{}.yaml", definition["metadata"]["name"].as_str().unwrap()));
        let wanted = format!("{HEADER}{}", serde_yaml::to_string(&definition).unwrap());
        if std::env::var_os("UPDATE_CRDS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &wanted).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == wanted,
            "{} is not what the types say; run UPDATE_CRDS=1 cargo test -p crds --test definitions",
            path.display()
        );
    }
}

#[test]
fn every_definition_is_found_under_its_group_names_and_label() {
    let names: Vec<(String, Value)> = Kind::ALL
        .iter()
        .map(|kind| {
            let definition = definition(*kind);
            assert_eq!(definition["metadata"]["labels"]["app.kubernetes.io/part-of"], "llm-proxy");
            assert_eq!(
                (&definition["spec"]["group"], &definition["spec"]["scope"]),
                (&json!(crds::GROUP), &json!("Namespaced"))
            );
            let version = &definition["spec"]["versions"][0];
            assert_eq!(version["name"], crds::VERSION);
            assert_eq!(version["subresources"]["status"], json!({}));
            assert_eq!(version["additionalPrinterColumns"].as_array().unwrap().last().unwrap()["name"], "Age");
            (
                definition["metadata"]["name"].as_str().unwrap().to_owned(),
                definition["spec"]["names"]["shortNames"][0].clone(),
            )
        })
        .collect();
    let expected = [
        ("proxyconfigs.llm-proxy.dev", "llmpx"),
        ("llmprojects.llm-proxy.dev", "llmproj"),
        ("witheringtokens.llm-proxy.dev", "wtok"),
    ];
    assert_eq!(names, expected.map(|(name, short)| (name.to_owned(), json!(short))));
}

#[test]
fn every_field_is_explained_and_bounded() {
    for kind in Kind::ALL {
        let root = root_schema(*kind);
        assert!(root["description"].is_string(), "{kind}");
        each_property(&root, "", false, &mut |path, _, property| {
            let place = format!("{kind}{path}");
            let described = property["description"].as_str().unwrap_or_else(|| panic!("{place} has no description"));
            assert!(described.ends_with('.') && !described.contains("\n "), "{place}: {described:?}");
            let has = |keyword: &str| property.get(keyword).is_some();
            match property["type"].as_str() {
                Some("string") => assert!(
                    has("maxLength") || has("enum") || property["format"] == "date-time",
                    "{place} is an unbounded string"
                ),
                Some("array") => assert!(
                    has("maxItems") && has("x-kubernetes-list-type"),
                    "{place} is an unbounded list, or how it merges is not said"
                ),
                Some("integer") => {
                    assert!(
                        property["maximum"].as_f64().is_some_and(|max| max <= 9_007_199_254_740_991.0) && has("minimum"),
                        "{place} is unbounded"
                    );
                }
                Some("object") => {
                    let each = property.get("additionalProperties");
                    let bounded = |each: &Value| has("maxProperties") && each["type"] == "string" && each.get("maxLength").is_some();
                    assert!(each.is_none_or(bounded), "{place} is an open map");
                }
                other => panic!("{place} has type {other:?}"),
            }
            let words = property["enum"].as_array().into_iter().flatten();
            assert!(
                words.clone().all(|word| word
                    .as_str()
                    .is_some_and(|word| word.starts_with(|first: char| first.is_ascii_uppercase()))),
                "{place}"
            );
            assert!(!has("x-kubernetes-preserve-unknown-fields"), "{place}");
        });
    }
}

#[test]
fn nothing_inside_a_list_has_a_default_and_no_field_of_ours_is_nullable() {
    for kind in Kind::ALL {
        let root = root_schema(*kind);
        for part in ["spec", "status"] {
            each_property(&root["properties"][part], part, false, &mut |path, in_list, property| {
                assert!(
                    !in_list || property.get("default").is_none(),
                    "{kind} {path}: a default inside a list shows up as a difference for ever in GitOps tools"
                );
                assert!(
                    property.get("nullable").is_none(),
                    "{kind} {path}: the API server drops null only where it is not allowed"
                );
            });
        }
    }
}

#[test]
fn every_rule_has_a_message_and_transition_rules_stand_outside_lists() {
    for kind in Kind::ALL {
        let root = root_schema(*kind);
        each_property(&root, "", false, &mut |path, in_list, property| {
            for rule in property["x-kubernetes-validations"].as_array().into_iter().flatten() {
                let message = rule["message"].as_str().unwrap_or_default();
                assert!(
                    !message.is_empty() && !message.contains('\n') && message.len() <= 2048,
                    "{kind}{path}: {rule}"
                );
                assert!(
                    !in_list || !rule["rule"].as_str().unwrap().contains("oldSelf"),
                    "{kind}{path}: items of a list are not always correlated"
                );
            }
        });
    }
}

#[test]
fn columns_and_selectable_fields_point_at_fields_that_exist() {
    for kind in Kind::ALL {
        let version = definition(*kind)["spec"]["versions"][0].clone();
        let mut known = vec![".metadata.creationTimestamp".to_owned()];
        each_property(&root_schema(*kind), "", false, &mut |path, _, _| known.push(path.to_owned()));
        let columns = version["additionalPrinterColumns"].as_array().into_iter().flatten();
        let scale = version["subresources"]["scale"].as_object().into_iter().flat_map(Map::values);
        for path in scale.map(|path| path.as_str().unwrap()) {
            assert!(known.iter().any(|known| known == path), "{kind}: {path}");
        }
        let selectable = version["selectableFields"].as_array().into_iter().flatten();
        for path in columns.chain(selectable).map(|each| each["jsonPath"].as_str().unwrap()) {
            let plain = path.replace("[0]", "[]").replace(r#"[?(@.type=="Ready")]"#, "[]");
            assert!(known.contains(&plain), "{kind}: {path}");
        }
    }
}

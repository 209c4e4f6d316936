//! The structural half of a schema, as the API server judges it: types, bounds, patterns, enums, required fields, unique list keys.
//! It refuses to know CEL, which `kube` evaluates.

use regex::Regex;
use serde_json::{Map, Value};

/// A constraint that a value breaks.
pub(crate) struct Breach {
    /// The path of the value: `spec.providers[0].name`.
    pub(crate) field: String,
    /// The constraint by its place in the schema: `spec.providers[].name pattern`.
    pub(crate) constraint: String,
}

/// Drops each `null` of an object, as the API server does before it fills in defaults: no field of ours is nullable.
pub(crate) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// Every breach of the schema by a value.
pub(crate) fn breaches(schema: &Value, value: &Value, field: &str) -> Vec<Breach> {
    let mut found = Vec::new();
    walk(schema, value, field, field, &mut found);
    found
}

/// Every constraint that a schema holds, so that a test can ask whether each has a row.
pub(crate) fn constraints(schema: &Value, place: &str) -> Vec<String> {
    let mut all = Vec::new();
    for keyword in [
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "maxProperties",
        "x-kubernetes-list-map-keys",
    ] {
        if schema.get(keyword).is_some() {
            all.push(format!("{place} {keyword}"));
        }
    }
    if schema["x-kubernetes-list-type"] == "set" {
        all.push(format!("{place} x-kubernetes-list-type"));
    }
    all.extend(names(schema, "required").map(|name| format!("{place}.{name} required")));
    for (name, property) in schema["properties"].as_object().unwrap_or(&Map::new()) {
        all.extend(constraints(property, &format!("{place}.{name}")));
    }
    for (inner, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(each) = schema.get(inner) {
            all.extend(constraints(each, &format!("{place}{mark}")));
        }
    }
    all
}

fn names<'a>(schema: &'a Value, keyword: &str) -> impl Iterator<Item = &'a str> {
    schema[keyword].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn walk(schema: &Value, value: &Value, field: &str, place: &str, found: &mut Vec<Breach>) {
    let mut breach = |broken: bool, keyword: &str| {
        if broken {
            found.push(Breach {
                field: field.to_owned(),
                constraint: format!("{place} {keyword}"),
            });
        }
    };
    let number = |keyword: &str| schema[keyword].as_f64();
    let count = |keyword: &str| schema[keyword].as_f64().map(|bound| bound as usize);
    let typed = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        other => panic!("{place} has type {other:?}, which this check does not know"),
    };
    breach(!typed, "type");
    if !typed {
        return;
    }
    match value {
        Value::String(text) => {
            breach(schema["enum"].as_array().is_some_and(|words| !words.contains(value)), "enum");
            breach(
                schema["pattern"]
                    .as_str()
                    .is_some_and(|pattern| !Regex::new(pattern).unwrap().is_match(text)),
                "pattern",
            );
            breach(count("minLength").is_some_and(|min| text.chars().count() < min), "minLength");
            breach(count("maxLength").is_some_and(|max| text.chars().count() > max), "maxLength");
        }
        Value::Number(amount) => {
            breach(number("minimum").is_some_and(|min| amount.as_f64().unwrap() < min), "minimum");
            breach(number("maximum").is_some_and(|max| amount.as_f64().unwrap() > max), "maximum");
        }
        Value::Array(items) => {
            breach(count("minItems").is_some_and(|min| items.len() < min), "minItems");
            breach(count("maxItems").is_some_and(|max| items.len() > max), "maxItems");
            for (index, item) in items.iter().enumerate() {
                let same = |other: &Value| names(schema, "x-kubernetes-list-map-keys").all(|key| other[key] == item[key]);
                if schema["x-kubernetes-list-type"] == "map" && items[..index].iter().any(same) {
                    found.push(Breach {
                        field: format!("{field}[{index}]"),
                        constraint: format!("{place} x-kubernetes-list-map-keys"),
                    });
                }
                if schema["x-kubernetes-list-type"] == "set" && items[..index].contains(item) {
                    found.push(Breach {
                        field: format!("{field}[{index}]"),
                        constraint: format!("{place} x-kubernetes-list-type"),
                    });
                }
                walk(&schema["items"], item, &format!("{field}[{index}]"), &format!("{place}[]"), found);
            }
        }
        Value::Object(fields) => {
            breach(count("maxProperties").is_some_and(|max| fields.len() > max), "maxProperties");
            for name in names(schema, "required").filter(|name| !fields.contains_key(*name)) {
                found.push(Breach {
                    field: format!("{field}.{name}"),
                    constraint: format!("{place}.{name} required"),
                });
            }
            for (name, value) in fields {
                if let Some(property) = schema["properties"].get(name) {
                    walk(property, value, &format!("{field}.{name}"), &format!("{place}.{name}"), found);
                } else if let Some(each) = schema.get("additionalProperties") {
                    walk(each, value, &format!("{field}.{name}"), &format!("{place}{{}}"), found);
                }
            }
        }
        _ => {}
    }
}

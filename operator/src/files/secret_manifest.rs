//! A `v1` Secret among the manifests. Its values live in memory only; the database gets a sealed copy of those that a project uses.
//! It refuses to know who refers to it, and to say what it holds.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde_json::Value;

use super::fault::Fault;
use super::manifest;
use super::place::Place;
use super::redact;

/// What a Secret may have besides its values.
const FIELDS: [&str; 7] = ["apiVersion", "kind", "metadata", "type", "immutable", "data", "stringData"];

/// A Secret and where it stands.
#[derive(Clone, Debug)]
pub(super) struct SecretManifest {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) place: Place,
    values: BTreeMap<String, SecretString>,
}

impl SecretManifest {
    /// The value under a key, without the white space around it that `base64` and editors add; none if it is absent or empty.
    pub(super) fn value(&self, key: &str) -> Option<&SecretString> {
        self.values.get(key)
    }
}

/// Reads a Secret. Whatever is wrong is said without a value.
pub(super) fn read(document: &Value, place: Place) -> Result<SecretManifest, Vec<Fault>> {
    let mut faults = Vec::new();
    let names = manifest::names(document, &place).map_err(|found| faults.extend(found)).ok();
    for field in document
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.keys())
        .filter(|field| !FIELDS.contains(&field.as_str()))
    {
        faults.push(place.fault(field, "unknown field"));
    }
    let mut values = BTreeMap::new();
    for field in ["data", "stringData"] {
        for (key, value) in entries(&document[field], field, &place, &mut faults) {
            let path = format!("{field}.{key}");
            let Some(text) = value.as_str() else {
                let hint = if value.is_number() || value.is_boolean() {
                    "; put it in quotes"
                } else {
                    ""
                };
                faults.push(place.fault(&path, format!("must be a string, not {}{hint}", redact::type_of(value))));
                continue;
            };
            let text = if field == "data" { decoded(text) } else { Ok(Some(text.to_owned())) };
            match text {
                // A value that is not text, such as a certificate in DER, is nobody's provider key.
                Ok(text) => drop(text.and_then(|text| insert(&mut values, key, &text))),
                Err(why) => faults.push(place.fault(&path, why)),
            }
        }
    }
    match names {
        Some((namespace, name)) if faults.is_empty() => Ok(SecretManifest {
            namespace,
            name,
            place,
            values,
        }),
        _ => Err(faults),
    }
}

fn entries<'v>(given: &'v Value, field: &str, place: &Place, faults: &mut Vec<Fault>) -> Vec<(&'v String, &'v Value)> {
    match given {
        Value::Null => Vec::new(),
        Value::Object(entries) => entries.iter().collect(),
        other => {
            faults.push(place.fault(field, format!("must be a mapping, not {}", redact::type_of(other))));
            Vec::new()
        }
    }
}

fn decoded(text: &str) -> Result<Option<String>, &'static str> {
    let text: String = text.split_whitespace().collect();
    let bytes = STANDARD.decode(text).map_err(|_| "must be base64; plain text belongs in stringData")?;
    Ok(String::from_utf8(bytes).ok())
}

fn insert(values: &mut BTreeMap<String, SecretString>, key: &str, text: &str) -> Option<SecretString> {
    let text = text.trim();
    if text.is_empty() {
        values.remove(key)
    } else {
        values.insert(key.to_owned(), SecretString::from(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::document::documents;
    use secrecy::ExposeSecret;
    use std::sync::Arc;

    fn secret(text: &str) -> Result<SecretManifest, Vec<String>> {
        let document = documents(text).remove(0);
        let value = document.value().unwrap();
        let place = Place {
            file: "s.yaml".into(),
            source: "/s.yaml".into(),
            document: Arc::new(document),
            within: String::new(),
        };
        read(&value, place).map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn both_ways_of_writing_a_value_are_read_and_the_plain_one_wins() {
        let text = "metadata: {name: k}\ndata: {a: c2stb25l, b: c2sKCg==, c: /w==, d: ''}\nstringData: {a: ' sk-two '}\n";
        let secret = secret(text).unwrap();
        let value = |key: &str| secret.value(key).map(|value| value.expose_secret().to_owned());
        assert_eq!((value("a").as_deref(), value("b").as_deref()), (Some("sk-two"), Some("sk")));
        assert!(value("c").is_none() && value("d").is_none() && value("e").is_none());
        assert_eq!((secret.namespace.as_str(), secret.name.as_str()), ("default", "k"));
    }

    #[test]
    fn faults_name_the_key_and_never_the_value() {
        let text = "metadata:\n  name: k\ndata:\n  a: sk-canary!\nstringData:\n  b: 4711\n  c: [sk-canary]\nstringdata: x\n";
        let faults = secret(text).unwrap_err();
        assert_eq!(
            faults,
            [
                "s.yaml:8: stringdata: unknown field",
                "s.yaml:4: data.a: must be base64; plain text belongs in stringData",
                "s.yaml:6: stringData.b: must be a string, not a number; put it in quotes",
                "s.yaml:7: stringData.c: must be a string, not a list",
            ]
        );
    }
}

//! What the derived schemas are made of: bounds, patterns, one CEL rule as a constant, and fragments for Kubernetes' own value types.
//! It refuses to know which field carries what.

use kube::core::{Message, Rule};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// RFC 1123 label, at most [`MAX_LABEL`] characters.
pub(crate) const LABEL_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// RFC 1123 subdomain, at most [`MAX_SUBDOMAIN`] characters: what Kubernetes allows as the name of these kinds and of a Secret.
pub(crate) const SUBDOMAIN_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// The keys that a Secret may hold: neither `.` nor anything that begins with `..`.
pub(crate) const SECRET_KEY_PATTERN: &str = r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$";
/// Length of an RFC 1123 label.
pub(crate) const MAX_LABEL: usize = 63;
/// Length of an RFC 1123 subdomain, and of a Secret's key.
pub(crate) const MAX_SUBDOMAIN: usize = 253;
/// The greatest integer that a JavaScript client reads exactly: 2^53 − 1.
pub(crate) const MAX_SAFE_INTEGER: i64 = 9_007_199_254_740_991;

/// A validation rule of the schema. The message is a constant, so that the same rule in Rust speaks the same sentence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CelRule {
    /// The expression; `self` is the value that carries the rule.
    pub(crate) cel: &'static str,
    /// What is wrong and what to do.
    pub(crate) message: &'static str,
    /// The field to blame, relative to the carrier, such as `.baseURL`; none blames the carrier.
    pub(crate) field_path: Option<&'static str>,
}

impl From<CelRule> for Rule {
    fn from(rule: CelRule) -> Self {
        Self {
            rule: rule.cel.to_owned(),
            message: Some(Message::from(rule.message)),
            field_path: rule.field_path.map(str::to_owned),
            ..Self::default()
        }
    }
}

/// Makes a derived struct's schema say what Kubernetes makes of it: a field that may be absent is not `nullable` (the API server drops its `null`,
/// so that neither an enum nor a CEL rule ever meets one), and descriptions are running text. The field's own description wins over its type's.
pub(crate) fn tidy(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    reflow(object);
    for property in object
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(|properties| properties.values_mut())
    {
        let Some(property) = property.as_object_mut() else { continue };
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|name| name != "null");
            if let [one] = types.as_slice() {
                let one = one.clone();
                property.insert("type".to_owned(), one);
            }
        }
        if let Some(Value::Array(branches)) = property.remove("anyOf") {
            let inner = branches
                .into_iter()
                .filter_map(|branch| if let Value::Object(branch) = branch { Some(branch) } else { None });
            for (key, value) in inner.filter(|branch| branch.get("type") != Some(&Value::from("null"))).flatten() {
                property.entry(key).or_insert(value);
            }
        }
        reflow(property);
    }
}

/// A doc comment's line breaks are those of the source; only paragraphs are kept.
fn reflow(schema: &mut Map<String, Value>) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description
            .split("\n\n")
            .map(|paragraph| paragraph.replace('\n', " "))
            .collect::<Vec<_>>()
            .join("\n\n");
    }
}

/// `metav1.Time`.
pub(crate) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// A list of `metav1.Condition`, merged by type. Bounds are those of Kubernetes' own definition.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "description": "What the condition is about, in CamelCase.",
                    "type": "string", "maxLength": 316, "pattern": "^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$"
                },
                "status": { "description": "True, False or Unknown.", "type": "string", "enum": ["True", "False", "Unknown"] },
                "reason": {
                    "description": "Why, as one CamelCase word out of a closed, documented set.",
                    "type": "string", "minLength": 1, "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
                },
                "message": { "description": "The details for people, and what to do.", "type": "string", "maxLength": 32768 },
                "lastTransitionTime": {
                    "description": "When status last changed.", "type": "string", "format": "date-time"
                },
                "observedGeneration": {
                    "description": "metadata.generation of the spec that this condition judges.",
                    "type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_SAFE_INTEGER
                }
            }
        }
    })
}

/// Reads an explicit `null` as if the field were absent, which is what the API server makes of it for a field with a schema default.
pub(crate) fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

//! Strictness for manifests on disk: which fields of a document the schema does not have, found by walking the generated schema.
//! It refuses to know how files are read; the types themselves take unknown fields, because an old operator meets newer definitions.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool};
use serde_json::Value;

use crate::Kind;

/// The top-level fields of `metav1.ObjectMeta`, which the schema of a custom resource leaves open.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// A field that the schema does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// Where it stands: `spec.providers[0].baseUrl`.
    pub path: String,
    /// The field that was probably meant, if one is near.
    pub meant: Option<String>,
}

impl std::fmt::Display for UnknownField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: unknown field", self.path)?;
        self.meant.as_ref().map_or(Ok(()), |meant| write!(f, "; did you mean {meant}?"))
    }
}

/// Every field of a document, in its order, that the kind's schema does not have. Values are not judged: a wrong type is not walked into.
#[must_use]
pub fn unknown_fields(kind: Kind, document: &Value) -> Vec<UnknownField> {
    static SCHEMAS: LazyLock<Vec<(Kind, Option<JSONSchemaProps>)>> = LazyLock::new(|| {
        let schema = |kind: Kind| {
            kind.definition()
                .spec
                .versions
                .into_iter()
                .find_map(|version| version.schema?.open_api_v3_schema)
        };
        Kind::ALL.iter().map(|kind| (*kind, schema(*kind))).collect()
    });
    let mut found = Vec::new();
    let schema = SCHEMAS.iter().find(|(of, _)| *of == kind).and_then(|(_, schema)| schema.as_ref());
    if let (Some(schema), Value::Object(fields)) = (schema, document) {
        let top = ["apiVersion", "kind", "metadata", "spec", "status"];
        for (name, value) in fields {
            match schema.properties.as_ref().and_then(|properties| properties.get(name)) {
                _ if name == "metadata" => walk_metadata(value, &mut found),
                Some(field) => walk(field, value, name, &mut found),
                None if top.contains(&name.as_str()) => {}
                None => found.push(unknown("", name, top.into_iter())),
            }
        }
    }
    found
}

fn walk_metadata(value: &Value, found: &mut Vec<UnknownField>) {
    let fields = value.as_object().into_iter().flatten();
    found.extend(
        fields
            .filter(|(name, _)| !METADATA.contains(&name.as_str()))
            .map(|(name, _)| unknown("metadata", name, METADATA.into_iter())),
    );
}

fn walk(schema: &JSONSchemaProps, value: &Value, path: &str, found: &mut Vec<UnknownField>) {
    match value {
        Value::Object(fields) if schema.x_kubernetes_preserve_unknown_fields != Some(true) => {
            for (name, value) in fields {
                let known = schema.properties.as_ref().and_then(|properties| properties.get(name));
                match (known, &schema.additional_properties) {
                    (Some(field), _) => walk(field, value, &format!("{path}.{name}"), found),
                    (None, Some(JSONSchemaPropsOrBool::Schema(each))) => walk(each, value, &format!("{path}.{name}"), found),
                    (None, Some(JSONSchemaPropsOrBool::Bool(true))) => {}
                    (None, _) => found.push(unknown(
                        path,
                        name,
                        schema.properties.iter().flat_map(|properties| properties.keys().map(String::as_str)),
                    )),
                }
            }
        }
        Value::Array(items) => {
            if let Some(JSONSchemaPropsOrArray::Schema(each)) = &schema.items {
                items
                    .iter()
                    .enumerate()
                    .for_each(|(index, item)| walk(each, item, &format!("{path}[{index}]"), found));
            }
        }
        _ => {}
    }
}

fn unknown<'a>(parent: &str, name: &str, known: impl Iterator<Item = &'a str>) -> UnknownField {
    let path = if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}.{name}")
    };
    let nearest = known
        .map(|candidate| (distance(&candidate.to_lowercase(), &name.to_lowercase()), candidate))
        .min();
    UnknownField {
        path,
        meant: nearest
            .filter(|(distance, _)| *distance <= 2 && *distance < name.len())
            .map(|(_, candidate)| candidate.to_owned()),
    }
}

/// Levenshtein's distance, in bytes; field names are short.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, byte) in left.bytes().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (index, other) in right.bytes().enumerate() {
            let substituted = diagonal + usize::from(byte != other);
            diagonal = row[index + 1];
            row[index + 1] = substituted.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: Kind, yaml: &str) -> Vec<String> {
        unknown_fields(kind, &serde_yaml::from_str(yaml).unwrap())
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_manifest_of_known_fields_has_none_unknown() {
        let yaml =
            "{apiVersion: llm-proxy.dev/v1alpha1, kind: LLMProject, metadata: {name: a, labels: {any: thing}}, status: {conditions: [{type: Ready}]},
            spec: {proxyRef: {name: m}, state: Active, providers: [{name: openai, credentials: {secretRef: {name: k, key: v}}}]}}";
        assert_eq!(found(Kind::LlmProject, yaml), [""; 0]);
    }

    #[test]
    fn an_unknown_field_is_named_by_path_at_every_depth() {
        let yaml = "{metadata: {nam: a}, extra: 1,
            spec: {provider: 1, providers: [{name: a, baseURl: x}, {name: b, region: eu}], database: {sqlite: {size: 1Gi}}}}";
        assert_eq!(
            found(Kind::ProxyConfig, yaml),
            [
                "extra: unknown field",
                "metadata.nam: unknown field; did you mean name?",
                "spec.database.sqlite.size: unknown field",
                "spec.provider: unknown field; did you mean providers?",
                "spec.providers[0].baseURl: unknown field; did you mean baseURL?",
                "spec.providers[1].region: unknown field",
            ]
        );
    }

    #[test]
    fn a_wrong_type_is_left_to_the_reader() {
        assert_eq!(found(Kind::WitheringToken, "{spec: [1, 2]}"), [""; 0]);
        assert_eq!(found(Kind::WitheringToken, "[]"), [""; 0]);
        assert_eq!(
            found(Kind::WitheringToken, "{spec: {projectRef: 5, ttl: {a: b}}}"),
            ["spec.ttl.a: unknown field"]
        );
    }
}

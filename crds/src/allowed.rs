//! Which namespaces may attach LLMProjects to a fleet: the consent half of a reference across namespaces.
//! It refuses to know which projects refer to it and where labels come from.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::schema::{self, CelRule, MAX_LABEL, MAX_SUBDOMAIN};
use crate::validate::Violation;

/// The most labels of one selector, and the most expressions.
const MAX_TERMS: usize = 16;
/// The most values of one expression.
const MAX_VALUES: usize = 32;
/// A prefix, a slash and a name.
const MAX_KEY: usize = MAX_SUBDOMAIN + 1 + MAX_LABEL;
/// A label's key: an optional subdomain and a slash, then a name of at most 63 characters.
const KEY_PATTERN: &str = concat!(
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?",
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
);
/// A label's value; it may be empty.
const VALUE_PATTERN: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

const SELECTOR_IFF_SELECTED: CelRule = CelRule {
    cel: "(has(self.from) && self.from == 'Selector') == has(self.selector)",
    message: "must be given if from is Selector and only then; set from to Selector or remove the selector",
    field_path: Some(".selector"),
};

const SELECTS_SOMETHING: CelRule = CelRule {
    cel: "(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
    message: "must hold at least one label or expression; to allow every namespace set from to All",
    field_path: None,
};

const VALUES_FIT_OPERATOR: CelRule = CelRule {
    cel: "(self.operator == 'In' || self.operator == 'NotIn') == (has(self.values) && size(self.values) > 0)",
    message: "must be given for In and NotIn and be absent for Exists and DoesNotExist",
    field_path: Some(".values"),
};

/// Which namespaces may have LLMProjects that use the fleet.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = SELECTOR_IFF_SELECTED)]
#[schemars(transform = schema::tidy)]
pub struct AllowedProjects {
    /// Same (if unset): only the namespace of the ProxyConfig. All: every namespace. Selector: those whose labels match the selector, and its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<AllowedFrom>,

    /// The labels that a namespace must have. An operator that watches single namespaces cannot see them and refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
}

/// Where projects may come from.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AllowedFrom {
    /// From the namespace of the ProxyConfig.
    #[default]
    Same,
    /// From every namespace.
    All,
    /// From the namespaces whose labels match, and its own.
    Selector,
}

/// A selection of namespaces by their labels: every label and every expression must match.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = SELECTS_SOMETHING)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct NamespaceSelector {
    /// Labels that a namespace must have with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "match_labels")]
    pub match_labels: BTreeMap<String, String>,

    /// Expressions over labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_TERMS))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub match_expressions: Vec<LabelExpression>,
}

/// An expression over one label.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = VALUES_FIT_OPERATOR)]
#[schemars(transform = schema::tidy)]
pub struct LabelExpression {
    /// The label's key.
    #[schemars(length(min = 1, max = MAX_KEY), regex(pattern = KEY_PATTERN))]
    pub key: String,

    /// In, NotIn: the value is, or is not, among the values. Exists, DoesNotExist: the label is there, or is not.
    pub operator: LabelOperator,

    /// The values of In and NotIn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "values")]
    pub values: Vec<String>,
}

/// What an expression asks of a label.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LabelOperator {
    /// It has one of the values.
    In,
    /// It has none of the values, or is absent.
    NotIn,
    /// It is there.
    Exists,
    /// It is absent.
    DoesNotExist,
}

fn match_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_TERMS,
        "additionalProperties": { "type": "string", "maxLength": MAX_LABEL, "pattern": VALUE_PATTERN }
    })
}

fn values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_VALUES,
        "x-kubernetes-list-type": "atomic",
        "items": { "type": "string", "maxLength": MAX_LABEL, "pattern": VALUE_PATTERN }
    })
}

impl AllowedProjects {
    /// Where projects may come from, with the default filled in.
    #[must_use]
    pub fn from(&self) -> AllowedFrom {
        self.from.unwrap_or_default()
    }

    /// Every rule that this part of a spec breaks.
    pub(crate) fn judge(&self, path: &str, found: &mut Vec<Violation>) {
        if (self.from() == AllowedFrom::Selector) != self.selector.is_some() {
            found.push(Violation::new(format!("{path}.selector"), SELECTOR_IFF_SELECTED.message));
        }
        if let Some(selector) = &self.selector {
            selector.judge(&format!("{path}.selector"), found);
        }
    }
}

impl NamespaceSelector {
    /// Whether a namespace with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let has_labels = self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        has_labels && self.match_expressions.iter().all(|expression| expression.matches(labels))
    }

    fn judge(&self, path: &str, found: &mut Vec<Violation>) {
        if self.match_labels.is_empty() && self.match_expressions.is_empty() {
            found.push(Violation::new(path, SELECTS_SOMETHING.message));
        }
        let most = |count: usize, max: usize| format!("must hold at most {max} entries; it holds {count}");
        if self.match_labels.len() > MAX_TERMS {
            found.push(Violation::new(format!("{path}.matchLabels"), most(self.match_labels.len(), MAX_TERMS)));
        }
        for (key, value) in self.match_labels.iter().filter(|(_, value)| !is_value(value)) {
            found.push(Violation::new(format!("{path}.matchLabels.{key}"), not_a_value(value)));
        }
        if self.match_expressions.len() > MAX_TERMS {
            found.push(Violation::new(
                format!("{path}.matchExpressions"),
                most(self.match_expressions.len(), MAX_TERMS),
            ));
        }
        for (index, expression) in self.match_expressions.iter().enumerate() {
            expression.judge(&format!("{path}.matchExpressions[{index}]"), found);
        }
    }
}

impl LabelExpression {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let among = labels.get(&self.key).is_some_and(|value| self.values.contains(value));
        match self.operator {
            LabelOperator::In => among,
            LabelOperator::NotIn => !among,
            LabelOperator::Exists => labels.contains_key(&self.key),
            LabelOperator::DoesNotExist => !labels.contains_key(&self.key),
        }
    }

    fn judge(&self, path: &str, found: &mut Vec<Violation>) {
        if !is_key(&self.key) {
            let why = "must be a label's key: an optional prefix such as example.com/ and a name of at most 63 letters, digits, '-', '_' or '.'";
            found.push(Violation::new(format!("{path}.key"), why));
        }
        let takes_values = matches!(self.operator, LabelOperator::In | LabelOperator::NotIn);
        if takes_values == self.values.is_empty() {
            found.push(Violation::new(format!("{path}.values"), VALUES_FIT_OPERATOR.message));
        }
        if self.values.len() > MAX_VALUES {
            let why = format!("must hold at most {MAX_VALUES} entries; it holds {}", self.values.len());
            found.push(Violation::new(format!("{path}.values"), why));
        }
        for (index, value) in self.values.iter().enumerate().filter(|(_, value)| !is_value(value)) {
            found.push(Violation::new(format!("{path}.values[{index}]"), not_a_value(value)));
        }
    }
}

fn not_a_value(value: &str) -> String {
    format!("{value:?} must be a label's value: at most 63 letters, digits, '-', '_' or '.', and begin and end with a letter or digit")
}

/// A name between letters or digits, as keys and values have it.
fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    name.len() <= MAX_LABEL && edge(name.as_bytes().first()) && edge(name.as_bytes().last()) && name.bytes().all(inner)
}

fn is_value(value: &str) -> bool {
    value.is_empty() || is_name(value)
}

/// [`KEY_PATTERN`] and its length.
fn is_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && !part.starts_with('-') && !part.ends_with('-') && part.bytes().all(inner)
    };
    key.len() <= MAX_KEY && is_name(name) && prefix.is_none_or(|prefix| prefix.split('.').all(is_part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::Regex;

    fn selects(selector: &str, labels: &str) -> bool {
        let selector: NamespaceSelector = serde_yaml::from_str(selector).unwrap();
        selector.matches(&serde_yaml::from_str(labels).unwrap())
    }

    #[test]
    fn every_label_and_every_expression_must_match() {
        let selector = "{matchLabels: {llm: enabled}, matchExpressions: [{key: stage, operator: NotIn, values: [dev]}]}";
        assert!(selects(selector, "{llm: enabled, stage: prod}"));
        assert!(selects(selector, "{llm: enabled}"), "NotIn holds for an absent label, as in Kubernetes");
        assert!(!selects(selector, "{llm: enabled, stage: dev}"));
        assert!(!selects(selector, "{stage: prod}"));
        for (operator, values, with, without) in [
            ("In", "[a, b]", true, false),
            ("Exists", "[]", true, false),
            ("DoesNotExist", "[]", false, true),
        ] {
            let selector = format!("{{matchExpressions: [{{key: k, operator: {operator}, values: {values}}}]}}");
            assert_eq!(
                (selects(&selector, "{k: b}"), selects(&selector, "{j: b}")),
                (with, without),
                "{operator}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_rules_agree_with_the_patterns(text in "[-._/a-cA-C0-9ä]{0,8}|[a-c.]{61,65}|a/[a-c]{61,65}|[a-c]{250,254}/[a-c]{61,64}") {
            let matches = |pattern: &str, max: usize| Regex::new(pattern).unwrap().is_match(&text) && text.chars().count() <= max;
            prop_assert_eq!(is_key(&text), matches(KEY_PATTERN, MAX_KEY), "key {:?}", text);
            prop_assert_eq!(is_value(&text), matches(VALUE_PATTERN, MAX_LABEL), "value {:?}", text);
        }
    }
}

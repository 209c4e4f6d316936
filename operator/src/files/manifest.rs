//! One document read as one of the three kinds: known fields only, right types, every rule of its spec.
//! It refuses to know other documents; what needs two of them stands in `cross.rs`.

use std::collections::HashSet;
use std::sync::Arc;

use crds::names::MAX_SECRET_NAME_IN_FILES;
use crds::{Kind, LlmProject, LlmProjectSpec, Mode, ProxyConfig, ProxyConfigSpec, Validate, Violation, WitheringToken, WitheringTokenSpec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::fault::Fault;
use super::object_key::ObjectKey;
use super::place::Place;
use super::redact;

/// The namespace of a manifest that names none.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// A valid spec of one of the three kinds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Spec {
    ProxyConfig(ProxyConfigSpec),
    Project(LlmProjectSpec),
    Token(WitheringTokenSpec),
}

/// A valid object and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) key: ObjectKey,
    pub(super) spec: Spec,
    /// The spec as it is stored: made once, because every pass compares it.
    pub(super) stored: Arc<Value>,
    pub(super) place: Place,
}

/// A document that is not a valid object.
#[derive(Debug)]
pub(super) struct Rejected {
    /// Whose document it is, if that much can be read.
    pub(super) key: Option<ObjectKey>,
    /// Everything that is wrong with it.
    pub(super) faults: Vec<Fault>,
}

impl Spec {
    /// Reads a stored spec back.
    pub(super) fn of_stored(kind: Kind, spec: &Value) -> serde_json::Result<Self> {
        match kind {
            Kind::ProxyConfig => ProxyConfigSpec::deserialize(spec).map(Self::ProxyConfig),
            Kind::LlmProject => LlmProjectSpec::deserialize(spec).map(Self::Project),
            Kind::WitheringToken => WitheringTokenSpec::deserialize(spec).map(Self::Token),
        }
    }

    /// The spec as it is stored.
    pub(super) fn to_json(&self) -> serde_json::Result<Value> {
        match self {
            Self::ProxyConfig(spec) => serde_json::to_value(spec),
            Self::Project(spec) => serde_json::to_value(spec),
            Self::Token(spec) => serde_json::to_value(spec),
        }
    }

    /// The rules that the change from `old` breaks.
    pub(super) fn broken_by_update(&self, old: &Self) -> Vec<Violation> {
        match (self, old) {
            (Self::ProxyConfig(new), Self::ProxyConfig(old)) => new.validate_update(old),
            (Self::Project(new), Self::Project(old)) => new.validate_update(old),
            (Self::Token(new), Self::Token(old)) => new.validate_update(old),
            _ => Vec::new(),
        }
    }
}

/// The Secret that a token of this name and spec wants.
pub(super) fn secret_name<'a>(name: &'a str, spec: &'a WitheringTokenSpec) -> &'a str {
    spec.secret.as_ref().and_then(|secret| secret.name.as_deref()).unwrap_or(name)
}

/// Reads a document of a kind.
pub(super) fn read(kind: Kind, document: &Value, place: Place) -> Result<Manifest, Rejected> {
    match kind {
        Kind::ProxyConfig => typed(kind, document, place, |object: ProxyConfig| Spec::ProxyConfig(object.spec)),
        Kind::LlmProject => typed(kind, document, place, |object: LlmProject| Spec::Project(object.spec)),
        Kind::WitheringToken => typed(kind, document, place, |object: WitheringToken| Spec::Token(object.spec)),
    }
}

fn typed<K: DeserializeOwned>(kind: Kind, document: &Value, place: Place, spec: fn(K) -> Spec) -> Result<Manifest, Rejected> {
    let named = identity(kind, document, &place);
    let key = named.as_ref().ok().cloned();
    let mut faults = named.err().unwrap_or_default();
    for unknown in crds::unknown_fields(kind, document) {
        let hint = unknown
            .meant
            .as_ref()
            .map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
        faults.push(place.fault(&unknown.path, format!("unknown field{hint}")));
    }
    let spec = match read_typed(document, &place) {
        Ok(object) => Some(spec(object)),
        Err(fault) => {
            faults.push(fault);
            None
        }
    };
    if let (Some(key), Some(spec)) = (&key, &spec) {
        faults.extend(
            broken_rules(key, spec)
                .into_iter()
                .map(|violation| place.fault(&violation.field, violation.message)),
        );
    }
    let mut told = HashSet::new();
    faults.retain(|fault| told.insert(fault.field.clone()));
    match (key, spec) {
        (Some(key), Some(spec)) if faults.is_empty() => match spec.to_json() {
            Ok(stored) => Ok(Manifest {
                key,
                stored: Arc::new(stored),
                spec,
                place,
            }),
            Err(error) => {
                let faults = vec![place.fault("spec", format!("cannot be stored: {error}"))];
                Err(Rejected { key: Some(key), faults })
            }
        },
        (key, _) => Err(Rejected { key, faults }),
    }
}

/// Whose document it is; a name that Kubernetes would refuse is nobody's.
pub(super) fn identity(kind: Kind, document: &Value, place: &Place) -> Result<ObjectKey, Vec<Fault>> {
    let (namespace, name) = names(document, place)?;
    Ok(ObjectKey { kind, namespace, name })
}

/// Namespace and name of a document of any kind.
pub(super) fn names(document: &Value, place: &Place) -> Result<(String, String), Vec<Fault>> {
    let metadata = &document["metadata"];
    let mut faults = Vec::new();
    let name = metadata["name"].as_str().unwrap_or_default();
    let namespace = match &metadata["namespace"] {
        Value::Null => DEFAULT_NAMESPACE,
        given => given.as_str().unwrap_or_default(),
    };
    if metadata["name"].is_null() {
        faults.push(place.fault("metadata.name", "is required"));
    } else if let Err(rule) = crds::names::dns_subdomain(name) {
        faults.push(place.fault("metadata.name", rule.to_string()));
    }
    if let Err(rule) = crds::names::dns_label(namespace) {
        faults.push(place.fault("metadata.namespace", rule.to_string()));
    }
    if faults.is_empty() {
        Ok((namespace.to_owned(), name.to_owned()))
    } else {
        Err(faults)
    }
}

/// The typed object. Its status is not its author's to write and is not read.
fn read_typed<K: DeserializeOwned>(document: &Value, place: &Place) -> Result<K, Fault> {
    let mut document = document.clone();
    if let Some(fields) = document.as_object_mut() {
        fields.remove("status");
        fields.entry("metadata").or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    serde_path_to_error::deserialize(&document).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let complaint = redact::complaint(&error.inner().to_string(), at(&document, &path));
        let field = [path, complaint.below.unwrap_or_default()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(".");
        place.fault(&field, complaint.message)
    })
}

fn at<'v>(document: &'v Value, path: &str) -> Option<&'v Value> {
    let pointer: String = path
        .replace('[', ".")
        .replace(']', "")
        .split('.')
        .filter(|step| !step.is_empty())
        .map(|step| format!("/{step}"))
        .collect();
    document.pointer(&pointer)
}

fn broken_rules(key: &ObjectKey, spec: &Spec) -> Vec<Violation> {
    match spec {
        Spec::ProxyConfig(spec) => spec.validate(Mode::Files),
        Spec::Project(spec) => spec.validate(Mode::Files),
        Spec::Token(spec) => {
            let mut found = spec.validate(Mode::Files);
            if spec.secret.as_ref().is_none_or(|secret| secret.name.is_none()) && key.name.len() > MAX_SECRET_NAME_IN_FILES {
                let message = format!("must be at most {MAX_SECRET_NAME_IN_FILES} characters to name a file; give the file's in spec.secret.name");
                found.push(Violation {
                    field: "metadata.name".to_owned(),
                    message,
                });
            }
            found
        }
    }
}

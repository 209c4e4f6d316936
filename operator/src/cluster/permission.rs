//! Whether a project of another namespace may use a fleet: the fleet's side of the consent (the project's is its `proxyRef`).
//! It refuses to know what follows from a refusal.

use std::collections::BTreeMap;

use crds::{AllowedFrom, AllowedProjects, ProxyConfig};
use kube::runtime::reflector::ObjectRef;

use super::context::Context;

/// Whether projects of `namespace` may use the fleet, by what the watches have shown.
///
/// # Errors
/// Why not, and who can change that.
pub(crate) fn permitted(context: &Context, fleet: &ProxyConfig, namespace: &str) -> Result<(), String> {
    let Some(namespaces) = &context.stores.namespaces else {
        return permits(fleet, namespace, Labels::NotWatched);
    };
    let found = namespaces.get(&ObjectRef::new(namespace));
    let empty = BTreeMap::new();
    let labels = found.as_ref().map(|found| found.metadata.labels.as_ref().unwrap_or(&empty));
    permits(fleet, namespace, labels.map_or(Labels::NotSeen, Labels::Seen))
}

/// What is known of a namespace's labels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Labels<'a> {
    /// These are they.
    Seen(&'a BTreeMap<String, String>),
    /// The watch has not shown the namespace.
    NotSeen,
    /// Only some namespaces are looked at, and no labels.
    NotWatched,
}

/// Whether projects of `namespace` may use the fleet.
///
/// # Errors
/// Why not, and who can change that.
pub(crate) fn permits(fleet: &ProxyConfig, namespace: &str, labels: Labels<'_>) -> Result<(), String> {
    let home = fleet.metadata.namespace.as_deref().unwrap_or_default();
    if home == namespace {
        return Ok(());
    }
    let name = format!("ProxyConfig {home}/{}", fleet.metadata.name.as_deref().unwrap_or_default());
    let allowed = fleet.spec.allowed_projects.as_ref();
    match (allowed.map(AllowedProjects::from).unwrap_or_default(), labels) {
        (AllowedFrom::All, _) => Ok(()),
        (AllowedFrom::Same, _) => Err(format!(
            "{name} takes projects of its own namespace only; its owner can allow namespace {namespace} in spec.allowedProjects"
        )),
        (AllowedFrom::Selector, Labels::NotWatched) => Err(format!(
            "{name} selects namespaces by their labels, which this operator does not see (--watch-namespace); its owner can set \
             spec.allowedProjects.from to All"
        )),
        (AllowedFrom::Selector, Labels::NotSeen) => Err(format!("{name} selects namespaces by their labels, and those of {namespace} are not known yet")),
        (AllowedFrom::Selector, Labels::Seen(labels)) => {
            if allowed.and_then(|allowed| allowed.selector.as_ref()).is_some_and(|selector| selector.matches(labels)) {
                return Ok(());
            }
            Err(format!(
                "{name} does not select namespace {namespace}; label the namespace, or have its owner widen spec.allowedProjects.selector"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(allowed: &str) -> ProxyConfig {
        let mut fleet = ProxyConfig::new("main", crds::ProxyConfigSpec::default());
        fleet.metadata.namespace = Some("llm".to_owned());
        fleet.spec.allowed_projects = serde_yaml::from_str(allowed).unwrap();
        fleet
    }

    #[test]
    fn without_consent_only_the_fleets_own_namespace_may_use_it() {
        for consent in ["null", "{}", "{from: Same}"] {
            assert!(permits(&fleet(consent), "llm", Labels::NotWatched).is_ok());
            let why = permits(&fleet(consent), "shop", Labels::NotSeen).unwrap_err();
            assert!(why.contains("llm/main") && why.contains("spec.allowedProjects"), "{why}");
        }
        assert!(permits(&fleet("{from: All}"), "shop", Labels::NotWatched).is_ok());
    }

    #[test]
    fn a_selector_needs_labels_that_are_seen_and_match() {
        let fleet = fleet("{from: Selector, selector: {matchLabels: {llm: enabled}}}");
        let labels = |value: &str| BTreeMap::from([("llm".to_owned(), value.to_owned())]);
        assert!(permits(&fleet, "shop", Labels::Seen(&labels("enabled"))).is_ok());
        assert!(permits(&fleet, "llm", Labels::Seen(&labels("no"))).is_ok(), "its own namespace always may");
        assert!(permits(&fleet, "shop", Labels::Seen(&labels("no"))).unwrap_err().contains("label the namespace"));
        assert!(permits(&fleet, "shop", Labels::NotWatched).unwrap_err().contains("--watch-namespace"));
        assert!(permits(&fleet, "shop", Labels::NotSeen).is_err());
    }
}

//! The labels of a fleet's children, and the selector of its pods. A selector never changes, for a Deployment refuses that.
//! It refuses to know the objects that carry them.

use std::collections::BTreeMap;

use super::names;

/// What our objects say about who writes them; watches select by it.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`].
pub(crate) const OPERATOR: &str = "llm-proxy-operator";
/// Which ProxyConfig a child belongs to.
pub(crate) const PROXY: &str = "llm-proxy.dev/proxy";

/// The longest value of a label.
const MAX_VALUE: usize = 63;

/// The labels of every child of the ProxyConfig `name`.
pub(crate) fn of_child(name: &str) -> BTreeMap<String, String> {
    let mut labels = selector(name);
    labels.insert("app.kubernetes.io/part-of".to_owned(), "llm-proxy".to_owned());
    labels.insert(MANAGED_BY.to_owned(), OPERATOR.to_owned());
    labels
}

/// The labels by which the fleet's pods are known.
pub(crate) fn selector(name: &str) -> BTreeMap<String, String> {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    BTreeMap::from([
        label("app.kubernetes.io/name", "llm-proxy"),
        label("app.kubernetes.io/component", "proxy"),
        label(PROXY, &value(name)),
    ])
}

/// The selector as text, as autoscalers read it.
pub(crate) fn selector_text(name: &str) -> String {
    let terms: Vec<String> = selector(name).iter().map(|(key, value)| format!("{key}={value}")).collect();
    terms.join(",")
}

/// An object's name as the value of a label: cut and hashed where it is too long.
pub(crate) fn value(name: &str) -> String {
    if name.len() <= MAX_VALUE {
        return name.to_owned();
    }
    let hash = names::hash(name);
    let prefix: String = name.chars().take(MAX_VALUE - 1 - hash.len()).collect();
    format!("{}-{hash}", prefix.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selector_holds_the_name_however_long_it_is() {
        assert_eq!(
            selector_text("main"),
            "app.kubernetes.io/component=proxy,app.kubernetes.io/name=llm-proxy,llm-proxy.dev/proxy=main"
        );
        let (long, longer) = ("a".repeat(252), "a".repeat(253));
        assert!(value(&long).len() <= MAX_VALUE && value(&long) != value(&longer));
        assert_eq!(value(&"a".repeat(63)), "a".repeat(63));
        assert!(selector("x").iter().all(|(key, value)| of_child("x").get(key) == Some(value)));
    }
}

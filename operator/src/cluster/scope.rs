//! Which namespaces an operator looks at. It refuses to know what it looks at there.

use std::collections::BTreeSet;

/// Which namespaces an operator looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    Cluster,
    /// Only these (`--watch-namespace`).
    Namespaces(BTreeSet<String>),
}

impl Scope {
    /// Whether a namespace is looked at.
    #[must_use]
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::Cluster => true,
            Self::Namespaces(names) => names.contains(namespace),
        }
    }
}

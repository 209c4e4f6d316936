//! What a manifest calls its object, ordered as objects depend on each other: ProxyConfigs, projects, tokens.
//! It refuses to know uids; a name that comes back may be another object.

use std::fmt;

use crds::Kind;
use store::FileObjectKey;

/// Kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Which of the three kinds.
    pub kind: Kind,
    /// The namespace, `default` if the manifest names none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The key under which the database holds the object.
    pub(super) fn stored(&self) -> FileObjectKey {
        FileObjectKey {
            kind: self.kind.as_str().to_owned(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    /// The key of a stored object; none if its kind is not known to this binary.
    pub(super) fn of_stored(key: &FileObjectKey) -> Option<Self> {
        Some(Self {
            kind: key.kind.parse().ok()?,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        })
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

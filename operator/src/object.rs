//! A declared resource and how it stands: who it is, what it last validly asked for, and whether its document is still good.
//! It refuses to know where documents come from.

use std::fmt;

use crds::Kind;
use store::{DbTime, Owner, ReplicaView, ResourceUid};

use crate::memory::Memory;

/// Identity of a declared resource. The uid decides; namespace and name are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Which of the three kinds.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who minted it decides what a re-created resource is: another one.
    pub uid: ResourceUid,
    /// Grows by one with each change of the spec.
    pub generation: i64,
}

impl Object {
    /// The owner under which this object's rows stand in the database.
    #[must_use]
    pub fn owner(&self, cluster: &str) -> Owner {
        Owner {
            cluster: cluster.to_owned(),
            uid: self.uid.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// How the declaration stands beside the last good spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there and the spec is its own.
    Present,
    /// It is there but breaks a rule, said here; the spec is the last good one.
    Invalid(String),
    /// It is there but breaks a rule, said here, and the last good spec is not known: the spec is the broken one, and of it only
    /// `state` is followed. So it is in a cluster, where a stored object may be older than a rule.
    Unusable(String),
    /// It has vanished in a way that is no deletion, said here; the spec is the last good one.
    SourceMissing(String),
    /// It was deleted.
    Gone,
}

/// A declared resource as it is observed, whatever its kind.
#[derive(Clone, Debug)]
pub struct Resource<Spec, Status> {
    /// Who it is.
    pub object: Object,
    /// The cluster part of its identity.
    pub cluster: String,
    /// What it last validly asked for.
    pub spec: Spec,
    /// How its declaration stands now.
    pub standing: Standing,
    /// The status that stands, if one was ever set and can be read.
    pub status: Option<Status>,
    /// The replicas that count.
    pub replicas: Vec<ReplicaView>,
    /// What this process remembers about it.
    pub memory: Memory,
    /// The database's clock at this observation.
    pub now: DbTime,
}

impl<Spec, Status> Resource<Spec, Status> {
    /// The owner under which this resource's rows stand in the database.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.object.owner(&self.cluster)
    }

    /// Whether the whole spec may be followed: it is good, or the last good one.
    #[must_use]
    pub fn spec_counts(&self) -> bool {
        !matches!(self.standing, Standing::Unusable(_))
    }

    /// Whether it was deleted.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.standing == Standing::Gone
    }
}

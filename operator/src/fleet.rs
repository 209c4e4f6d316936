//! What is observed of a fleet in a cluster besides its rows, and what is done for it: its generated Secrets, its database, its children.
//! Values only; `files` has none of them. It refuses to know how they were read and how an effect is performed.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use store::{DbTime, DeletionPolicy, FleetDeletion, ResourceUid};

use crds::Reason;

/// What is observed of a fleet in a cluster besides its rows.
#[derive(Clone, Debug)]
pub struct FleetObserved {
    /// The Secret with the management token.
    pub management: SecretStanding,
    /// The Secret with the encryption key.
    pub encryption: SecretStanding,
    /// Whether the Secret with the encryption key goes with the fleet; nothing if there is none.
    pub key_goes: Option<bool>,
    /// What the fleet's row says about its deletion; nothing as long as this process has not the database open.
    pub deletion: Option<FleetDeletion>,
    /// The database.
    pub database: DatabaseSeen,
    /// Whether this process has led this very database, though it may not answer at this moment: pods that start know it.
    pub held: bool,
    /// The newest schema that this process knows.
    pub newest_schema: i64,
    /// The children, in the order in which they are brought in line; the Deployment last.
    pub children: Vec<ChildSeen>,
    /// The pods, as the Deployment tells; none without one.
    pub rollout: Option<Rollout>,
    /// What keeps the pods from running; looked for only while they are not all as wanted.
    pub trouble: Option<PodTrouble>,
    /// What status shows of the children.
    pub shown: Shown,
    /// When a failed attempt on the database is due again.
    pub retry_at: Option<DbTime>,
}

/// Facts for status that no decision depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The image that the pods are to run.
    pub image: String,
    /// The selector of the pods.
    pub selector: String,
    /// The name of the Secret with the management token.
    pub management_secret: String,
    /// The version of the schema, as last seen.
    pub schema_version: Option<i64>,
}

/// One of the two Secrets that are made for a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GeneratedSecret {
    /// The management token: replaced when it is lost.
    Management,
    /// The encryption key: never replaced once a database is sealed with it.
    Encryption,
}

/// How a generated Secret stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretStanding {
    /// There is none.
    Absent,
    /// It is there and usable.
    Good,
    /// It is ours and its value cannot be used; said here.
    Broken(String),
    /// It is not the one that the fleet's database was opened with; said here.
    Replaced(String),
    /// It belongs to somebody else; said here.
    Foreign(String),
}

/// How the fleet's database stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseSeen {
    /// The spec names none that a cluster has.
    NotNamed,
    /// The Secret with its URL, or the key in it, is missing.
    Unresolved {
        /// `SecretNotFound` or `SecretKeyMissing`.
        reason: Reason,
        /// What is missing and what to do.
        message: String,
    },
    /// It cannot be used.
    Failing {
        /// Why, in a word.
        reason: Reason,
        /// Why, and what to do.
        message: String,
    },
    /// It answers.
    Reached {
        /// The version of its schema; none if it is empty.
        schema: Option<i64>,
        /// Who has claimed it.
        claim: ClaimSeen,
        /// Whether this process has it open as its leader.
        live: bool,
    },
}

/// Who has claimed a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimSeen {
    /// Nobody.
    Nobody,
    /// This fleet.
    Ours,
    /// A ProxyConfig of the same name that is gone and whose rows are to go with it.
    Former(Remains),
    /// Another one, said here with what to do.
    Other(String),
}

/// What is left in a database of a ProxyConfig that is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Remains {
    /// Nothing that would have to go.
    #[default]
    Nothing,
    /// Rows that are to go, and that replicas still use.
    InUse,
    /// Rows that are to go.
    Unused,
}

impl Remains {
    /// By what the fleet's row says and how many replicas still report.
    #[must_use]
    pub fn of(deletion: &FleetDeletion, gone: &ResourceUid, replicas: usize) -> Self {
        match (deletion.policy, deletion.declared_by.as_ref() == Some(gone)) {
            (DeletionPolicy::Delete, true) if replicas > 0 => Self::InUse,
            (DeletionPolicy::Delete, true) => Self::Unused,
            _ => Self::Nothing,
        }
    }
}

/// A child and what there is to do about it.
#[derive(Clone, Debug)]
pub struct ChildSeen {
    /// Kind, namespace and name, for people.
    pub what: String,
    /// What brings it in line; none if it is.
    pub act: Option<FleetEffect>,
    /// That its name belongs to somebody else; said here.
    pub conflict: Option<String>,
    /// Whether it needs the database first: pods read it at their start.
    pub needs_database: bool,
}

/// A Deployment's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// How many are wanted.
    pub wanted: i32,
    /// How many there are.
    pub replicas: i32,
    /// How many of them are ready.
    pub ready: i32,
    /// How many run the newest template.
    pub updated: i32,
    /// How many have been ready for long enough.
    pub available: i32,
    /// Whether these figures are about the newest template.
    pub observed: bool,
    /// Why Kubernetes has given up waiting for new pods, in its own words.
    pub failed: Option<String>,
}

impl Rollout {
    /// Whether every pod is as wanted, and so none has to be looked at.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.failed.is_none() && self.observed && [self.updated, self.replicas, self.available].iter().all(|count| *count == self.wanted)
    }
}

/// What keeps a pod from running, the gravest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodTrouble {
    /// The node cannot have the image.
    ImagePull {
        /// The image, as it was asked for.
        image: String,
    },
    /// The node cannot make a container as its spec wants it.
    NotMade,
    /// A container ends again and again.
    Crashing,
    /// No node takes it.
    Unschedulable,
}

/// One thing to do for a fleet in a cluster. A crash after any of them is harmless: the next observation shows what was done.
#[derive(Clone, Debug)]
pub enum FleetEffect {
    /// Make a Secret with a fresh value, unless one has appeared meanwhile.
    GenerateSecret(GeneratedSecret),
    /// Bring the database's schema to this process's version.
    Migrate,
    /// Claim the database, or claim it again, and lead it from now on.
    Open,
    /// Note in the fleet's row what its deletion is to mean.
    SetDeletion(DeletionPolicy),
    /// Let the Secret with the encryption key go with the fleet, or stay without it.
    TieKey(bool),
    /// Remove the rows of a ProxyConfig that is gone, and its claim.
    Purge,
    /// Bring a child in line.
    Apply(Child),
    /// Delete a child that is no longer wanted.
    DeleteChild(ChildVersion),
}

/// A child as it is wanted.
#[derive(Clone, Debug)]
pub enum Child {
    /// The pods.
    Deployment(Box<Deployment>),
    /// A way to them.
    Service(Box<Service>),
    /// How many of them may be taken away on purpose.
    DisruptionBudget(Box<PodDisruptionBudget>),
}

/// A child as it was observed, to be deleted only if it still is that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildVersion {
    /// Which kind.
    pub kind: ChildKind,
    /// Its name, in the fleet's namespace.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The kinds of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChildKind {
    /// `apps/v1`.
    Deployment,
    /// `v1`.
    Service,
    /// `policy/v1`.
    DisruptionBudget,
}

impl ChildKind {
    /// The kind as Kubernetes spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::Service => "Service",
            Self::DisruptionBudget => "PodDisruptionBudget",
        }
    }
}

impl Child {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ChildKind {
        match self {
            Self::Deployment(_) => ChildKind::Deployment,
            Self::Service(_) => ChildKind::Service,
            Self::DisruptionBudget(_) => ChildKind::DisruptionBudget,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        let metadata = match self {
            Self::Deployment(child) => &child.metadata,
            Self::Service(child) => &child.metadata,
            Self::DisruptionBudget(child) => &child.metadata,
        };
        metadata.name.as_deref().unwrap_or_default()
    }

    /// It as it goes to the API server.
    ///
    /// # Errors
    /// None that a child of ours can cause; the serialiser's type demands it.
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        match self {
            Self::Deployment(child) => serde_json::to_value(child),
            Self::Service(child) => serde_json::to_value(child),
            Self::DisruptionBudget(child) => serde_json::to_value(child),
        }
    }
}

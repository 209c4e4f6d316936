//! What a decision asks for: one effect at a time, as a value. Executors perform them; a crash between any two must be harmless.
//! It refuses to know how an effect is performed and why it was decided.

use crds::conditions::Condition;
use crds::events::EventReason;
use crds::{LlmProjectStatus, ProxyConfigStatus, SecretFormat, WitheringTokenStatus};
use store::{
    DbTime, DeletionPolicy, PendingRevision, ProjectId, ProjectSpec, ProviderSpec, ResourceUid, RevokedBy, TokenChange, TokenDigest, TokenId,
    TokenValue,
};

use crate::fleet::FleetEffect;

/// What a look at one resource led to.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The one effect to perform next; none when everything is as it should be.
    pub effect: Option<Effect>,
    /// When to look again even if nothing is seen to change.
    pub recheck_at: Option<DbTime>,
}

/// One thing to do for one resource.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make the fleet's declared providers exactly these.
    PutProviders(Vec<ProviderSpec>),
    /// Write the project's row and its sealed credentials.
    PutProject(ProjectSpec),
    /// Note in the project's row what the deletion of its resource is to mean.
    SetProjectDeletion {
        /// The project.
        project: ProjectId,
        /// What becomes of its rows.
        policy: DeletionPolicy,
    },
    /// Mark the project deleted and end every revision of its tokens.
    DeleteProject(ProjectId),
    /// Remove a deleted project's rows for good.
    PurgeProject(ProjectId),
    /// Add a pending revision, whose value is from now on in hand.
    InsertPending {
        /// The row.
        revision: PendingRevision,
        /// The value whose digest the row holds.
        value: TokenValue,
    },
    /// Note that the pending value may from now on stand in the Secret.
    BeginSecretWrite {
        /// The token.
        token: TokenId,
        /// The pending value's digest.
        digest: TokenDigest,
    },
    /// Write the Secret, if it still is what was observed.
    WriteSecret(SecretWrite),
    /// Make the pending revision the active one and end the others as they must.
    Activate {
        /// The token.
        token: TokenId,
        /// The digest of the revision whose value stands in the Secret.
        digest: TokenDigest,
        /// How long the replaced revision lives on, in ms.
        overlap_ms: i64,
    },
    /// Change state, limit, ends or Secret name of a live token.
    ChangeToken {
        /// The token.
        token: TokenId,
        /// What changes.
        change: TokenChange,
    },
    /// End every revision, for ever.
    Revoke {
        /// The token.
        token: TokenId,
        /// On whose behalf.
        by: RevokedBy,
    },
    /// Delete the Secret, if it still is what was observed.
    DeleteSecret {
        /// Its name, in the resource's namespace.
        name: String,
        /// What was observed.
        expect: SecretVersion,
    },
    /// Do something for a fleet in a cluster besides its rows.
    Fleet(FleetEffect),
    /// Set the resource's status.
    SetStatus(Status),
    /// Tell that something happened.
    Emit(Notice),
    /// Forget a deleted resource whose traces are gone.
    Forget(ResourceUid),
}

/// A Secret to be written.
#[derive(Clone, Debug)]
pub struct SecretWrite {
    /// Its name, in the resource's namespace.
    pub name: String,
    /// The token's value.
    pub value: TokenValue,
    /// The base URL that stands beside it, ending in `/v1`.
    pub base_url: String,
    /// What the Secret is to hold: ascending, each once.
    pub formats: Vec<SecretFormat>,
    /// Whether the Secret is to go with its token, where a Secret can have an owner.
    pub owned: bool,
    /// Whether it is written again because somebody else changed or deleted it.
    pub repair: bool,
    /// What was observed; none if the Secret was not there.
    pub expect: Option<SecretVersion>,
}

/// The content of a Secret at a moment, as an opaque word: a resourceVersion, or a digest of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVersion(pub String);

/// The status of one of the three kinds.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Of a ProxyConfig.
    ProxyConfig(ProxyConfigStatus),
    /// Of an LLMProject.
    Project(LlmProjectStatus),
    /// Of a WitheringToken.
    Token(WitheringTokenStatus),
}

impl Status {
    /// Its conditions.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        match self {
            Self::ProxyConfig(status) => &status.conditions,
            Self::Project(status) => &status.conditions,
            Self::Token(status) => &status.conditions,
        }
    }

    /// The status as it is stored.
    ///
    /// # Errors
    /// None that a status of ours can cause; the serialiser's type demands it.
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        match self {
            Self::ProxyConfig(status) => serde_json::to_value(status),
            Self::Project(status) => serde_json::to_value(status),
            Self::Token(status) => serde_json::to_value(status),
        }
    }
}

/// Something that happened to a resource, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What, in one word.
    pub reason: EventReason,
    /// The details; never a secret value.
    pub note: String,
}

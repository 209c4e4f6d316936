//! What a decision is made from: one resource, its rows, its Secrets and what it refers to, all at one moment, as values.
//! It refuses to know how they were read.

use crds::{LlmProjectSpec, LlmProjectStatus, ProxyConfigSpec, ProxyConfigStatus, WitheringTokenSpec, WitheringTokenStatus};
use secrecy::SecretString;
use store::{ProjectId, ProjectView, ProviderSpec, TokenValue, TokenView};

use crate::effect::SecretVersion;
use crate::fleet::FleetObserved;
use crate::object::Resource;

/// One observed resource of any kind.
#[derive(Clone, Debug)]
pub enum Observed {
    /// A ProxyConfig.
    ProxyConfig(ProxyConfigObserved),
    /// An LLMProject.
    Project(ProjectObserved),
    /// A WitheringToken.
    Token(Box<TokenObserved>),
}

/// A ProxyConfig and its rows.
#[derive(Clone, Debug)]
pub struct ProxyConfigObserved {
    /// The resource.
    pub resource: Resource<ProxyConfigSpec, ProxyConfigStatus>,
    /// The declared providers that stand in the database.
    pub rows: Vec<ProviderSpec>,
    /// The base URL for applications, ending in `/v1`.
    pub base_url: String,
    /// What stands around the rows in a cluster; none in files.
    pub fleet: Option<Box<FleetObserved>>,
}

/// An LLMProject, its row, its fleet and its credentials.
#[derive(Clone, Debug)]
pub struct ProjectObserved {
    /// The resource.
    pub resource: Resource<LlmProjectSpec, LlmProjectStatus>,
    /// Its row.
    pub row: Option<ProjectView>,
    /// The spec of the ProxyConfig that it names, if there is one.
    pub fleet: Option<ProxyConfigSpec>,
    /// What its credentials' Secrets hold, in the order of `spec.providers`.
    pub credentials: Vec<CredentialSeen>,
}

/// What stands behind one `credentials.secretRef`.
#[derive(Clone, Debug)]
pub enum CredentialSeen {
    /// The project names no Secret.
    NotNamed,
    /// The value.
    Found(SecretString),
    /// There is no such Secret.
    SecretMissing,
    /// The Secret has no such key, or its value is empty.
    KeyMissing,
}

/// A WitheringToken, its row, its project and its Secret.
#[derive(Clone, Debug)]
pub struct TokenObserved {
    /// The resource.
    pub resource: Resource<WitheringTokenSpec, WitheringTokenStatus>,
    /// Its row with the revisions that matter.
    pub row: Option<TokenView>,
    /// The project that it names.
    pub project: ProjectSeen,
    /// The name of the Secret that it wants.
    pub secret_name: String,
    /// What stands under that name.
    pub secret: SecretSeen,
    /// What stands under the name that its row has, if that is another one.
    pub former: Option<SecretSeen>,
    /// Whether another resource wants or has the same Secret.
    pub claim: SecretClaim,
    /// The base URL that belongs beside the value, ending in `/v1`.
    pub base_url: String,
    /// A fresh value, should one be needed: randomness comes in from outside.
    pub minted: TokenValue,
}

/// The project that a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectSeen {
    /// There is none of that name.
    Missing,
    /// It is declared, but has no row that could take tokens.
    NotReady,
    /// It can have tokens.
    Ready {
        /// Its row.
        id: ProjectId,
        /// Whether it is switched on.
        active: bool,
    },
}

/// A Secret that a token is delivered in, as it stands.
#[derive(Clone, Debug)]
pub enum SecretSeen {
    /// There is none.
    Absent,
    /// There is one.
    Present(SecretContent),
    /// There is something that cannot be read, said here.
    Unreadable(String),
}

/// What a Secret holds.
#[derive(Clone, Debug)]
pub struct SecretContent {
    /// The content as a precondition.
    pub version: SecretVersion,
    /// The token in it, if it is one.
    pub value: Option<TokenValue>,
    /// The base URL in it.
    pub base_url: Option<String>,
}

/// Whether a Secret's name is this token's to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretClaim {
    /// Nobody else wants it, or this token has it.
    Free,
    /// Another token has it, or wants it as well and neither has it; said here.
    Taken(String),
    /// A Secret of that name is declared by somebody; said here.
    Declared(String),
}

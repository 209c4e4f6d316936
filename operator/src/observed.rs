//! What a decision is made from: one resource, its rows, its Secrets and what it refers to, all at one moment, as values.
//! It refuses to know how they were read.

use crds::{LlmProjectSpec, LlmProjectStatus, ProxyConfigSpec, ProxyConfigStatus, Reason, SecretFormat, WitheringTokenSpec, WitheringTokenStatus};
use secrecy::SecretString;
use store::{ProjectId, ProjectView, ProviderSpec, TokenValue, TokenView};

use crate::effect::SecretVersion;
use crate::fleet::FleetObserved;
use crate::object::Resource;

/// The longest credential of a provider, in bytes: longer ones are passed over by servers, which bound a request's headers to about as much.
const MAX_CREDENTIAL: usize = 8 * 1024;

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
    /// The ProxyConfig that it names.
    pub fleet: FleetSeen,
    /// What its credentials' Secrets hold, in the order of `spec.providers`.
    pub credentials: Vec<CredentialSeen>,
}

/// The ProxyConfig that a project names.
#[derive(Clone, Debug)]
pub enum FleetSeen {
    /// There is none of that name.
    Missing,
    /// It stands in another namespace and does not allow this project; the details and the remedy are said here.
    NotPermitted(String),
    /// It stands, but its database cannot be used now, so that the project's row is unknown. An executor waits a while before it says so of a
    /// database that has only just gone away: every project and token of the fleet tells it in its status.
    NotReady {
        /// Why, as a word: `DatabaseUnavailable`, `DatabaseReadOnly`, or what the fleet's own condition has.
        reason: Reason,
        /// Why, as a sentence that says what to do.
        message: String,
    },
    /// It takes projects.
    Ready(Box<ProxyConfigSpec>),
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
    /// The Secret has such a key, and no request could carry its value: it is not one line of visible ASCII characters of at most 8 KiB.
    Unusable,
}

impl CredentialSeen {
    /// What a Secret holds under a key. White space around it, such as the line's end that `echo` and editors leave, is no part of it.
    #[must_use]
    pub fn of(value: Option<&[u8]>) -> Self {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return Self::KeyMissing;
        };
        let text = std::str::from_utf8(value).unwrap_or_default().trim();
        if text.is_empty() || text.len() > MAX_CREDENTIAL || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Self::Unusable;
        }
        Self::Found(SecretString::from(text))
    }
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
    /// What the Secret is to hold: ascending, each once. Where a Secret has but one form, it is that.
    pub formats: Vec<SecretFormat>,
    /// A fresh value, should one be needed: randomness comes in from outside.
    pub minted: TokenValue,
}

/// The project that a token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProjectSeen {
    /// There is none of that name.
    Missing,
    /// It is declared, but has no row that could take tokens, or its fleet does not allow it.
    NotReady,
    /// Its fleet's database cannot be used now, so that the rows are unknown. See [`FleetSeen::NotReady`].
    Unavailable {
        /// Why, as a word.
        reason: Reason,
        /// Why, as a sentence that says what to do.
        message: String,
    },
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
    /// The token in it, if it is one, and the same under every entry.
    pub value: Option<TokenValue>,
    /// The formats in which the token stands in it: ascending, each once.
    pub formats: Vec<SecretFormat>,
    /// The base URL in it.
    pub base_url: Option<String>,
    /// Whether it says itself whose it is; nothing where it cannot say. What it says counts more than where it stands.
    pub is_ours: Option<bool>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[test]
    fn a_credential_is_one_line_of_visible_ascii_characters_of_at_most_8_kib() {
        let longest = "k".repeat(MAX_CREDENTIAL);
        for (value, wanted) in [
            ("sk-1", "sk-1"),
            ("sk-1\n", "sk-1"),
            (" sk-1\r\n\n", "sk-1"),
            ("a b", "a b"),
            (&longest, &longest),
        ] {
            match CredentialSeen::of(Some(value.as_bytes())) {
                CredentialSeen::Found(found) => assert_eq!(found.expose_secret(), wanted),
                other => panic!("{value:?}: {other:?}"),
            }
        }
        let too_long = "k".repeat(MAX_CREDENTIAL + 1);
        let texts = [
            "\n",
            " \t ",
            "sk-1\nsk-2",
            "sk\0",
            "sk\t1",
            "sk\x7f1",
            "sk\u{85}1",
            "schlüssel",
            &too_long,
        ];
        for value in texts.iter().map(|text| text.as_bytes()).chain([&[0xff, 0xfe][..], b"sk-\xff"]) {
            assert!(matches!(CredentialSeen::of(Some(value)), CredentialSeen::Unusable), "{value:?}");
        }
        for value in [None, Some(&b""[..])] {
            assert!(matches!(CredentialSeen::of(value), CredentialSeen::KeyMissing), "{value:?}");
        }
    }
}

//! How a token's key is delivered: the Secret with its formats, and how one key takes the place of another.
//! It refuses to know when that happens.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::duration;
use crate::schema::{self, MAX_SUBDOMAIN, SUBDOMAIN_PATTERN};

/// The longest `rotation.trigger`.
pub(crate) const MAX_TRIGGER: usize = 128;
/// A `rotation.trigger` has no control characters: it is kept in a database that takes no NUL, and is told in messages of one line.
const TRIGGER_PATTERN: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";

/// Where a key is written to.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(transform = schema::tidy)]
pub struct TokenSecret {
    /// The Secret's name; the WitheringToken's own if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_SUBDOMAIN), regex(pattern = SUBDOMAIN_PATTERN))]
    pub name: Option<String>,

    /// What is written. Raw: the key under `token`. OpenAI: `OPENAI_API_KEY` and `OPENAI_BASE_URL`, which the SDKs read. Both if unset.
    /// llm-proxy standalone always writes the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub formats: Option<Vec<SecretFormat>>,
}

/// The entries that a key's Secret holds.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SecretFormat {
    /// The key under `token`.
    Raw,
    /// The key under `OPENAI_API_KEY` and the base URL under `OPENAI_BASE_URL`.
    OpenAI,
}

impl SecretFormat {
    /// All formats, which is also what is written if the spec says nothing.
    pub const ALL: &'static [Self] = &[Self::Raw, Self::OpenAI];
}

/// How one key takes the place of another.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(transform = schema::tidy)]
pub struct Rotation {
    /// How long a replaced key works on: a duration less than the ttl; 0s ends it at once. If unset a tenth of the ttl, at most 1h, and at
    /// least 2m if the ttl is 20m or more, since pods get a changed Secret with that delay. A deleted or edited Secret is replaced with the
    /// same overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = duration::MAX_LEN), regex(pattern = duration::PATTERN))]
    pub overlap: Option<String>,

    /// Any text of one line; changing it issues a further key, once no older key overlaps. Removing it changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_TRIGGER), regex(pattern = TRIGGER_PATTERN))]
    pub trigger: Option<String>,
}

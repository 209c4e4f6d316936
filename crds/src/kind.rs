//! The three kinds by name: how a manifest, a URL path and `kubectl` spell them, and the definition of each.
//! It refuses to know their fields.

use std::str::FromStr;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::{API_VERSION, LlmProject, ProxyConfig, WitheringToken};

/// One of the three custom resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A fleet of proxies, its database and its providers.
    ProxyConfig,
    /// A team's project on a fleet, with the credentials of its providers.
    LlmProject,
    /// A virtual key that expires by itself.
    WitheringToken,
}

/// A document of a kind, group or version that is not ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} of {api_version} is not known here; expected apiVersion {API_VERSION} and kind ProxyConfig, LLMProject or WitheringToken")]
pub struct UnknownKind {
    /// `apiVersion` as read.
    pub api_version: String,
    /// `kind` as read.
    pub kind: String,
}

impl Kind {
    /// All kinds, in the order in which they depend on each other.
    pub const ALL: &'static [Self] = &[Self::ProxyConfig, Self::LlmProject, Self::WitheringToken];

    /// `kind` as it stands in a manifest.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProxyConfig => "ProxyConfig",
            Self::LlmProject => "LLMProject",
            Self::WitheringToken => "WitheringToken",
        }
    }

    /// The lower-case plural of URLs and of `kubectl get`.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::ProxyConfig => "proxyconfigs",
            Self::LlmProject => "llmprojects",
            Self::WitheringToken => "witheringtokens",
        }
    }

    /// The kind that a document declares.
    ///
    /// # Errors
    /// [`UnknownKind`] if the two together are none of ours.
    pub fn from_manifest(api_version: &str, kind: &str) -> Result<Self, UnknownKind> {
        match kind.parse() {
            Ok(found) if api_version == API_VERSION => Ok(found),
            _ => Err(UnknownKind {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
            }),
        }
    }

    /// The definition that is installed into a cluster; the YAML under `yaml/` is written from it.
    #[must_use]
    pub fn definition(self) -> CustomResourceDefinition {
        match self {
            Self::ProxyConfig => ProxyConfig::crd(),
            Self::LlmProject => LlmProject::crd(),
            Self::WitheringToken => WitheringToken::crd(),
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(kind: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|known| known.as_str() == kind).ok_or_else(|| UnknownKind {
            api_version: API_VERSION.to_owned(),
            kind: kind.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::Resource;

    #[test]
    fn names_agree_with_the_derived_definitions() {
        for kind in Kind::ALL {
            let names = kind.definition().spec.names;
            assert_eq!((names.kind.as_str(), names.plural.as_str()), (kind.as_str(), kind.plural()));
            assert_eq!(names.categories, Some(vec!["llm-proxy".to_owned()]));
        }
        assert_eq!(ProxyConfig::api_version(&()), API_VERSION);
    }

    #[test]
    fn another_group_or_version_is_not_ours() {
        assert_eq!(Kind::from_manifest(API_VERSION, "LLMProject"), Ok(Kind::LlmProject));
        assert!(Kind::from_manifest("networking.istio.io/v1beta1", "ProxyConfig").is_err());
        let error = Kind::from_manifest(API_VERSION, "LlmProject").unwrap_err();
        assert!(error.to_string().contains("LLMProject"), "{error}");
    }
}

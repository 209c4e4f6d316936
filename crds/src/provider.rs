//! An LLM provider as a fleet declares it: what it speaks, where it is, and how it is given its key.
//! It refuses to know which projects use it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::base_url;
use crate::names;
use crate::price::{self, MAX_PRICES, ModelPrice};
use crate::schema::{self, CelRule, LABEL_PATTERN, MAX_LABEL};
use crate::validate::{Mode, Violation, check};

const OPENAI_HAS_URL: CelRule = CelRule {
    cel: "self.api != 'OpenAI' || has(self.baseURL)",
    message: "is required for api OpenAI; give what stands before /v1, such as https://api.openai.com",
    field_path: Some(".baseURL"),
};

const ECHO_HAS_NO_URL: CelRule = CelRule {
    cel: "self.api != 'Echo' || !has(self.baseURL)",
    message: "must be absent for api Echo, which answers inside the proxy; remove it or set api to OpenAI",
    field_path: Some(".baseURL"),
};

/// One LLM provider.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = OPENAI_HAS_URL, validation = ECHO_HAS_NO_URL)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct Provider {
    /// The name by which LLMProjects refer to this provider: 1 to 63 lower-case letters, digits or '-'.
    #[schemars(length(min = 1, max = MAX_LABEL), regex(pattern = LABEL_PATTERN))]
    pub name: String,

    /// The API that it speaks. OpenAI: any server compatible with OpenAI's API. Echo: answers inside the proxy, for demos and tests, without any
    /// network.
    pub api: ProviderApi,

    /// The http or https URL that stands before /v1, such as `https://api.openai.com`; a trailing /v1 is accepted. Required for OpenAI, refused
    /// for Echo. Without user, query and fragment. In a cluster it must not be a loopback or link-local address.
    #[serde(rename = "baseURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = base_url::MAX_LEN))]
    #[x_kube(
        validation = base_url::SCHEME,
        validation = base_url::NO_USER,
        validation = base_url::NO_QUERY,
        validation = base_url::SHAPE,
        validation = base_url::ADDRESS,
        validation = base_url::ROUTABLE
    )]
    pub base_url: Option<String>,

    /// How requests to the provider are authenticated. Bearer (if unset): with the project's credential. None: not at all, for keyless servers
    /// such as vLLM or Ollama.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<ProviderAuth>,

    /// What its models cost, before the built-in list of OpenAI's prices. Budgets and the usage table reckon with it; Echo costs nothing unless it
    /// stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_PRICES))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["model".into()]))]
    pub prices: Option<Vec<ModelPrice>>,
}

/// The API that a provider speaks.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProviderApi {
    /// OpenAI's API, or one compatible with it.
    OpenAI,
    /// Answers inside the proxy, for demos and tests.
    Echo,
}

/// How requests to a provider are authenticated.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProviderAuth {
    /// `Authorization: Bearer` with the project's credential.
    #[default]
    Bearer,
    /// Not at all.
    None,
}

impl Provider {
    /// How requests are authenticated, with the default filled in; Echo never is.
    #[must_use]
    pub fn auth(&self) -> ProviderAuth {
        if self.api == ProviderApi::Echo {
            ProviderAuth::None
        } else {
            self.auth.unwrap_or_default()
        }
    }

    /// Whether a project must bring a credential for this provider.
    #[must_use]
    pub fn needs_credentials(&self) -> bool {
        self.auth() == ProviderAuth::Bearer
    }
}

impl Provider {
    /// Every rule that this provider breaks by itself.
    pub(crate) fn judge(&self, path: &str, mode: Mode, found: &mut Vec<Violation>) {
        let base_url = format!("{path}.baseURL");
        check(found, format!("{path}.name"), names::dns_label(&self.name));
        price::judge(self.prices.as_deref().unwrap_or_default(), &format!("{path}.prices"), found);
        match (self.api, self.base_url.as_deref()) {
            (ProviderApi::OpenAI, None) => found.push(Violation::new(base_url, OPENAI_HAS_URL.message)),
            (ProviderApi::Echo, None) => {}
            (api, Some(url)) => {
                if api == ProviderApi::Echo {
                    found.push(Violation::new(&base_url, ECHO_HAS_NO_URL.message));
                }
                if url.len() > base_url::MAX_LEN {
                    found.push(Violation::new(&base_url, format!("must be at most {} characters", base_url::MAX_LEN)));
                }
                found.extend(
                    base_url::broken_rules(url, mode)
                        .into_iter()
                        .map(|message| Violation::new(&base_url, message)),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(api: ProviderApi, auth: Option<ProviderAuth>) -> Provider {
        Provider {
            name: "p".to_owned(),
            api,
            base_url: None,
            auth,
            prices: None,
        }
    }

    #[test]
    fn only_a_bearer_provider_needs_credentials() {
        assert!(provider(ProviderApi::OpenAI, None).needs_credentials());
        assert!(!provider(ProviderApi::OpenAI, Some(ProviderAuth::None)).needs_credentials());
        assert!(!provider(ProviderApi::Echo, Some(ProviderAuth::Bearer)).needs_credentials());
    }
}

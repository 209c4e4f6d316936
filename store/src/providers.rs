//! LLM providers as rows: where they are and how they are spoken to.

use std::collections::BTreeMap;

use crate::error::{Result, StoreError};
use crate::feed::{FeedVersion, Subject};
use crate::fleet::Fleet;
use crate::statement::{Conn, Row, sql, stored_as_text};

/// The wire interface of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderApi {
    /// The OpenAI API, by whoever speaks it.
    OpenAi,
    /// Answered by the data plane itself, for demos and tests of an installation.
    Echo,
}

stored_as_text!(ProviderApi { OpenAi = "OpenAI", Echo = "Echo" });

/// How the provider's key is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderAuth {
    /// `Authorization: Bearer <key>`.
    Bearer,
    /// Not at all: the provider wants no key.
    None,
}

stored_as_text!(ProviderAuth { Bearer = "Bearer", None = "None" });

/// A provider as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderSpec {
    /// Its name within the fleet; projects' credentials refer to it.
    pub name: String,
    /// What it speaks.
    pub api: ProviderApi,
    /// What stands before `/v1`; `None` for Echo.
    pub base_url: Option<String>,
    /// How it is given its key.
    pub auth: ProviderAuth,
    /// Prices that go before the built-in ones, as JSON that the store never looks into; `[]` for none.
    pub prices: String,
}

impl ProviderSpec {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            name: row.text("name")?,
            api: row.parsed("api", "providers.api")?,
            base_url: row.optional_text("base_url")?,
            auth: row.parsed("auth", "providers.auth")?,
            prices: row.text("prices")?,
        })
    }
}

impl Fleet {
    /// Makes the resource-owned providers exactly these (one transaction, one version, `Subject::Fleet`); nothing is written if they
    /// already are. Of two with one name the last counts.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if a name belongs to a provider that came through the API; [`StoreError::Fenced`]; those of any write.
    pub async fn put_providers(&self, providers: &[ProviderSpec]) -> Result<FeedVersion> {
        let wanted: BTreeMap<&str, &ProviderSpec> = providers.iter().map(|provider| (provider.name.as_str(), provider)).collect();
        let mut tx = self.store().begin().await?;
        // The whole set is compared and replaced, so two that do it at once must take turns; the head row is what both write in the end.
        sql!(tx, exec, "UPDATE feed_head SET version = version WHERE fleet_id = $1", self.key())?;
        let present = self.resource_providers(&mut tx).await?;
        let mut changed = false;
        for provider in &present {
            if !wanted.contains_key(provider.name.as_str()) {
                let name = provider.name.as_str();
                sql!(
                    tx,
                    exec,
                    "DELETE FROM providers WHERE fleet_id = $1 AND name = $2 AND origin = 'Resource'",
                    self.key(),
                    name
                )?;
                changed = true;
            }
        }
        for provider in wanted.into_values().filter(|provider| !present.contains(provider)) {
            let upsert = "INSERT INTO providers (fleet_id, name, origin, api, base_url, auth, prices) VALUES ($1, $2, 'Resource', $3, $4, $5, $6)
                ON CONFLICT (fleet_id, name) DO UPDATE SET
                    api = excluded.api, base_url = excluded.base_url, auth = excluded.auth, prices = excluded.prices, version = providers.version + 1
                WHERE providers.origin = 'Resource'";
            let (name, base_url) = (provider.name.as_str(), provider.base_url.as_deref());
            let (api, auth) = (provider.api.as_stored(), provider.auth.as_stored());
            if sql!(tx, exec, upsert, self.key(), name, api, base_url, auth, provider.prices.as_str())? == 0 {
                tx.rollback().await?;
                return Err(StoreError::Refused(format!(
                    "provider {name} was created through the API: rename one of the two"
                )));
            }
            changed = true;
        }
        // Any provider may serve any project, so whoever derived something from one drops everything.
        if changed {
            self.publish(tx, &Subject::Fleet, false).await
        } else {
            self.unchanged(tx).await
        }
    }

    /// Makes sure that a provider that comes through no resource is exactly this one; nothing is written, not even begun, if it already is.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the name belongs to a resource-owned provider; those of any write.
    pub async fn put_api_provider(&self, provider: &ProviderSpec) -> Result<FeedVersion> {
        let (name, base_url) = (provider.name.as_str(), provider.base_url.as_deref());
        let found = "SELECT name, api, base_url, auth, prices FROM providers WHERE fleet_id = $1 AND name = $2 AND origin = 'Api'";
        let found = sql!(self.store().read().await?, optional, found, self.key(), name)?;
        if found.as_ref().map(ProviderSpec::read).transpose()?.as_ref() == Some(provider) {
            return Ok(self.feed_head().await?.version);
        }
        let upsert = "INSERT INTO providers (fleet_id, name, origin, api, base_url, auth, prices) VALUES ($1, $2, 'Api', $3, $4, $5, $6)
            ON CONFLICT (fleet_id, name) DO UPDATE SET
                api = excluded.api, base_url = excluded.base_url, auth = excluded.auth, prices = excluded.prices, version = providers.version + 1
            WHERE providers.origin = 'Api'";
        let (api, auth) = (provider.api.as_stored(), provider.auth.as_stored());
        let mut tx = self.store().begin().await?;
        if sql!(tx, exec, upsert, self.key(), name, api, base_url, auth, provider.prices.as_str())? == 0 {
            tx.rollback().await?;
            return Err(StoreError::Refused(format!(
                "provider {name} is declared by a resource: give each way in a database of its own"
            )));
        }
        self.publish(tx, &Subject::Fleet, false).await
    }

    /// The resource-owned providers, by name.
    ///
    /// # Errors
    /// Those of any read; [`StoreError::Corrupt`].
    pub async fn providers(&self) -> Result<Vec<ProviderSpec>> {
        self.resource_providers(&mut self.store().read().await?).await
    }

    async fn resource_providers(&self, conn: &mut Conn) -> Result<Vec<ProviderSpec>> {
        let text = "SELECT name, api, base_url, auth, prices FROM providers WHERE fleet_id = $1 AND origin = 'Resource' ORDER BY name";
        sql!(conn, all, text, self.key())?.iter().map(ProviderSpec::read).collect()
    }
}

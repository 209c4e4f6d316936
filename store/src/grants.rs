//! What a data plane needs to know of a presented token, in one read.

use secrecy::SecretString;

use crate::clock::DbTime;
use crate::error::Result;
use crate::feed::FeedVersion;
use crate::fleet::Fleet;
use crate::ids::{ProjectId, QuotaId, TokenId};
use crate::limits::{self, GrantedLimit};
use crate::projects::ProjectState;
use crate::providers::{ProviderApi, ProviderAuth};
use crate::statement::{Row, count, sql};
use crate::token::TokenDigest;
use crate::tokens::{RevisionState, TokenState};

/// The provider that a project's requests go to.
#[derive(Clone, Debug)]
pub struct ProviderRecord {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub api: ProviderApi,
    /// What stands before `/v1`; `None` for Echo.
    pub base_url: Option<String>,
    /// How it is given its key.
    pub auth: ProviderAuth,
    /// Prices that go before the built-in ones, as they were declared: JSON that the store never looks into.
    pub prices: String,
    /// The project's key for it, opened; absent for keyless providers.
    pub key: Option<SecretString>,
}

/// A quota that each request of the token draws from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaRecord {
    /// Its row, to settle with.
    pub id: QuotaId,
    /// The limit, for messages; the ledger enforces it.
    pub max_units: u64,
}

/// Everything that decides about a request with this token.
#[derive(Clone, Debug)]
pub struct GrantRecord {
    /// The token.
    pub token: TokenId,
    /// `<namespace>/<name>` of the token, for messages; the name alone of one that came through the API.
    pub token_name: String,
    /// Its project.
    pub project: ProjectId,
    /// `<namespace>/<name>` of the project, for messages; the name alone of one that came through the API.
    pub project_name: String,
    /// Whether the token may be used.
    pub token_state: TokenState,
    /// Whether the project's tokens may be used.
    pub project_state: ProjectState,
    /// The presented revision's end; an ended revision's lies in the past.
    pub ends_at: DbTime,
    /// The revision itself was ended before its time (replaced, or its token revoked): `token_inactive`, not `token_expired`. One that was
    /// replaced with an overlap lived to its announced end and is expired.
    pub revision_ended: bool,
    /// Where requests go; `None` if the project has no provider that exists.
    pub provider: Option<ProviderRecord>,
    /// The lifetime request quota.
    pub requests: Option<QuotaRecord>,
    /// What its requests are under besides, in the order in which they draw on it.
    pub limits: Vec<GrantedLimit>,
    /// The feed version noted before the row was read.
    pub as_of: FeedVersion,
}

impl Fleet {
    /// Looks a presented value's digest up. `None`: no such token.
    ///
    /// One statement, so the version in `as_of` and the rows are of one moment.
    ///
    /// # Errors
    /// Those of any read; [`crate::StoreError::WrongKey`] if the credential does not open; [`crate::StoreError::Corrupt`].
    pub async fn load_grant(&self, digest: &TokenDigest) -> Result<Option<GrantRecord>> {
        let text = "SELECT h.version AS as_of, r.state AS revision_state, r.ends_at, r.ended_early,
                t.id AS token_id, t.namespace AS token_namespace, t.name AS token_name, t.state AS token_state,
                p.id AS project_id, p.namespace AS project_namespace, p.name AS project_name, p.state AS project_state,
                c.id AS credential_id, c.key_id, c.sealed, v.name AS provider, v.api, v.base_url, v.auth, v.prices,
                t.limits, t.limits_version, p.limits AS project_limits, p.limits_version AS project_limits_version, q.id AS quota_id, q.max_units
            FROM token_revisions r
            JOIN feed_head h ON h.fleet_id = r.fleet_id
            JOIN tokens t ON t.fleet_id = r.fleet_id AND t.id = r.token_id
            JOIN projects p ON p.fleet_id = t.fleet_id AND p.id = t.project_id
            LEFT JOIN credentials c ON c.fleet_id = p.fleet_id AND c.project_id = p.id
            LEFT JOIN providers v ON v.fleet_id = c.fleet_id AND v.name = c.provider
            LEFT JOIN quotas q ON q.fleet_id = t.fleet_id AND q.subject_kind = 'Token' AND q.subject_id = t.id AND q.unit = 'Requests'
                AND q.period = t.period AND q.window_kind = 'Lifetime' AND q.max_units IS NOT NULL
            WHERE r.fleet_id = $1 AND r.digest = $2
            ORDER BY c.priority, c.provider LIMIT 1";
        let row = sql!(self.store().read().await?, optional, text, self.key(), digest.0.as_slice())?;
        row.map(|row| self.grant(&row)).transpose()
    }

    fn grant(&self, row: &Row) -> Result<GrantRecord> {
        let state: RevisionState = row.parsed("revision_state", "token_revisions.state")?;
        let provider = match row.optional_text("provider")? {
            None => None,
            Some(name) => Some(ProviderRecord {
                name,
                api: row.parsed("api", "providers.api")?,
                base_url: row.optional_text("base_url")?,
                auth: row.parsed("auth", "providers.auth")?,
                prices: row.text("prices")?,
                key: self.open_credential(row)?,
            }),
        };
        let (token, project) = (row.parsed("token_id", "tokens.id")?, row.parsed("project_id", "projects.id")?);
        let own = limits::read(row, "limits", "tokens.limits")?;
        let shared = limits::read(row, "project_limits", "projects.limits")?;
        let granted = limits::granted(
            (token, &own, row.int("limits_version")?),
            (project, &shared, row.int("project_limits_version")?),
        );
        let requests = row.optional_int("quota_id")?.zip(row.optional_int("max_units")?);
        Ok(GrantRecord {
            token,
            token_name: qualified(&row.text("token_namespace")?, row.text("token_name")?),
            project,
            project_name: qualified(&row.text("project_namespace")?, row.text("project_name")?),
            token_state: row.parsed("token_state", "tokens.state")?,
            project_state: row.parsed("project_state", "projects.state")?,
            ends_at: DbTime(row.int("ends_at")?),
            revision_ended: state == RevisionState::Ended && row.flag("ended_early")?,
            provider,
            requests: requests.map(|(id, max)| QuotaRecord {
                id: QuotaId(id),
                max_units: count(max),
            }),
            limits: granted,
            as_of: FeedVersion(row.int("as_of")?),
        })
    }
}

/// What came through the API has no namespace.
fn qualified(namespace: &str, name: String) -> String {
    if namespace.is_empty() { name } else { format!("{namespace}/{name}") }
}

//! The engine that holds a fleet's state, and how it is reached.
//! It refuses to know what stands in it and who migrates it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::names;
use crate::schema::{self, CelRule, MAX_SAFE_INTEGER, MAX_SUBDOMAIN, SECRET_KEY_PATTERN, SUBDOMAIN_PATTERN};
use crate::validate::{Violation, check};

/// The keys of a database Secret that are looked for if the spec names none, in this order: our own word, and the one that CloudNativePG writes.
pub const DEFAULT_DATABASE_KEYS: [&str; 2] = ["url", "uri"];

const ONE_ENGINE: CelRule = CelRule {
    cel: "has(self.sqlite) != has(self.postgres)",
    message: "must name exactly one engine: write `postgres: {secretRef: {name: …}}` for a cluster or `sqlite: {}` for llm-proxy standalone",
    field_path: None,
};

const SAME_ENGINE: CelRule = CelRule {
    cel: "has(self.sqlite) == has(oldSelf.sqlite)",
    message: "cannot change its engine, because what is stored does not move; create a new ProxyConfig with the other engine",
    field_path: None,
};

/// The engine that holds the fleet's state.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = ONE_ENGINE, validation = SAME_ENGINE)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct Database {
    /// SQLite, for a single process: only llm-proxy standalone has it so far. It has no settings: write `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<Sqlite>,

    /// PostgreSQL, for any number of pods. The operator migrates it; one database, or one of its schemas, belongs to one ProxyConfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Postgres>,
}

/// Settings of SQLite: none so far.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[schemars(transform = schema::tidy)]
pub struct Sqlite {}

/// How PostgreSQL is reached.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct Postgres {
    /// The Secret, in the same namespace, with the connection URL: `postgres://user:password@host:5432/database`. It is read again when it changes.
    pub secret_ref: DatabaseSecretRef,
}

/// The value of a Secret that holds a database URL.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[schemars(transform = schema::tidy)]
pub struct DatabaseSecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = MAX_SUBDOMAIN), regex(pattern = SUBDOMAIN_PATTERN))]
    pub name: String,

    /// The key inside the Secret; if unset, `url`, or else `uri`, as CloudNativePG writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_SUBDOMAIN), regex(pattern = SECRET_KEY_PATTERN))]
    pub key: Option<String>,
}

/// The engine that a [`Database`] names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Engine<'a> {
    /// SQLite, for a single process.
    Sqlite(&'a Sqlite),
    /// PostgreSQL.
    Postgres(&'a Postgres),
}

impl Database {
    /// The engine named, or none if the spec is invalid.
    #[must_use]
    pub fn engine(&self) -> Option<Engine<'_>> {
        match (&self.sqlite, &self.postgres) {
            (Some(sqlite), None) => Some(Engine::Sqlite(sqlite)),
            (None, Some(postgres)) => Some(Engine::Postgres(postgres)),
            _ => None,
        }
    }
}

impl DatabaseSecretRef {
    /// The keys to look for, in this order.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        self.key.as_deref().map_or_else(|| DEFAULT_DATABASE_KEYS.to_vec(), |key| vec![key])
    }
}

impl Database {
    /// Every rule that this part of a spec breaks.
    pub(crate) fn judge(&self, path: &str, found: &mut Vec<Violation>) {
        if self.engine().is_none() {
            found.push(Violation::new(path, ONE_ENGINE.message));
        }
        if let Some(secret) = self.postgres.as_ref().map(|postgres| &postgres.secret_ref) {
            let path = format!("{path}.postgres.secretRef");
            check(found, format!("{path}.name"), names::dns_subdomain(&secret.name));
            let key = secret.key.as_deref().map_or(Ok(()), names::secret_key);
            check(found, format!("{path}.key"), key);
        }
    }

    /// Every rule that the change from `old` to this breaks.
    pub(crate) fn judge_update(&self, old: &Self, path: &str, found: &mut Vec<Violation>) {
        if self.sqlite.is_some() != old.sqlite.is_some() {
            found.push(Violation::new(path, SAME_ENGINE.message));
        }
    }
}

/// A fleet's database as it was found.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct DatabaseStatus {
    /// PostgreSQL or SQLite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub engine: Option<String>,

    /// The version of the schema in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = MAX_SAFE_INTEGER))]
    pub schema_version: Option<i64>,
}

//! The database of one fleet: what it is found to be, its migration, and how this process comes to lead it. Failures are remembered with a pause
//! and never end a look. It refuses to know Secrets, rows and Deployments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use store::{Claim, Fleet, KeyRing, PostgresOptions, ResourceUid, SchemaInfo, SealingKey, Store, StoreError};

use super::failure::{DATABASE_TIMEOUT, database};
use super::fleets::{Fleets, LiveFleet, NotLive, Target};
use super::references::Key;
use crate::fleet::{ClaimSeen, DatabaseSeen, Remains};

/// How long a migration may take, a lock of another migrator's included: less than a whole look may take.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(50);
/// Connections of the operator to one fleet's database.
const CONNECTIONS: u32 = 8;

/// How to get at a fleet's database.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// The ProxyConfig.
    pub(crate) key: Key,
    /// Which database, by which key.
    pub(crate) target: Target,
    /// Its URL.
    pub(crate) url: SecretString,
    /// Where the URL stands, for messages: the Secret and the key in it.
    pub(crate) url_stands_in: String,
    /// The key; none while there is none.
    pub(crate) ring: Option<KeyRing>,
    /// Who claims it.
    pub(crate) claim: Claim,
}

/// The digest by which a URL is known again.
pub(crate) fn url_digest(url: &SecretString) -> [u8; 32] {
    Sha256::digest(url.expose_secret().as_bytes()).into()
}

/// Looks at the database: whether it can be used, and by whom it is.
pub(crate) async fn look(fleets: &Fleets, access: &Access) -> DatabaseSeen {
    let key = &access.key;
    let store = match fleets.store_of(key, &access.target) {
        Some(store) => store,
        None => match open_store(access) {
            Ok(store) => {
                fleets.keep_store(key, store.clone());
                store
            }
            Err(error) => return failing(fleets, key, unusable_url(&error, &access.url_stands_in)),
        },
    };
    let live = fleets.open_for(key).filter(|(target, _)| *target == access.target).map(|(_, live)| live);
    if let Some(failure) = fleets.failure(key)
        && Instant::now() < failure.retry_at
        && !live.as_ref().is_some_and(|live| live.answers())
    {
        return DatabaseSeen::Failing {
            reason: failure.why.reason,
            message: failure.why.message,
        };
    }
    let looked = match &live {
        Some(live) => look_at_live(fleets, key, live).await,
        None => None,
    };
    let looked = match looked {
        Some(looked) => looked,
        None => look_at(fleets, key, &store, &access.claim, &access.target.uid).await,
    };
    match looked {
        Ok(seen) => {
            if live.is_some() {
                fleets.forget_failure(key);
            }
            seen
        }
        Err(error) => failing(fleets, key, NotLive::because(&error)),
    }
}

/// A database that this process leads; nothing if it does not lead it any more.
async fn look_at_live(fleets: &Fleets, key: &Key, live: &LiveFleet) -> Option<store::Result<DatabaseSeen>> {
    let head = match database(live.fleet.feed_head()).await {
        Ok(head) => head,
        // Emptied or created anew: it is looked at like one that was never seen.
        Err(StoreError::Gone(_)) => {
            fleets.no_longer_led(key);
            return None;
        }
        Err(error) => return Some(Err(error)),
    };
    let too_new = matches!(head.schema.check_writer(), Err(StoreError::SchemaTooNew { .. }));
    if Some(head.epoch) != live.fleet.leads() || (!too_new && head.schema.check_writer().is_err()) {
        fleets.no_longer_led(key);
        return None;
    }
    let version = head.schema.version;
    fleets.schema(key, Some(version));
    if let Err(error) = head.schema.check_writer() {
        return Some(Err(error));
    }
    Some(database(live.fleet.store().check_writable()).await.map(|()| DatabaseSeen::Reached {
        schema: Some(version),
        claim: ClaimSeen::Ours,
        live: true,
    }))
}

/// What an earlier ProxyConfig of the same name has left to be removed.
async fn former(fleet: &Fleet, uid: &ResourceUid) -> store::Result<Option<Remains>> {
    let deletion = database(fleet.deletion()).await?;
    let Some(declared_by) = deletion.declared_by.as_ref().filter(|declared_by| *declared_by != uid) else {
        return Ok(None);
    };
    let replicas = database(fleet.replicas()).await?.len();
    Ok(Some(Remains::of(&deletion, declared_by, replicas)).filter(|remains| *remains != Remains::Nothing))
}

async fn look_at(fleets: &Fleets, key: &Key, store: &Store, claim: &Claim, uid: &ResourceUid) -> store::Result<DatabaseSeen> {
    let schema = database(store.schema_info()).await?;
    fleets.schema(key, schema.map(|schema| schema.version));
    let (mut claimed, mut is_newest) = (None, false);
    if let Some(schema) = schema {
        schema.check_reader()?;
        match schema.check_writer() {
            Err(error @ StoreError::SchemaTooNew { .. }) => return Err(error),
            checked => is_newest = checked.is_ok(),
        }
        claimed = database(store.claimed()).await?;
    }
    let seen = match claimed {
        None => ClaimSeen::Nobody,
        // An older schema cannot say that anything is to go.
        Some((claimant, _)) if claimant == *claim && !is_newest => ClaimSeen::Ours,
        Some((claimant, fleet)) if claimant == *claim => former(&fleet, uid).await?.map_or(ClaimSeen::Ours, ClaimSeen::Former),
        Some((claimant, _)) => {
            let conflict = StoreError::Conflict {
                owner: claimant.to_string(),
                claimant: claim.to_string(),
            };
            ClaimSeen::Other(conflict.to_string())
        }
    };
    if !matches!(seen, ClaimSeen::Other(_)) {
        database(store.check_writable()).await?;
    }
    Ok(DatabaseSeen::Reached {
        schema: schema.map(|schema| schema.version),
        claim: seen,
        live: false,
    })
}

fn failing(fleets: &Fleets, key: &Key, why: NotLive) -> DatabaseSeen {
    fleets.failed(key, why.clone());
    DatabaseSeen::Failing {
        reason: why.reason,
        message: why.message,
    }
}

/// No server was asked: what the Secret holds is no URL of a PostgreSQL database. The store's errors never repeat it.
fn unusable_url(error: &StoreError, stands_in: &str) -> NotLive {
    let why = match error {
        StoreError::Refused(why) => why.clone(),
        other => other.to_string(),
    };
    NotLive {
        message: format!("spec.database.postgres.secretRef: {stands_in}: {why}; put postgres://user:password@host:port/database there"),
        ..NotLive::because(error)
    }
}

/// No connection is made yet. Without a key of the fleet's a throw-away one stands in, which nothing is sealed or opened with.
fn open_store(access: &Access) -> store::Result<Store> {
    let ring = access.ring.clone().unwrap_or_else(|| KeyRing::single(SealingKey::generate()));
    let options = PostgresOptions {
        max_connections: CONNECTIONS,
        statement_timeout: DATABASE_TIMEOUT,
        ..PostgresOptions::default()
    };
    Store::open_postgres(access.url.expose_secret(), ring, options)
}

/// Migrates the database that was last looked at.
pub(crate) async fn migrate(fleets: &Fleets, key: &Key) {
    let Some(store) = fleets.store(key) else { return };
    let migrated = tokio::time::timeout(MIGRATION_TIMEOUT, store.migrate()).await;
    let migrated = migrated.unwrap_or_else(|_| Err(StoreError::Unavailable(format!("no end within {} s", MIGRATION_TIMEOUT.as_secs()))));
    match migrated {
        Ok(SchemaInfo { version, .. }) => {
            fleets.schema(key, Some(version));
            fleets.forget_failure(key);
        }
        Err(error) => {
            let mut why = NotLive::because(&error);
            if matches!(error, StoreError::Refused(_) | StoreError::Corrupt { .. } | StoreError::Full(_)) {
                why.reason = crds::Reason::MigrationFailed;
                why.message = format!("the migration failed and nothing of it stays; what runs goes on: {error}");
            }
            tracing::warn!(namespace = key.0, name = key.1, "the database cannot be migrated: {error}");
            fleets.failed(key, why);
        }
    }
}

/// Removes what an earlier ProxyConfig of this name has left in the database that was last looked at, its claim last.
pub(crate) async fn purge(fleets: &Fleets, key: &Key, claim: &Claim) {
    let Some(store) = fleets.store(key) else { return };
    let purged = async {
        let Some((_, fleet)) = database(store.claimed()).await?.filter(|(claimant, _)| claimant == claim) else {
            return Ok(());
        };
        let Some(declared_by) = database(fleet.deletion()).await?.declared_by else {
            return Ok(());
        };
        // Whoever still writes as an older leader is fenced.
        database(database(fleet.lead()).await?.purge(&declared_by)).await
    };
    match purged.await {
        Ok(()) => fleets.forget_failure(key),
        Err(error) => {
            tracing::warn!(
                namespace = key.0,
                name = key.1,
                "what a former ProxyConfig of this name has left cannot be removed: {error}"
            );
            fleets.failed(key, NotLive::because(&error));
        }
    }
}

/// Claims the database that was last looked at, and leads it from now on.
pub(crate) async fn open(fleets: &Fleets, key: &Key, claim: &Claim, base_url: String) -> Option<Arc<LiveFleet>> {
    let store = fleets.store(key)?;
    let opened = async { database(database(store.claim(claim)).await?.lead()).await };
    match opened.await {
        Ok(fleet) => {
            let live = Arc::new(LiveFleet::new(key.clone(), fleet, base_url));
            fleets.opened(Arc::clone(&live));
            Some(live)
        }
        Err(error) => {
            let mut why = NotLive::because(&error);
            if matches!(error, StoreError::WrongKey { .. }) {
                why.message = format!("the Secret with the encryption key holds another key than the database was sealed with: {error}");
            }
            tracing::warn!(namespace = key.0, name = key.1, "the database cannot be claimed: {error}");
            fleets.failed(key, why);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_without_a_url_is_named_with_its_key_and_what_to_put_there() {
        for text in ["canary", "postgres://canary:canary@[", "postgres://canary@h/d?sslmod=canary"] {
            let options = PostgresOptions::default();
            let error = Store::open_postgres(text, KeyRing::single(SealingKey::generate()), options)
                .err()
                .unwrap();
            let why = unusable_url(&error, "Secret shop/db, key \"url\"");
            assert_eq!(why.reason, crds::Reason::DatabaseUnavailable);
            assert!(
                why.message.contains("Secret shop/db, key \"url\": the database URL cannot be used"),
                "{}",
                why.message
            );
            assert!(
                why.message.contains("put postgres://") && !why.message.contains("canary"),
                "{}",
                why.message
            );
        }
    }
}

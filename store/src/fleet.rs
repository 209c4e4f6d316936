//! A fleet's claim on the database, and the handle that every further call goes through.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use crate::engine::Store;
use crate::error::{Result, StoreError};
use crate::ids::FleetId;
use crate::keyring::KeyRing;
use crate::statement::{Conn, Row, sql};

/// What the key-check value says when it opens. Sealed under the fleet's id, so that one of another fleet does not pass for it.
const KEY_CHECK: &str = "llm-proxy key check";

/// Who claims: `standalone/<ns>/<ProxyConfig>`, `server/-/-` or `<cluster uid>/<ns>/<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The cluster's uid, or the mode of a process without one.
    pub cluster: String,
    /// The namespace of the ProxyConfig.
    pub namespace: String,
    /// The name of the ProxyConfig.
    pub name: String,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.namespace, self.name)
    }
}

/// A claimed database. Clones share it. All rows that it reads and writes carry its fleet id.
#[derive(Clone, Debug)]
pub struct Fleet {
    store: Store,
    id: FleetId,
    /// The leader's epoch, if this handle writes as the leader.
    epoch: Option<i64>,
}

impl Store {
    /// Claims the migrated database (or claims it again) and checks the sealing key against the key-check value.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another fleet has claimed it; [`StoreError::WrongKey`]; [`StoreError::SchemaTooNew`];
    /// [`StoreError::Refused`] if it is not migrated.
    pub async fn claim(&self, claim: &Claim) -> Result<Fleet> {
        match self.schema_info().await? {
            Some(schema) => schema.check_writer()?,
            None => return Err(StoreError::Refused("the database is empty: migrate it first".into())),
        }
        let keys = self.keys().ok_or_else(|| StoreError::ReadOnly("it was opened for reading only".into()))?;
        // A claim that stands is only read: a second process starts while the first one writes.
        if let Some(found) = Claimed::find(&mut self.read().await?).await? {
            return found.by(claim, keys).map(|id| self.claimed_by(id));
        }
        let mut tx = self.begin().await?;
        let now = tx.now().await?;
        let id = FleetId::new();
        let (key_id, key_check) = keys.seal(id.to_string().as_bytes(), &SecretString::from(KEY_CHECK))?;
        let inserted = "INSERT INTO fleets (id, cluster, namespace, name, key_id, key_check, claimed_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (only_row) DO NOTHING";
        let (cluster, namespace, name) = (claim.cluster.as_str(), claim.namespace.as_str(), claim.name.as_str());
        if sql!(tx, exec, inserted, id.to_string(), cluster, namespace, name, key_id, key_check, now.0)? == 1 {
            sql!(tx, exec, "INSERT INTO feed_head (fleet_id) VALUES ($1)", id.to_string())?;
            tx.commit().await?;
            return Ok(self.claimed_by(id));
        }
        // Somebody was faster; what stands is what counts.
        let found = Claimed::find(&mut tx)
            .await?
            .ok_or_else(|| StoreError::Unavailable("a claim came and went: try again".into()))?;
        found.by(claim, keys).map(|id| self.claimed_by(id))
    }

    /// The fleet that has claimed it, without claiming or checking keys (for `status`). `None` in an empty or unclaimed database.
    ///
    /// # Errors
    /// [`StoreError::SchemaTooNew`] if this binary cannot read it; those of any read.
    pub async fn claimed(&self) -> Result<Option<(Claim, Fleet)>> {
        let Some(schema) = self.schema_info().await? else { return Ok(None) };
        schema.check_reader()?;
        Ok(Claimed::find(&mut self.read().await?)
            .await?
            .map(|found| (found.claim, self.fleet(found.id))))
    }

    /// Who has claimed follows the feed, so it hears of other processes' commits from now on.
    fn claimed_by(&self, id: FleetId) -> Fleet {
        self.listen(id);
        self.fleet(id)
    }

    fn fleet(&self, id: FleetId) -> Fleet {
        Fleet {
            store: self.clone(),
            id,
            epoch: None,
        }
    }
}

impl Fleet {
    /// The fleet's id in this database.
    #[must_use]
    pub fn id(&self) -> FleetId {
        self.id
    }

    /// The database beneath.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The same fleet, writing as the leader of `epoch`: once a newer one leads, every configuration transaction of this handle is
    /// rolled back with [`StoreError::Fenced`].
    #[must_use]
    pub fn leading(&self, epoch: i64) -> Self {
        Self {
            epoch: Some(epoch),
            ..self.clone()
        }
    }

    /// Becomes the leader: raises the epoch, and returns a handle that writes under it. Every handle of an older epoch is fenced from then on.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn lead(&self) -> Result<Self> {
        let mut tx = self.store.begin().await?;
        let raise = "UPDATE feed_head SET epoch = epoch + 1 WHERE fleet_id = $1 RETURNING epoch";
        let epoch = sql!(tx, one, raise, self.key())?.int("epoch")?;
        tx.commit().await?;
        Ok(self.leading(epoch))
    }

    /// The epoch that this handle writes under, if it writes as the leader.
    #[must_use]
    pub fn leads(&self) -> Option<i64> {
        self.epoch
    }

    pub(crate) fn epoch(&self) -> Option<i64> {
        self.epoch
    }

    /// The id as it is bound.
    pub(crate) fn key(&self) -> String {
        self.id.to_string()
    }
}

/// The row of `fleets`.
struct Claimed {
    claim: Claim,
    id: FleetId,
    key_id: String,
    key_check: Vec<u8>,
}

impl Claimed {
    async fn find(conn: &mut Conn) -> Result<Option<Self>> {
        let row = sql!(conn, optional, "SELECT id, cluster, namespace, name, key_id, key_check FROM fleets")?;
        row.as_ref().map(Self::read).transpose()
    }

    fn read(row: &Row) -> Result<Self> {
        let claim = Claim {
            cluster: row.text("cluster")?,
            namespace: row.text("namespace")?,
            name: row.text("name")?,
        };
        Ok(Self {
            claim,
            id: row.parsed("id", "fleets.id")?,
            key_id: row.text("key_id")?,
            key_check: row.bytes("key_check")?,
        })
    }

    /// Whether `claimant` is who claimed it, and holds the key that it was claimed with.
    fn by(&self, claimant: &Claim, keys: &KeyRing) -> Result<FleetId> {
        if self.claim != *claimant {
            return Err(StoreError::Conflict {
                owner: self.claim.to_string(),
                claimant: claimant.to_string(),
            });
        }
        match keys.open(self.id.to_string().as_bytes(), &self.key_id, &self.key_check) {
            Ok(opened) if opened.expose_secret() == KEY_CHECK => Ok(self.id),
            _ => Err(StoreError::WrongKey {
                key_id: keys.primary_id().to_owned(),
            }),
        }
    }
}

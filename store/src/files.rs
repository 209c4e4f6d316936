//! Manifests read from files (standalone): their uids, minted at first sight, and their status.
//! It refuses to know what a spec says. A `v1` Secret is no object of ours and never comes here.

use uuid::Uuid;

use crate::error::{Result, StoreError};
use crate::fleet::Fleet;
use crate::ids::ResourceUid;
use crate::statement::{Conn, Row, sql};

/// What a manifest calls its object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileObjectKey {
    /// The kind, for instance `WitheringToken`.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// A declared object as it was last seen valid.
#[derive(Clone, Debug)]
pub struct FileObject {
    /// What its manifest calls it.
    pub key: FileObjectKey,
    /// Minted at first sight; a forgotten object that comes back gets a new one.
    pub uid: ResourceUid,
    /// The file it was last read from.
    pub source: String,
    /// Grows by one with each change of its spec.
    pub generation: i64,
    /// The last good spec, as JSON: what goes on being served while the file is broken.
    pub spec: serde_json::Value,
    /// The last status that was set, as JSON.
    pub status: Option<serde_json::Value>,
}

impl Fleet {
    /// Notes a valid object: mints its uid at first sight; writes only if source or spec changed.
    ///
    /// # Errors
    /// Those of any write; [`StoreError::Corrupt`].
    pub async fn see_file_object(&self, key: &FileObjectKey, source: &str, spec: &serde_json::Value) -> Result<FileObject> {
        // Every scan sees every object, so an unchanged one must not even take the write lock.
        if let Some(seen) = self.file_object(&mut self.store().read().await?, key).await?
            && seen.source == source
            && seen.spec == *spec
        {
            return Ok(seen);
        }
        let mut tx = self.store().begin().await?;
        let object = match self.file_object(&mut tx, key).await? {
            None => FileObject {
                key: key.clone(),
                uid: ResourceUid::new(Uuid::new_v4().to_string()),
                source: source.to_owned(),
                generation: 1,
                spec: spec.clone(),
                status: None,
            },
            Some(seen) => FileObject {
                source: source.to_owned(),
                generation: seen.generation + i64::from(seen.spec != *spec),
                spec: spec.clone(),
                ..seen
            },
        };
        let upsert =
            "INSERT INTO file_objects (fleet_id, kind, namespace, name, uid, source, generation, spec) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (fleet_id, kind, namespace, name) DO UPDATE SET
                source = excluded.source, generation = excluded.generation, spec = excluded.spec";
        let (kind, namespace, name) = (key.kind.as_str(), key.namespace.as_str(), key.name.as_str());
        sql!(
            tx,
            exec,
            upsert,
            self.key(),
            kind,
            namespace,
            name,
            object.uid.as_str(),
            source,
            object.generation,
            spec.to_string()
        )?;
        tx.commit().await?;
        Ok(object)
    }

    /// All objects that were seen and not forgotten, by kind, namespace and name.
    ///
    /// # Errors
    /// Those of any read; [`StoreError::Corrupt`].
    pub async fn file_objects(&self) -> Result<Vec<FileObject>> {
        let text = "SELECT kind, namespace, name, uid, source, generation, spec, status FROM file_objects WHERE fleet_id = $1
            ORDER BY kind, namespace, name";
        sql!(self.store().read().await?, all, text, self.key())?
            .iter()
            .map(FileObject::read)
            .collect()
    }

    /// Sets an object's status; writes only if it differs.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; those of any write.
    pub async fn set_file_object_status(&self, uid: &ResourceUid, status: &serde_json::Value) -> Result<()> {
        let find = "SELECT status FROM file_objects WHERE fleet_id = $1 AND uid = $2";
        let missing = || StoreError::NotFound {
            what: format!("the object with uid {uid}"),
        };
        let row = sql!(self.store().read().await?, optional, find, self.key(), uid.as_str())?.ok_or_else(missing)?;
        if row
            .optional_text("status")?
            .map(|text| json(&text, "file_objects.status"))
            .transpose()?
            .as_ref()
            == Some(status)
        {
            return Ok(());
        }
        let mut tx = self.store().begin().await?;
        let set = "UPDATE file_objects SET status = $3 WHERE fleet_id = $1 AND uid = $2";
        if sql!(tx, exec, set, self.key(), uid.as_str(), status.to_string())? == 0 {
            return Err(missing());
        }
        tx.commit().await
    }

    /// Forgets a deleted object; if it comes back, it is another one.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn forget_file_object(&self, uid: &ResourceUid) -> Result<()> {
        let mut tx = self.store().begin().await?;
        sql!(
            tx,
            exec,
            "DELETE FROM file_objects WHERE fleet_id = $1 AND uid = $2",
            self.key(),
            uid.as_str()
        )?;
        tx.commit().await
    }

    async fn file_object(&self, conn: &mut Conn, key: &FileObjectKey) -> Result<Option<FileObject>> {
        let text = "SELECT kind, namespace, name, uid, source, generation, spec, status FROM file_objects
            WHERE fleet_id = $1 AND kind = $2 AND namespace = $3 AND name = $4";
        let (kind, namespace, name) = (key.kind.as_str(), key.namespace.as_str(), key.name.as_str());
        sql!(conn, optional, text, self.key(), kind, namespace, name)?
            .as_ref()
            .map(FileObject::read)
            .transpose()
    }
}

impl FileObject {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            key: FileObjectKey {
                kind: row.text("kind")?,
                namespace: row.text("namespace")?,
                name: row.text("name")?,
            },
            uid: ResourceUid::new(row.text("uid")?),
            source: row.text("source")?,
            generation: row.int("generation")?,
            spec: json(&row.text("spec")?, "file_objects.spec")?,
            status: row.optional_text("status")?.map(|text| json(&text, "file_objects.status")).transpose()?,
        })
    }
}

fn json(text: &str, what: &'static str) -> Result<serde_json::Value> {
    serde_json::from_str(text).map_err(|e| StoreError::Corrupt { what, why: e.to_string() })
}

//! Answers that are kept under a client's Idempotency-Key, in the transaction of the act itself: a request that is sent again, even after an
//! answer that was lost, is done once. They may hold a fresh token, so they are sealed.

use secrecy::{ExposeSecret as _, SecretString};

use crate::clock::DbTime;
use crate::error::StoreError;
use crate::fleet::Fleet;
use crate::manage::act::{Act, ManageError};
use crate::statement::{Conn, Row, sql};

/// How long an answer is kept.
const KEPT_MS: i64 = 24 * 3_600_000;

/// A client's key for a request, and what the request was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Which endpoint it was sent to.
    pub scope: String,
    /// The client's key.
    pub key: String,
    /// SHA-256 of the request.
    pub request_digest: [u8; 32],
}

impl IdempotencyKey {
    fn associated(&self) -> Vec<u8> {
        [self.scope.as_bytes(), &[0], self.key.as_bytes()].concat()
    }
}

/// An answer as it was given the first time.
#[derive(Clone, Debug)]
pub struct StoredAnswer {
    /// The status.
    pub status: u16,
    /// The version of the object that the body shows, if it shows one.
    pub version: Option<i64>,
    /// The body.
    pub body: SecretString,
    /// Whether it comes from an earlier request.
    pub replayed: bool,
}

impl Fleet {
    /// The answer that is kept for this act's key, if there is one.
    ///
    /// # Errors
    /// [`ManageError::IdempotencyReused`] if it belongs to another request; those of any read.
    pub async fn kept_answer(&self, act: &Act) -> Result<Option<StoredAnswer>, ManageError> {
        match &act.idempotency {
            Some(key) => self.find_answer(&mut self.store().read().await?, key).await,
            None => Ok(None),
        }
    }

    /// The same, within a transaction.
    pub(super) async fn kept_answer_in(&self, tx: &mut Conn, act: &Act) -> Result<Option<StoredAnswer>, ManageError> {
        match &act.idempotency {
            Some(key) => self.find_answer(tx, key).await,
            None => Ok(None),
        }
    }

    async fn find_answer(&self, conn: &mut Conn, key: &IdempotencyKey) -> Result<Option<StoredAnswer>, ManageError> {
        let text = "SELECT request_digest, status, key_id, sealed FROM idempotency_keys
            WHERE fleet_id = $1 AND scope = $2 AND key = $3 AND expires_at > (SELECT now_ms FROM clock)";
        let row = sql!(conn, optional, text, self.key(), key.scope.as_str(), key.key.as_str())?;
        row.map(|row| self.opened(key, &row)).transpose()
    }

    fn opened(&self, key: &IdempotencyKey, row: &Row) -> Result<StoredAnswer, ManageError> {
        if row.bytes("request_digest")? != key.request_digest {
            return Err(ManageError::IdempotencyReused);
        }
        let corrupt = |why: &str| StoreError::Corrupt {
            what: "idempotency_keys",
            why: why.to_owned(),
        };
        let (Some(key_id), Some(sealed)) = (row.optional_text("key_id")?, row.optional_bytes("sealed")?) else {
            return Err(corrupt("an answer without its text").into());
        };
        let keys = self
            .store()
            .keys()
            .ok_or_else(|| StoreError::ReadOnly("it was opened for reading only".into()))?;
        let opened = keys.open(&key.associated(), &key_id, &sealed)?;
        let (version, body) = opened
            .expose_secret()
            .split_once('\n')
            .ok_or_else(|| corrupt("an answer without a body"))?;
        Ok(StoredAnswer {
            status: row
                .optional_int("status")?
                .and_then(|status| u16::try_from(status).ok())
                .ok_or_else(|| corrupt("an answer without a status"))?,
            version: version.parse().ok(),
            body: body.to_owned().into(),
            replayed: true,
        })
    }

    /// Keeps the answer of an act that is about to be committed. `Some`: another request with this key was faster, and this is its answer;
    /// the act must not be committed.
    pub(super) async fn keep_answer(
        &self,
        tx: &mut Conn,
        act: &Act,
        answer: &StoredAnswer,
        now: DbTime,
    ) -> Result<Option<StoredAnswer>, ManageError> {
        let Some(key) = &act.idempotency else { return Ok(None) };
        let keys = self
            .store()
            .keys()
            .ok_or_else(|| StoreError::ReadOnly("it was opened for reading only".into()))?;
        sql!(
            tx,
            exec,
            "DELETE FROM idempotency_keys WHERE fleet_id = $1 AND expires_at <= $2",
            self.key(),
            now.0
        )?;
        let version = answer.version.map(|version| version.to_string()).unwrap_or_default();
        let text = SecretString::from(format!("{version}\n{}", answer.body.expose_secret()));
        let (key_id, sealed) = keys.seal(&key.associated(), &text)?;
        let insert = "INSERT INTO idempotency_keys (fleet_id, scope, key, request_digest, status, key_id, sealed, created_at, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (fleet_id, scope, key) DO NOTHING";
        let (scope, name, digest) = (key.scope.as_str(), key.key.as_str(), key.request_digest.as_slice());
        let inserted = sql!(
            tx,
            exec,
            insert,
            self.key(),
            scope,
            name,
            digest,
            i64::from(answer.status),
            key_id,
            sealed,
            now.0,
            now.plus_ms(KEPT_MS).0
        )?;
        if inserted == 1 { Ok(None) } else { self.find_answer(tx, key).await }
    }
}

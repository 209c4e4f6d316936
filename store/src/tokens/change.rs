//! What happens to a live token besides a new value: suspended, resumed, another limit, an earlier end, revoked.

use super::Locked;
use crate::clock::DbTime;
use crate::error::{Result, StoreError};
use crate::feed::{FeedVersion, Subject};
use crate::fleet::Fleet;
use crate::ids::TokenId;
use crate::limits::{self, Limit};
use crate::statement::{sql, stored};
use crate::tokens::{RevokedBy, TokenState};

/// What changes on a live token; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct TokenChange {
    /// Suspends or resumes it. (Revoking is [`Fleet::revoke_token`]; asked for here it is done as the spec's wish, alone.)
    pub state: Option<TokenState>,
    /// Sets or removes the limit of the current period; what was used stays used.
    pub max_requests: Option<Option<u64>>,
    /// Sets its own further limits, in their order.
    pub limits: Option<Vec<Limit>>,
    /// Lowers the end of every live revision to at most this; never raises.
    pub clamp_ends: Option<DbTime>,
    /// Where its value is delivered from now on.
    pub secret_name: Option<String>,
}

impl Fleet {
    /// Changes a live token; one transaction, one version. Nothing is written if it already stands so.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Refused`] if it is revoked and something would change; [`StoreError::Fenced`]; those of any write.
    pub async fn change_token(&self, token: TokenId, change: &TokenChange) -> Result<FeedVersion> {
        if change.state == Some(TokenState::Revoked) {
            return self.revoke_token(token, RevokedBy::Spec).await;
        }
        let mut tx = self.store().begin().await?;
        let found = Locked::lock(self, &mut tx, token).await?;
        let now = tx.now().await?;
        let (key, id) = (self.key(), token.to_string());
        let (mut changed, mut takes_away) = (false, false);

        if let Some(state) = change.state.filter(|state| *state != found.state) {
            let update = "UPDATE tokens SET state = $3, state_by = NULL, state_at = $4 WHERE fleet_id = $1 AND id = $2";
            sql!(tx, exec, update, key.as_str(), id.as_str(), state.as_stored(), now.0)?;
            changed = true;
            takes_away |= state != TokenState::Active;
        }
        if let Some(max) = change.max_requests.filter(|max| *max != found.max_requests) {
            let update = "UPDATE tokens SET max_requests = $3 WHERE fleet_id = $1 AND id = $2";
            sql!(tx, exec, update, key.as_str(), id.as_str(), max.map(stored))?;
            self.put_quota(&mut tx, token, found.period, max).await?;
            changed = true;
            takes_away |= found.is_narrowed_by(max);
        }
        if let Some(wanted) = change.limits.as_deref().filter(|wanted| **wanted != *found.limits) {
            self.put_token_limits(&mut tx, token, wanted).await?;
            changed = true;
            takes_away |= limits::is_narrowed(&found.limits, wanted);
        }
        if let Some(latest) = change.clamp_ends {
            let clamp = "UPDATE token_revisions SET ends_at = $3 WHERE fleet_id = $1 AND token_id = $2 AND state <> 'Ended' AND ends_at > $3";
            let clamped = sql!(tx, exec, clamp, key.as_str(), id.as_str(), latest.0)?;
            changed |= clamped > 0;
            takes_away |= clamped > 0;
        }
        if let Some(secret) = change.secret_name.as_deref().filter(|secret| *secret != found.secret_name) {
            sql!(
                tx,
                exec,
                "UPDATE tokens SET secret_name = $3 WHERE fleet_id = $1 AND id = $2",
                key.as_str(),
                id.as_str(),
                secret
            )?;
            changed = true;
        }

        if !changed {
            return self.unchanged(tx).await;
        }
        if found.state == TokenState::Revoked {
            tx.rollback().await?;
            let Locked { namespace, name, .. } = found;
            return Err(StoreError::Refused(format!(
                "token {namespace}/{name} is revoked, which is never undone: declare a new one"
            )));
        }
        sql!(
            tx,
            exec,
            "UPDATE tokens SET updated_at = $3 WHERE fleet_id = $1 AND id = $2",
            key,
            id,
            now.0
        )?;
        self.publish(tx, &Subject::Token(token), takes_away).await
    }

    /// Ends every revision; never undone. Who revoked it first stays noted; a second time nothing is written.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Fenced`]; those of any write.
    pub async fn revoke_token(&self, token: TokenId, by: RevokedBy) -> Result<FeedVersion> {
        let mut tx = self.store().begin().await?;
        if Locked::lock(self, &mut tx, token).await?.state == TokenState::Revoked {
            return self.unchanged(tx).await;
        }
        let now = tx.now().await?;
        let (key, id) = (self.key(), token.to_string());
        let revoke = "UPDATE tokens SET state = 'Revoked', state_by = $3, state_at = $4, updated_at = $4 WHERE fleet_id = $1 AND id = $2";
        sql!(tx, exec, revoke, key.as_str(), id.as_str(), by.as_stored(), now.0)?;
        let end = "UPDATE token_revisions SET state = 'Ended', ended_early = (ends_at > $3),
                ends_at = CASE WHEN ends_at > $3 THEN $3 ELSE ends_at END
            WHERE fleet_id = $1 AND token_id = $2 AND state <> 'Ended'";
        sql!(tx, exec, end, key, id, now.0)?;
        self.publish(tx, &Subject::Token(token), true).await
    }
}

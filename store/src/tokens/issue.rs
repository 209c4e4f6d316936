//! New values of a token: pending, in the Secret, active (contracts.md §2).

use super::{Locked, RevisionState, RevisionView};
use crate::clock::DbTime;
use crate::error::{Result, StoreError};
use crate::feed::{FeedVersion, Subject};
use crate::fleet::Fleet;
use crate::ids::{ProjectId, TokenId};
use crate::limits::Limit;
use crate::projects::ProjectState;
use crate::statement::{Conn, sql, stored};
use crate::token::TokenDigest;
use crate::tokens::{Owner, TokenState};

/// How long after its end a revision is still told from a value that never was (`token_expired`, not `token_not_found`).
const ENDED_KEPT_MS: i64 = 30 * 24 * 3_600_000;

/// A new revision, its token's row and (in a new period) its quota, in one transaction.
#[derive(Clone, Debug)]
pub struct PendingRevision {
    /// The token's resource.
    pub owner: Owner,
    /// Its project.
    pub project: ProjectId,
    /// The Secret that will hold the value.
    pub secret_name: String,
    /// The revision's number.
    pub revision: i64,
    /// SHA-256 of its value.
    pub digest: TokenDigest,
    /// Its public part.
    pub prefix: String,
    /// Lifetime in ms; the end is the database's clock + this.
    pub ttl_ms: i64,
    /// The quota's period. One that is newer than the token's opens a new quota; an older one is passed over.
    pub period: i64,
    /// The limit of a new token or a new period; within a period [`Fleet::change_token`] changes it, not this.
    pub max_requests: Option<u64>,
    /// Further limits of its own, in their order; of a token that is there already [`Fleet::change_token`] changes them, not this.
    pub limits: Vec<Limit>,
    /// The resource's `rotation.trigger`, noted with the revision: a later one that differs asks for a further revision.
    pub rotation_trigger: Option<String>,
}

impl Fleet {
    /// Adds a pending revision. A pending row of the same number is overwritten only if its write never began.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the project is not there or deleted; [`StoreError::Refused`] if the token is revoked, for that is never
    /// undone; [`StoreError::Fenced`]; those of any write.
    pub async fn insert_pending(&self, new: &PendingRevision) -> Result<(TokenId, FeedVersion)> {
        let mut tx = self.store().begin().await?;
        self.project_must_live(&mut tx, new.project).await?;
        let (id, found) = self.lock_or_insert(&mut tx, new).await?;
        let now = tx.now().await?;
        let takes_away = match &found {
            Some(found) => self.bring_up(&mut tx, id, found, new, now).await?,
            None => {
                self.put_quota(&mut tx, id, new.period, new.max_requests).await?;
                if !new.limits.is_empty() {
                    self.put_token_limits(&mut tx, id, &new.limits).await?;
                }
                false
            }
        };

        let (key, token) = (self.key(), id.to_string());
        let overwrite = "UPDATE token_revisions SET digest = $4, prefix = $5, epoch = $6, issued_at = $7, ends_at = $8, rotation_trigger = $9
            WHERE fleet_id = $1 AND token_id = $2 AND revision = $3 AND state = 'Pending' AND write_begun = FALSE";
        let (digest, prefix, epoch) = (new.digest.0.as_slice(), new.prefix.as_str(), self.epoch().unwrap_or(0));
        let (ends_at, trigger) = (now.plus_ms(new.ttl_ms), new.rotation_trigger.as_deref());
        if sql!(
            tx,
            exec,
            overwrite,
            key.as_str(),
            token.as_str(),
            new.revision,
            digest,
            prefix,
            epoch,
            now.0,
            ends_at.0,
            trigger
        )? == 0
        {
            let insert =
                "INSERT INTO token_revisions (fleet_id, token_id, revision, digest, prefix, epoch, state, issued_at, ends_at, rotation_trigger)
                VALUES ($1, $2, $3, $4, $5, $6, 'Pending', $7, $8, $9)";
            sql!(
                tx,
                exec,
                insert,
                key.as_str(),
                token.as_str(),
                new.revision,
                digest,
                prefix,
                epoch,
                now.0,
                ends_at.0,
                trigger
            )?;
        }
        Ok((id, self.publish(tx, &Subject::Token(id), takes_away).await?))
    }

    /// Notes, before the first byte is written, that the pending value may from now on be in the Secret.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the revision is not pending (any more): its value must not be delivered. [`StoreError::Fenced`]; those of
    /// any write.
    pub async fn begin_secret_write(&self, token: TokenId, digest: &TokenDigest) -> Result<()> {
        let mut tx = self.store().begin().await?;
        self.must_lead(&mut tx).await?;
        let begin = "UPDATE token_revisions SET write_begun = TRUE WHERE fleet_id = $1 AND token_id = $2 AND digest = $3 AND state = 'Pending'";
        match sql!(tx, exec, begin, self.key(), token.to_string(), digest.0.as_slice())? {
            0 => Err(StoreError::NotFound {
                what: format!("a pending revision of token {token} with this value"),
            }),
            _ => tx.commit().await,
        }
    }

    /// pending → active, only where still pending; then the previous active one becomes Previous with its end lowered to now + overlap
    /// (never raised), and all other pending rows end. Returns whether a row changed.
    ///
    /// An older overlap that still runs ends now, so that at most one value overlaps. Whatever ends at once that somebody may hold is
    /// a take-away; an end in the future is none.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the token is not there; [`StoreError::Fenced`]; those of any write.
    pub async fn activate(&self, token: TokenId, digest: &TokenDigest, overlap_ms: i64) -> Result<(bool, FeedVersion)> {
        let mut tx = self.store().begin().await?;
        Locked::lock(self, &mut tx, token).await?;
        let now = tx.now().await?;
        let (key, id) = (self.key(), token.to_string());
        let live = "SELECT revision, digest, prefix, state, write_begun, issued_at, ends_at, rotation_trigger FROM token_revisions
            WHERE fleet_id = $1 AND token_id = $2 AND state <> 'Ended'";
        let live = sql!(tx, all, live, key.as_str(), id.as_str())?
            .iter()
            .map(RevisionView::read)
            .collect::<Result<Vec<_>>>()?;
        if !live
            .iter()
            .any(|revision| revision.digest == *digest && revision.state == RevisionState::Pending)
        {
            return Ok((false, self.unchanged(tx).await?));
        }

        let mut takes_away = false;
        for replaced in live.iter().filter(|revision| revision.digest != *digest) {
            let end = succeed(replaced, now, overlap_ms);
            takes_away |= end.cuts_a_known_value;
            let update = "UPDATE token_revisions SET state = $2, ends_at = $3, ended_early = $4 WHERE digest = $1";
            sql!(
                tx,
                exec,
                update,
                replaced.digest.0.as_slice(),
                end.state.as_stored(),
                end.ends_at.0,
                end.early
            )?;
        }
        let promote = "UPDATE token_revisions SET state = 'Active' WHERE digest = $1 AND state = 'Pending'";
        sql!(tx, exec, promote, digest.0.as_slice())?;
        let forget = "DELETE FROM token_revisions WHERE fleet_id = $1 AND token_id = $2 AND state = 'Ended' AND ends_at < $3";
        sql!(tx, exec, forget, key, id, now.plus_ms(-ENDED_KEPT_MS).0)?;
        Ok((true, self.publish(tx, &Subject::Token(token), takes_away).await?))
    }

    /// Locks the project's row: one that is being deleted is waited for, and one that is deleted later finds this token.
    async fn project_must_live(&self, tx: &mut Conn, project: ProjectId) -> Result<()> {
        let lock = "UPDATE projects SET version = version WHERE fleet_id = $1 AND id = $2 RETURNING state";
        let row = sql!(tx, optional, lock, self.key(), project.to_string())?;
        match row.map(|row| row.parsed("state", "projects.state")).transpose()? {
            Some(ProjectState::Active | ProjectState::Inactive) => Ok(()),
            Some(ProjectState::Deleted) | None => Err(StoreError::NotFound {
                what: format!("project {project}"),
            }),
        }
    }

    /// The token's row under its lock, or `None` if it was inserted just now.
    async fn lock_or_insert(&self, tx: &mut Conn, new: &PendingRevision) -> Result<(TokenId, Option<Locked>)> {
        let upsert = "INSERT INTO tokens (fleet_id, id, project_id, origin, owner_cluster, owner_uid, namespace, name, state, state_at,
                period, max_requests, secret_name, created_at, updated_at)
            VALUES ($1, $2, $3, 'Resource', $4, $5, $6, $7, 'Active', (SELECT now_ms FROM clock), $8, $9, $10,
                (SELECT now_ms FROM clock), (SELECT now_ms FROM clock))
            ON CONFLICT (fleet_id, owner_cluster, owner_uid) DO UPDATE SET version = tokens.version + 1
            RETURNING id, project_id, state, period, max_requests, limits, secret_name, namespace, name";
        let fresh = TokenId::new();
        let (cluster, uid, namespace, name) = new.owner.columns();
        let (project, max, secret) = (new.project.to_string(), new.max_requests.map(stored), new.secret_name.as_str());
        let row = sql!(
            tx,
            one,
            upsert,
            self.key(),
            fresh.to_string(),
            project,
            cluster,
            uid,
            namespace,
            name,
            new.period,
            max,
            secret
        )?;
        let id: TokenId = row.parsed("id", "tokens.id")?;
        Ok((id, if id == fresh { None } else { Some(Locked::read(&row)?) }))
    }

    /// Brings an existing token's row to what the new revision says. Returns whether that takes something away.
    async fn bring_up(&self, tx: &mut Conn, id: TokenId, found: &Locked, new: &PendingRevision, now: DbTime) -> Result<bool> {
        if found.state == TokenState::Revoked {
            let Owner { namespace, name, .. } = &new.owner;
            return Err(StoreError::Refused(format!(
                "token {namespace}/{name} is revoked, which is never undone: declare a new one"
            )));
        }
        let opens_period = new.period > found.period;
        let (period, max) = if opens_period {
            (new.period, new.max_requests)
        } else {
            (found.period, found.max_requests)
        };
        let update = "UPDATE tokens SET project_id = $3, namespace = $4, name = $5, secret_name = $6, period = $7, max_requests = $8, updated_at = $9
            WHERE fleet_id = $1 AND id = $2";
        let (_, _, namespace, name) = new.owner.columns();
        let (project, secret, max_stored) = (new.project.to_string(), new.secret_name.as_str(), max.map(stored));
        sql!(
            tx,
            exec,
            update,
            self.key(),
            id.to_string(),
            project,
            namespace,
            name,
            secret,
            period,
            max_stored,
            now.0
        )?;
        if opens_period {
            self.put_quota(tx, id, period, max).await?;
        }
        // Another project has other credentials: what is known of the live revisions must go.
        Ok(found.project != new.project || (opens_period && found.is_narrowed_by(max)))
    }
}

/// What becomes of a live revision when another one is activated.
struct Succession {
    state: RevisionState,
    ends_at: DbTime,
    /// It would have lived longer.
    early: bool,
    /// Somebody may hold this value and it stops working now.
    cuts_a_known_value: bool,
}

fn succeed(replaced: &RevisionView, now: DbTime, overlap_ms: i64) -> Succession {
    let latest = match replaced.state {
        RevisionState::Active => now.plus_ms(overlap_ms.max(0)),
        // A pending value lost the race; a previous one had its overlap.
        RevisionState::Pending | RevisionState::Previous | RevisionState::Ended => now,
    };
    let ends_at = replaced.ends_at.min(latest);
    if ends_at > now {
        return Succession {
            state: RevisionState::Previous,
            ends_at,
            early: false,
            cuts_a_known_value: false,
        };
    }
    let early = replaced.ends_at > now;
    let known = replaced.state != RevisionState::Pending || replaced.write_begun;
    Succession {
        state: RevisionState::Ended,
        ends_at,
        early,
        cuts_a_known_value: early && known,
    }
}

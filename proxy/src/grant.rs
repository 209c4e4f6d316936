//! What a token may do, as the data threads hold it: a sharded digest → grant map. It is filled by the loader and emptied by the feed.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use store::{DbTime, ProjectId, Subject, TokenDigest, TokenId};

use crate::meter::Meter;
use crate::upstream::Upstream;

const SHARDS: usize = 64;

/// A token revision's rights. Immutable; a change makes it stale and the next request loads a new one.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) token: TokenId,
    pub(crate) token_name: Box<str>,
    pub(crate) project: ProjectId,
    pub(crate) project_name: Box<str>,
    pub(crate) standing: Standing,
    pub(crate) ends_at: DbTime,
    pub(crate) upstream: Option<Arc<Upstream>>,
    /// The limits that its requests are under, in the order in which they draw on them.
    pub(crate) meters: Box<[Arc<Meter>]>,
    /// Whether one of them counts what is known only at the end, so that it must be estimated before.
    pub(crate) needs_estimate: bool,
    /// Whether one of them is told of in the rate-limit headers.
    pub(crate) has_rates: bool,
    stale: AtomicBool,
}

/// Whether the token's rows let it in at all; expiry is a matter of the clock and decided per request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Live,
    /// Revoked, suspended or replaced.
    Inactive,
    ProjectInactive,
}

impl Grant {
    pub(crate) fn new(
        (token, token_name): (TokenId, String),
        (project, project_name): (ProjectId, String),
        standing: Standing,
        ends_at: DbTime,
        upstream: Option<Arc<Upstream>>,
        meters: Vec<Arc<Meter>>,
    ) -> Self {
        let (token_name, project_name) = (token_name.into_boxed_str(), project_name.into_boxed_str());
        Self {
            token,
            token_name,
            project,
            project_name,
            standing,
            ends_at,
            upstream,
            needs_estimate: meters.iter().any(|meter| meter.needs_estimate()),
            has_rates: meters.iter().any(|meter| meter.is_rate()),
            meters: meters.into(),
            stale: AtomicBool::new(false),
        }
    }

    /// Whether a change has come since this grant was loaded: no request may start on it.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    fn is_touched_by(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Fleet => true,
            Subject::Project(id) => *id == self.project,
            Subject::Token(id) => *id == self.token,
        }
    }
}

/// A digest is uniformly distributed already: its first bytes are the hash.
#[derive(Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
}

type Shard = HashMap<[u8; 32], Arc<Grant>, BuildHasherDefault<DigestHasher>>;

/// The grants in memory.
pub(crate) struct GrantTable {
    shards: Box<[RwLock<Shard>]>,
    per_shard: usize,
}

impl GrantTable {
    /// A table of at most about `capacity` grants.
    pub(crate) fn new(capacity: usize) -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::new(Shard::default())).collect();
        Self {
            shards,
            per_shard: (capacity / SHARDS).max(1),
        }
    }

    pub(crate) fn get(&self, digest: &TokenDigest) -> Option<Arc<Grant>> {
        self.shard(digest).read().unwrap_or_else(PoisonError::into_inner).get(&digest.0).cloned()
    }

    /// Puts a grant in; in a full shard any other one makes room, since it can be loaded again.
    pub(crate) fn insert(&self, digest: &TokenDigest, grant: Arc<Grant>) {
        let mut shard = self.shard(digest).write().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= self.per_shard && !shard.contains_key(&digest.0) {
            let victim = shard.keys().next().copied();
            // Changes reach only what is in the table: whoever still holds what leaves it has to load it again.
            if let Some(left) = victim.and_then(|victim| shard.remove(&victim)) {
                left.stale.store(true, Ordering::Release);
            }
        }
        if let Some(replaced) = shard.insert(digest.0, grant) {
            replaced.stale.store(true, Ordering::Release);
        }
    }

    /// Drops what `subject` touches and marks it stale for whoever holds it already. Returns how many.
    pub(crate) fn invalidate(&self, subject: &Subject) -> usize {
        let mut dropped = 0;
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).retain(|_, grant| {
                let touched = grant.is_touched_by(subject);
                if touched {
                    grant.stale.store(true, Ordering::Release);
                    dropped += 1;
                }
                !touched
            });
        }
        dropped
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    fn shard(&self, digest: &TokenDigest) -> &RwLock<Shard> {
        // The map's own hash uses the first bytes; the last one picks the shard.
        &self.shards[usize::from(digest.0[31]) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(token: TokenId, project: ProjectId) -> Arc<Grant> {
        Arc::new(Grant::new(
            (token, "ns/t".to_owned()),
            (project, "ns/p".to_owned()),
            Standing::Live,
            DbTime(i64::MAX),
            None,
            Vec::new(),
        ))
    }

    fn digest(n: u8) -> TokenDigest {
        TokenDigest([n; 32])
    }

    #[test]
    fn a_change_of_a_project_drops_its_tokens_and_marks_them_stale() {
        let table = GrantTable::new(1_000);
        let (a, b) = (ProjectId::new(), ProjectId::new());
        let (one, two) = (grant(TokenId::new(), a), grant(TokenId::new(), b));
        table.insert(&digest(1), Arc::clone(&one));
        table.insert(&digest(2), Arc::clone(&two));
        assert_eq!(table.invalidate(&Subject::Project(a)), 1);
        assert!(one.is_stale() && !two.is_stale());
        assert!(table.get(&digest(1)).is_none() && table.get(&digest(2)).is_some());
    }

    #[test]
    fn a_change_of_the_fleet_drops_everything() {
        let table = GrantTable::new(1_000);
        for n in 0..100 {
            table.insert(&digest(n), grant(TokenId::new(), ProjectId::new()));
        }
        assert_eq!(table.invalidate(&Subject::Fleet), 100);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_grant_that_leaves_the_table_is_stale_because_no_change_would_reach_it() {
        let table = GrantTable::new(SHARDS);
        let grants: Vec<_> = (0..2).map(|_| grant(TokenId::new(), ProjectId::new())).collect();
        let digest = |n: u8| {
            let mut digest = [n; 32];
            digest[31] = 0; // one shard
            TokenDigest(digest)
        };
        table.insert(&digest(1), Arc::clone(&grants[0]));
        table.insert(&digest(2), Arc::clone(&grants[1]));
        assert!(grants[0].is_stale() && !grants[1].is_stale());
        table.insert(&digest(2), grant(TokenId::new(), ProjectId::new()));
        assert!(grants[1].is_stale());
    }

    #[test]
    fn a_full_table_makes_room_and_never_grows() {
        let table = GrantTable::new(64);
        for n in 0..=255 {
            table.insert(&digest(n), grant(TokenId::new(), ProjectId::new()));
        }
        assert!(table.len() <= 64);
    }
}

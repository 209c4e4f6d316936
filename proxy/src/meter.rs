//! A limit that requests of this process are counted against, and the block of its present window. It refuses to know how blocks are filled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use store::{DbTime, GrantedLimit, LimitAction, LimitUnit, ProjectId, Subject, TokenId, Window, WindowQuota};

use crate::block::{Belonging, Block};

/// One limit, shared by all grants that are under it.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) unit: LimitUnit,
    pub(crate) window: Window,
    pub(crate) action: LimitAction,
    state: State,
}

#[derive(Debug)]
enum State {
    /// A quota that stands as long as its token's period.
    Fixed(Arc<Block>),
    /// A quota per window, opened when the first request asks for it.
    Rolling {
        limit: GrantedLimit,
        project: ProjectId,
        current: RwLock<Option<Arc<Block>>>,
    },
}

impl Meter {
    /// Of a token's lifetime requests.
    pub(crate) fn lifetime(block: Arc<Block>) -> Self {
        Self {
            unit: LimitUnit::Requests,
            window: Window::Lifetime,
            action: LimitAction::Block,
            state: State::Fixed(block),
        }
    }

    fn rolling(limit: GrantedLimit, project: ProjectId) -> Self {
        Self {
            unit: limit.unit,
            window: limit.window,
            action: limit.action,
            state: State::Rolling {
                limit,
                project,
                current: RwLock::default(),
            },
        }
    }

    /// The block to take from now; `None` if the window has none yet.
    pub(crate) fn block(&self, now: DbTime) -> Option<Arc<Block>> {
        match &self.state {
            State::Fixed(block) => Some(Arc::clone(block)),
            State::Rolling { current, .. } => {
                let current = current.read().unwrap_or_else(PoisonError::into_inner);
                current.as_ref().filter(|block| now < block.belongs.ends_at).cloned()
            }
        }
    }

    /// The quota to be opened for the window around now, and whose block it will be; `None` if there is nothing to open.
    pub(crate) fn wanted(&self, now: DbTime) -> Option<(WindowQuota, Belonging)> {
        let State::Rolling { limit, project, .. } = &self.state else {
            return None;
        };
        let (start, ends_at) = limit.window.around(now);
        let belongs = Belonging {
            token: self.token(),
            project: *project,
            ends_at,
            lifetime_requests: false,
        };
        Some((WindowQuota { limit: *limit, start }, belongs))
    }

    /// Puts in the block of a window.
    pub(crate) fn install(&self, block: Arc<Block>) {
        if let State::Rolling { current, .. } = &self.state {
            *current.write().unwrap_or_else(PoisonError::into_inner) = Some(block);
        }
    }

    /// Lets go of a block whose quota is gone from the database.
    pub(crate) fn forget(&self) {
        if let State::Rolling { current, .. } = &self.state {
            *current.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Lets go of the block of a window that has ended.
    fn close_window(&self, now: DbTime) {
        if let State::Rolling { current, .. } = &self.state {
            let mut current = current.write().unwrap_or_else(PoisonError::into_inner);
            if current.as_ref().is_some_and(|block| block.belongs.ends_at <= now) {
                *current = None;
            }
        }
    }

    /// The token that has the limit to itself; `None` if its project shares it.
    pub(crate) fn token(&self) -> Option<TokenId> {
        match &self.state {
            State::Fixed(block) => block.belongs.token,
            State::Rolling { limit, .. } => match limit.subject {
                Subject::Token(token) => Some(token),
                Subject::Project(_) | Subject::Fleet => None,
            },
        }
    }

    /// The limit as it is declared.
    pub(crate) fn max_units(&self) -> u64 {
        match &self.state {
            State::Fixed(block) => block.standing().max_units,
            State::Rolling { limit, .. } => limit.max_units,
        }
    }

    /// Whether what is used of it is known only when the answer has ended.
    pub(crate) fn needs_estimate(&self) -> bool {
        match self.unit {
            LimitUnit::Requests | LimitUnit::InFlight => false,
            LimitUnit::InputTokens | LimitUnit::OutputTokens | LimitUnit::TotalTokens | LimitUnit::Cost => true,
        }
    }

    /// Whether it is one that the rate-limit headers tell of: of requests or LLM tokens, over a window that ends.
    pub(crate) fn is_rate(&self) -> bool {
        self.window != Window::Lifetime && !matches!(self.unit, LimitUnit::Cost | LimitUnit::InFlight)
    }
}

/// Whose limit, of what, over which time.
type Key = (Subject, LimitUnit, Window);

/// The limits with windows of this process.
#[derive(Clone, Default)]
pub(crate) struct Meters(Arc<Mutex<HashMap<Key, Arc<Meter>>>>);

impl Meters {
    /// The meter of a limit: the same one for all grants that know the same limit. A changed limit gets another one, so that what the older
    /// one has at hand is not taken from any more.
    pub(crate) fn of(&self, limit: GrantedLimit, project: ProjectId) -> Arc<Meter> {
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (limit.subject, limit.unit, limit.window);
        let known = meters
            .get(&key)
            .filter(|meter| matches!(&meter.state, State::Rolling { limit: known, .. } if *known == limit));
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let fresh = Arc::new(Meter::rolling(limit, project));
        meters.insert(key, Arc::clone(&fresh));
        fresh
    }

    /// Forgets limits that no grant is under any more, and the blocks of windows that have ended.
    pub(crate) fn tidy(&self, now: DbTime) {
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        meters.retain(|_, meter| {
            meter.close_window(now);
            Arc::strong_count(meter) > 1
        });
    }
}

#[cfg(test)]
mod tests {
    use store::QuotaId;

    use super::*;

    fn limit(max_units: u64, version: i64) -> GrantedLimit {
        GrantedLimit {
            subject: Subject::Token(TokenId::new()),
            unit: LimitUnit::Requests,
            window: Window::Minute,
            max_units,
            action: LimitAction::Block,
            version,
        }
    }

    #[test]
    fn a_block_is_there_until_its_window_ends() {
        let meter = Meter::rolling(limit(5, 0), ProjectId::new());
        let now = DbTime(90_000);
        assert!(meter.block(now).is_none());
        let (quota, belongs) = meter.wanted(now).expect("a window");
        assert_eq!((quota.start, belongs.ends_at), (DbTime(60_000), DbTime(120_000)));
        meter.install(Arc::new(Block::new(QuotaId(1), belongs, 5)));
        assert!(meter.block(DbTime(119_999)).is_some());
        assert!(meter.block(DbTime(120_000)).is_none());
    }

    #[test]
    fn grants_share_a_meter_until_the_limit_changes_and_what_nobody_is_under_is_forgotten() {
        let (meters, project) = (Meters::default(), ProjectId::new());
        let first = limit(5, 1);
        let one = meters.of(first, project);
        assert!(Arc::ptr_eq(&one, &meters.of(first, project)));
        // The same figure again, after another one in between that this process may never have seen.
        let again = meters.of(GrantedLimit { version: 3, ..first }, project);
        assert!(!Arc::ptr_eq(&one, &again));
        meters.tidy(DbTime(0));
        assert!(Arc::ptr_eq(&again, &meters.of(GrantedLimit { version: 3, ..first }, project)));
        drop(again);
        meters.tidy(DbTime(0));
        assert!(meters.0.lock().expect("no panic").is_empty());
    }
}

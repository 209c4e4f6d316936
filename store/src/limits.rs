//! Limits as they are declared beside a token or a project, and which of them a token's requests are under.
//! It refuses to know what is used of them: that is the ledger's.

use serde::{Deserialize, Serialize};

use crate::error::{Result, StoreError};
use crate::feed::Subject;
use crate::ids::{ProjectId, TokenId};
use crate::statement::{Row, stored_as_text};
use crate::window::Window;

/// What a limit counts. In this order a request draws on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LimitUnit {
    /// Requests whose head went upstream.
    Requests,
    /// LLM tokens of prompts.
    InputTokens,
    /// LLM tokens of answers.
    OutputTokens,
    /// Both together.
    TotalTokens,
    /// Money, in USD micro-cents (10⁻⁸ USD).
    Cost,
    /// Requests under way at one moment: what is used of it comes back.
    InFlight,
}

stored_as_text!(LimitUnit {
    Requests = "Requests",
    InputTokens = "InputTokens",
    OutputTokens = "OutputTokens",
    TotalTokens = "TotalTokens",
    Cost = "Cost",
    InFlight = "InFlight",
});

/// Who draws on one limit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LimitScope {
    /// Each token has the limit to itself.
    Token,
    /// All tokens of the project share it.
    Project,
}

/// What happens to a request that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LimitAction {
    /// It is refused.
    Block,
    /// It is served, and told of.
    Warn,
}

/// A declared limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Limit {
    /// What is counted.
    pub unit: LimitUnit,
    /// Over which time.
    pub window: Window,
    /// By whom together. Of a token's own limits always `Token`.
    pub scope: LimitScope,
    /// The limit, in units.
    pub max_units: u64,
    /// What happens beyond it.
    pub action: LimitAction,
}

/// A limit that a token's requests are under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantedLimit {
    /// Who draws on it: the token, or the whole project. Never the fleet.
    pub subject: Subject,
    /// What is counted.
    pub unit: LimitUnit,
    /// Over which time.
    pub window: Window,
    /// The limit, in units.
    pub max_units: u64,
    /// What happens beyond it.
    pub action: LimitAction,
    /// Rises whenever the subject's limits change.
    pub version: i64,
}

/// Limits in the order in which they are stored and compared. Of two for the same thing the lower one counts.
#[must_use]
pub fn in_order(mut limits: Vec<Limit>) -> Vec<Limit> {
    limits.sort_unstable();
    limits.dedup_by_key(|limit| (limit.unit, limit.window, limit.scope));
    limits
}

/// The text that is stored.
pub(crate) fn to_text(limits: &[Limit]) -> String {
    // Plain values: there is nothing that could not be written.
    serde_json::to_string(limits).unwrap_or_else(|_| "[]".to_owned())
}

/// From a row's column.
pub(crate) fn read(row: &Row, column: &'static str, what: &'static str) -> Result<Vec<Limit>> {
    serde_json::from_str(&row.text(column)?).map_err(|error| StoreError::Corrupt {
        what,
        why: error.to_string(),
    })
}

/// Whether `now` lets through less than `before`.
pub(crate) fn is_narrowed(before: &[Limit], now: &[Limit]) -> bool {
    let same = |a: &Limit, b: &Limit| (a.unit, a.window, a.scope) == (b.unit, b.window, b.scope);
    now.iter().any(|limit| {
        before
            .iter()
            .find(|old| same(old, limit))
            .is_none_or(|old| limit.max_units < old.max_units || (limit.action == LimitAction::Block && old.action == LimitAction::Warn))
    })
}

/// The limits of a token's requests: its own, the project's for each token (of two for the same thing the lower one), and those that the whole
/// project shares. In the order in which a request draws on them.
pub(crate) fn granted(
    (token, own, own_version): (TokenId, &[Limit], i64),
    (project, shared, shared_version): (ProjectId, &[Limit], i64),
) -> Vec<GrantedLimit> {
    let mut granted = Vec::<GrantedLimit>::new();
    let for_tokens = shared.iter().filter(|limit| limit.scope == LimitScope::Token);
    for limit in own.iter().chain(for_tokens) {
        let known = granted.iter_mut().find(|known| (known.unit, known.window) == (limit.unit, limit.window));
        match known {
            // What blocks counts before what only warns, whichever is lower.
            Some(known) => {
                let lower = (limit.action, limit.max_units) < (known.action, known.max_units);
                if lower {
                    (known.action, known.max_units) = (limit.action, limit.max_units);
                }
            }
            None => granted.push(GrantedLimit {
                subject: Subject::Token(token),
                unit: limit.unit,
                window: limit.window,
                max_units: limit.max_units,
                action: limit.action,
                // A change of either raises it.
                version: own_version.saturating_add(shared_version),
            }),
        }
    }
    let of_project = shared.iter().filter(|limit| limit.scope == LimitScope::Project);
    granted.extend(of_project.map(|limit| GrantedLimit {
        subject: Subject::Project(project),
        unit: limit.unit,
        window: limit.window,
        max_units: limit.max_units,
        action: limit.action,
        version: shared_version,
    }));
    granted.sort_by_key(|limit| limit.unit);
    granted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(unit: LimitUnit, scope: LimitScope, max_units: u64) -> Limit {
        Limit {
            unit,
            window: Window::Minute,
            scope,
            max_units,
            action: LimitAction::Block,
        }
    }

    #[test]
    fn the_lower_of_a_tokens_own_limit_and_the_projects_for_each_token_counts() {
        let (token, project) = (TokenId::new(), ProjectId::new());
        let own = [
            limit(LimitUnit::TotalTokens, LimitScope::Token, 9),
            limit(LimitUnit::Requests, LimitScope::Token, 5),
        ];
        let shared = [
            limit(LimitUnit::Requests, LimitScope::Token, 3),
            limit(LimitUnit::Requests, LimitScope::Project, 4),
        ];
        let all = granted((token, &own, 2), (project, &shared, 3));
        let seen: Vec<_> = all.iter().map(|l| (l.subject, l.unit, l.max_units, l.version)).collect();
        assert_eq!(
            seen,
            [
                (Subject::Token(token), LimitUnit::Requests, 3, 5),
                (Subject::Project(project), LimitUnit::Requests, 4, 3),
                (Subject::Token(token), LimitUnit::TotalTokens, 9, 5),
            ]
        );
    }

    #[test]
    fn what_blocks_counts_before_what_only_warns() {
        let warns = Limit {
            action: LimitAction::Warn,
            ..limit(LimitUnit::Cost, LimitScope::Token, 1)
        };
        let blocks = limit(LimitUnit::Cost, LimitScope::Token, 7);
        let ids = (TokenId::new(), ProjectId::new());
        for (own, shared) in [([warns], [blocks]), ([blocks], [warns])] {
            let all = granted((ids.0, &own, 0), (ids.1, &shared, 0));
            assert_eq!((all.len(), all[0].action, all[0].max_units), (1, LimitAction::Block, 7));
        }
    }

    #[test]
    fn a_new_a_lower_and_a_hardened_limit_are_take_aways_and_the_opposites_are_not() {
        let (low, high) = (
            limit(LimitUnit::Requests, LimitScope::Token, 3),
            limit(LimitUnit::Requests, LimitScope::Token, 4),
        );
        let soft = Limit {
            action: LimitAction::Warn,
            ..low
        };
        for (before, now, narrowed) in [
            (vec![], vec![low], true),
            (vec![high], vec![low], true),
            (vec![soft], vec![low], true),
            (vec![low], vec![high], false),
            (vec![low], vec![soft], false),
            (vec![low], vec![], false),
            (vec![low], vec![low], false),
        ] {
            assert_eq!(is_narrowed(&before, &now), narrowed, "{before:?} {now:?}");
        }
    }

    #[test]
    fn stored_limits_have_one_order_and_one_limit_for_each_thing() {
        let (a, b) = (
            limit(LimitUnit::Requests, LimitScope::Token, 3),
            limit(LimitUnit::Cost, LimitScope::Project, 4),
        );
        let doubled = limit(LimitUnit::Requests, LimitScope::Token, 9);
        assert_eq!(in_order(vec![b, doubled, a]), [a, b]);
        assert_eq!(serde_json::from_str::<Vec<Limit>>(&to_text(&[a, b])).unwrap(), [a, b]);
    }
}

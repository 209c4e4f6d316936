//! Limits as users declare them: rates of requests and LLM tokens over fixed windows, and budgets of money.
//! It refuses to know what is used of them, and what models cost.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::money::{self, AMOUNT_PATTERN, MAX_AMOUNT};
use crate::schema::{self, CelRule, MAX_SAFE_INTEGER};
use crate::validate::{Violation, check};

/// The most rate limits of one resource.
pub(crate) const MAX_RATE_LIMITS: usize = 16;
/// The most budgets of one resource: one for each period.
pub(crate) const MAX_BUDGETS: usize = 4;
/// The most requests that a limit of those in flight may allow.
pub(crate) const MAX_IN_FLIGHT: i64 = 100_000;

pub(crate) const ONE_RATE_FOR_EACH: CelRule = CelRule {
    cel: "self.all(a, self.exists_one(b, a.unit == b.unit && a.period == b.period))",
    message: "must have one limit for each unit and period; remove the others",
    field_path: None,
};

pub(crate) const ONE_RATE_FOR_EACH_SCOPE: CelRule = CelRule {
    cel: "self.all(a, self.exists_one(b, a.unit == b.unit && a.period == b.period \
          && (has(a.scope) ? a.scope : 'Project') == (has(b.scope) ? b.scope : 'Project')))",
    message: "must have one limit for each unit, period and scope; remove the others",
    field_path: None,
};

pub(crate) const ONE_BUDGET_FOR_EACH: CelRule = CelRule {
    cel: "self.all(a, self.exists_one(b, a.period == b.period))",
    message: "must have one budget for each period; remove the others",
    field_path: None,
};

/// What a rate limit counts.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RateUnit {
    /// Requests that went to the provider.
    Requests,
    /// LLM tokens of prompts.
    InputTokens,
    /// LLM tokens of answers.
    OutputTokens,
    /// Both together.
    TotalTokens,
}

/// The window of a rate limit.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RatePeriod {
    /// Each minute.
    Minute,
    /// Each hour.
    Hour,
    /// Each day, from midnight UTC.
    Day,
}

/// Who draws on one limit together.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RateScope {
    /// Each token has the limit to itself.
    Token,
    /// All tokens of the project share it.
    #[default]
    Project,
}

/// A rate limit of one token.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(transform = schema::tidy)]
pub struct TokenRateLimit {
    /// What is counted. LLM tokens are reserved by an estimate before a request is sent, and settled to what the provider counted.
    pub unit: RateUnit,

    /// How many of them in each period, over all replicas of the fleet.
    #[schemars(range(min = 1, max = MAX_SAFE_INTEGER))]
    pub limit: i64,

    /// Minute, Hour or Day: fixed windows in UTC on the database's clock, exact in each window.
    pub period: RatePeriod,
}

/// A rate limit of a project.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(transform = schema::tidy)]
pub struct ProjectRateLimit {
    /// What is counted. LLM tokens are reserved by an estimate before a request is sent, and settled to what the provider counted.
    pub unit: RateUnit,

    /// How many of them in each period, over all replicas of the fleet.
    #[schemars(range(min = 1, max = MAX_SAFE_INTEGER))]
    pub limit: i64,

    /// Minute, Hour or Day: fixed windows in UTC on the database's clock, exact in each window.
    pub period: RatePeriod,

    /// Project (if unset): all tokens of the project share the limit. Token: each token has it to itself; of this and a limit of the token's own
    /// the lower one counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<RateScope>,
}

/// The window of a budget.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BudgetPeriod {
    /// Each day, from midnight UTC.
    Day,
    /// Each week, from Monday midnight UTC.
    Week,
    /// Each calendar month, UTC.
    Month,
    /// All time.
    Total,
}

/// What happens to a request beyond a budget.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BudgetAction {
    /// It is refused.
    #[default]
    Block,
    /// It is served, and the log says once in each period that the budget is passed.
    Warn,
}

/// An amount of money that may be spent in each period.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(transform = schema::tidy)]
pub struct Budget {
    /// Day, Week, Month or Total: windows in UTC on the database's clock; weeks begin on Monday.
    pub period: BudgetPeriod,

    /// How much, in USD: a decimal number in quotes with at most six decimals, such as "500" or "0.25". What a request costs follows from the
    /// prices of its provider's models; with a budget that blocks, a model without a price is refused.
    #[schemars(length(min = 1, max = MAX_AMOUNT), regex(pattern = AMOUNT_PATTERN))]
    pub amount: String,

    /// Block (if unset): a request that does not fit is refused. Warn: it is served, and the log says once in each period that the budget is passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<BudgetAction>,
}

impl Budget {
    /// The amount in USD micro-cents (10⁻⁸ USD); none if it is no amount.
    #[must_use]
    pub fn micro_cents(&self) -> Option<u64> {
        money::micro_cents(&self.amount).ok()
    }
}

/// Every rule that a token's rate limits break.
pub(crate) fn judge_token_rates(rates: &[TokenRateLimit], path: &str, found: &mut Vec<Violation>) {
    judge_count(rates.len(), MAX_RATE_LIMITS, path, found);
    for (index, rate) in rates.iter().enumerate() {
        judge_limit(rate.limit, &format!("{path}[{index}].limit"), found);
    }
    let keys: Vec<_> = rates.iter().map(|rate| (rate.unit, rate.period)).collect();
    judge_each_once(&keys, path, ONE_RATE_FOR_EACH.message, found);
}

/// Every rule that a project's rate limits break.
pub(crate) fn judge_project_rates(rates: &[ProjectRateLimit], path: &str, found: &mut Vec<Violation>) {
    judge_count(rates.len(), MAX_RATE_LIMITS, path, found);
    for (index, rate) in rates.iter().enumerate() {
        judge_limit(rate.limit, &format!("{path}[{index}].limit"), found);
    }
    let keys: Vec<_> = rates
        .iter()
        .map(|rate| (rate.unit, rate.period, rate.scope.unwrap_or_default()))
        .collect();
    judge_each_once(&keys, path, ONE_RATE_FOR_EACH_SCOPE.message, found);
}

/// Every rule that budgets break.
pub(crate) fn judge_budgets(budgets: &[Budget], path: &str, found: &mut Vec<Violation>) {
    judge_count(budgets.len(), MAX_BUDGETS, path, found);
    for (index, budget) in budgets.iter().enumerate() {
        check(found, format!("{path}[{index}].amount"), money::micro_cents(&budget.amount).map(drop));
    }
    let keys: Vec<_> = budgets.iter().map(|budget| budget.period).collect();
    judge_each_once(&keys, path, ONE_BUDGET_FOR_EACH.message, found);
}

fn judge_count(count: usize, most: usize, path: &str, found: &mut Vec<Violation>) {
    if count > most {
        found.push(Violation::new(path, format!("must have at most {most} items; it has {count}")));
    }
}

fn judge_limit(limit: i64, path: &str, found: &mut Vec<Violation>) {
    if !(1..=MAX_SAFE_INTEGER).contains(&limit) {
        found.push(Violation::new(path, "must be at least 1 and at most 9007199254740991"));
    }
}

fn judge_each_once<K: PartialEq>(keys: &[K], path: &str, message: &str, found: &mut Vec<Violation>) {
    if (1..keys.len()).any(|index| keys[..index].contains(&keys[index])) {
        found.push(Violation::new(path, message));
    }
}

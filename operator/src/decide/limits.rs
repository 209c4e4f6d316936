//! Declared limits and prices as rows. It refuses to know who is under them.

use crds::{Budget, BudgetAction, BudgetPeriod, LlmProjectSpec, ModelPrice, RatePeriod, RateScope, RateUnit, WitheringTokenSpec};
use serde::Serialize;
use store::{Limit, LimitAction, LimitScope, LimitUnit, Window, limits_in_order};

/// A token's own limits, besides its lifetime requests.
pub(super) fn of_token(spec: &WitheringTokenSpec) -> Vec<Limit> {
    let mut limits: Vec<_> = spec
        .rate_limits
        .iter()
        .flatten()
        .filter_map(|rate| self::rate(rate.unit, rate.period, rate.limit, LimitScope::Token))
        .collect();
    limits.extend(spec.budgets.iter().flatten().filter_map(|budget| self::budget(budget, LimitScope::Token)));
    let slots = spec.max_in_flight.and_then(|max| u64::try_from(max).ok());
    limits.extend(slots.map(|max_units| Limit {
        unit: LimitUnit::InFlight,
        window: Window::Lifetime,
        scope: LimitScope::Token,
        max_units,
        action: LimitAction::Block,
    }));
    limits_in_order(limits)
}

/// What a project's tokens are under, each for itself or together.
pub(super) fn of_project(spec: &LlmProjectSpec) -> Vec<Limit> {
    let scope = |scope: Option<RateScope>| match scope.unwrap_or_default() {
        RateScope::Token => LimitScope::Token,
        RateScope::Project => LimitScope::Project,
    };
    let mut limits: Vec<_> = spec
        .rate_limits
        .iter()
        .flatten()
        .filter_map(|rate| self::rate(rate.unit, rate.period, rate.limit, scope(rate.scope)))
        .collect();
    limits.extend(
        spec.budgets
            .iter()
            .flatten()
            .filter_map(|budget| self::budget(budget, LimitScope::Project)),
    );
    limits_in_order(limits)
}

fn rate(unit: RateUnit, period: RatePeriod, limit: i64, scope: LimitScope) -> Option<Limit> {
    Some(Limit {
        unit: match unit {
            RateUnit::Requests => LimitUnit::Requests,
            RateUnit::InputTokens => LimitUnit::InputTokens,
            RateUnit::OutputTokens => LimitUnit::OutputTokens,
            RateUnit::TotalTokens => LimitUnit::TotalTokens,
        },
        window: match period {
            RatePeriod::Minute => Window::Minute,
            RatePeriod::Hour => Window::Hour,
            RatePeriod::Day => Window::Day,
        },
        scope,
        max_units: u64::try_from(limit).ok()?,
        action: LimitAction::Block,
    })
}

fn budget(budget: &Budget, scope: LimitScope) -> Option<Limit> {
    Some(Limit {
        unit: LimitUnit::Cost,
        window: match budget.period {
            BudgetPeriod::Day => Window::Day,
            BudgetPeriod::Week => Window::Week,
            BudgetPeriod::Month => Window::Month,
            BudgetPeriod::Total => Window::Lifetime,
        },
        scope,
        max_units: budget.micro_cents()?,
        action: match budget.action.unwrap_or_default() {
            BudgetAction::Block => LimitAction::Block,
            BudgetAction::Warn => LimitAction::Warn,
        },
    })
}

/// A price as the data plane reads it, in USD micro-cents per 1,000,000 tokens.
#[derive(Serialize)]
struct PriceRow<'a> {
    model: &'a str,
    input: u64,
    cached: u64,
    output: u64,
    reasoning: u64,
}

/// The text of a provider's prices.
pub(super) fn prices(declared: Option<&[ModelPrice]>) -> String {
    let row = |price: &ModelPrice| {
        let [input, cached, output, reasoning] = price.micro_cents()?;
        let row = PriceRow {
            model: &price.model,
            input,
            cached,
            output,
            reasoning,
        };
        serde_json::to_string(&row).ok()
    };
    let mut rows: Vec<_> = declared.unwrap_or_default().iter().filter_map(row).collect();
    // One order, so that another one in the manifest is no change.
    rows.sort_unstable();
    format!("[{}]", rows.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_limits_become_rows_in_their_order() {
        let spec: WitheringTokenSpec = serde_yaml::from_str(
            "{projectRef: {name: p}, maxInFlight: 4, budgets: [{period: Month, amount: '12.5', action: Warn}, {period: Total, amount: '1'}],
              rateLimits: [{unit: TotalTokens, limit: 1000, period: Hour}, {unit: Requests, limit: 60, period: Minute}]}",
        )
        .unwrap();
        let seen: Vec<_> = of_token(&spec)
            .iter()
            .map(|l| (l.unit, l.window, l.scope, l.max_units, l.action))
            .collect();
        let (token, block) = (LimitScope::Token, LimitAction::Block);
        assert_eq!(
            seen,
            [
                (LimitUnit::Requests, Window::Minute, token, 60, block),
                (LimitUnit::TotalTokens, Window::Hour, token, 1_000, block),
                (LimitUnit::Cost, Window::Month, token, 1_250_000_000, LimitAction::Warn),
                (LimitUnit::Cost, Window::Lifetime, token, 100_000_000, block),
                (LimitUnit::InFlight, Window::Lifetime, token, 4, block),
            ]
        );
    }

    #[test]
    fn a_projects_limits_are_shared_unless_they_say_token() {
        let spec: LlmProjectSpec = serde_yaml::from_str(
            "{proxyRef: {name: f}, providers: [{name: p}], budgets: [{period: Day, amount: '1'}],
              rateLimits: [{unit: Requests, limit: 5, period: Day}, {unit: Requests, limit: 3, period: Day, scope: Token}]}",
        )
        .unwrap();
        let seen: Vec<_> = of_project(&spec).iter().map(|l| (l.unit, l.scope, l.max_units)).collect();
        assert_eq!(
            seen,
            [
                (LimitUnit::Requests, LimitScope::Token, 3),
                (LimitUnit::Requests, LimitScope::Project, 5),
                (LimitUnit::Cost, LimitScope::Project, 100_000_000),
            ]
        );
    }

    #[test]
    fn prices_are_written_as_the_data_plane_reads_them() {
        let declared: Vec<ModelPrice> =
            serde_yaml::from_str("[{model: b, input: '2.50', output: '10', cachedInput: '1.25'}, {model: 'a*', input: '0', output: '0'}]").unwrap();
        assert_eq!(
            prices(Some(&declared)),
            r#"[{"model":"a*","input":0,"cached":0,"output":0,"reasoning":0},{"model":"b","input":250000000,"cached":125000000,"output":1000000000,"reasoning":1000000000}]"#
        );
        assert_eq!(prices(None), "[]");
    }
}

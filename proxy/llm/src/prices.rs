//! What a request costs: the built-in price list, prices that go before it, and the sum, rounded up once per request.
//! It refuses to know budgets. The list's source and date stand in `prices/openai.csv`.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::Usage;

const BUILT_IN: &str = include_str!("../prices/openai.csv");
const PER_TOKENS: u128 = 1_000_000;

/// What 1,000,000 tokens of a model cost, in USD micro-cents (10⁻⁸ USD).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Of the prompt, as far as the provider did not have it in its cache.
    pub input: u64,
    /// Of the prompt out of the provider's cache.
    pub cached: u64,
    /// Of the answer, as far as it was not reasoning.
    pub output: u64,
    /// Of reasoning.
    pub reasoning: u64,
}

impl Price {
    /// For models that cost nothing, such as Echo's.
    pub const FREE: Self = Self {
        input: 0,
        cached: 0,
        output: 0,
        reasoning: 0,
    };

    /// What one request costs, in micro-cents, rounded up.
    #[must_use]
    pub fn of(&self, usage: &Usage) -> u64 {
        let parts = [
            (usage.input.saturating_sub(usage.cached), self.input),
            (usage.cached, self.cached),
            (usage.output.saturating_sub(usage.reasoning), self.output),
            (usage.reasoning, self.reasoning),
        ];
        let sum: u128 = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(*price)).sum();
        u64::try_from(sum.div_ceil(PER_TOKENS)).unwrap_or(u64::MAX)
    }

    /// What one request costs at most, if it takes so many tokens: no part of it counts as cheaper than the dearest that it could be.
    #[must_use]
    pub fn at_most(&self, input: u64, output: u64) -> u64 {
        let dearest = Self {
            input: self.input.max(self.cached),
            output: self.output.max(self.reasoning),
            ..Self::FREE
        };
        dearest.of(&Usage {
            input,
            output,
            ..Usage::default()
        })
    }
}

/// A price that somebody set, for one model or for all whose names begin alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceRule {
    /// The model's name, or the beginning of names and `*`.
    pub model: String,
    /// What it costs.
    #[serde(flatten)]
    pub price: Price,
}

/// The prices of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceList {
    /// Those without `*` first, then by falling length: the first that fits is the closest.
    rules: Vec<PriceRule>,
    /// Whether what no rule names costs nothing, rather than what the built-in list says.
    otherwise_free: bool,
}

impl PriceList {
    /// These rules before the built-in list; of several that fit a model the one with the longest name counts, an exact one before all.
    #[must_use]
    pub fn new(mut rules: Vec<PriceRule>) -> Self {
        rules.sort_by_key(|rule| (rule.model.ends_with('*'), std::cmp::Reverse(rule.model.len())));
        Self {
            rules,
            otherwise_free: false,
        }
    }

    /// The same; what no rule names is free.
    #[must_use]
    pub fn otherwise_free(self) -> Self {
        Self {
            otherwise_free: true,
            ..self
        }
    }

    /// What a model costs; `None` if nobody has said.
    #[must_use]
    pub fn price_of(&self, model: &str) -> Option<Price> {
        let fits = |rule: &&PriceRule| match rule.model.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => model == rule.model,
        };
        match self.rules.iter().find(fits) {
            Some(rule) => Some(rule.price),
            None if self.otherwise_free => Some(Price::FREE),
            None => built_in(model).or_else(|| built_in(without_date(model)?)),
        }
    }
}

/// A price out of the built-in list. It is asked for at every request that is metered, so it is read once and found by halving.
fn built_in(model: &str) -> Option<Price> {
    static SORTED: LazyLock<Vec<(&str, Price)>> = LazyLock::new(|| {
        let mut all: Vec<_> = rows().filter_map(|(name, columns)| Some((name, read(columns)?))).collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    });
    let at = SORTED.binary_search_by_key(&model, |(name, _)| name).ok()?;
    SORTED.get(at).map(|(_, price)| *price)
}

fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    BUILT_IN
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(','))
}

fn read(columns: &str) -> Option<Price> {
    let mut columns = columns.split(',').map(|column| column.parse::<u64>().ok());
    let (input, cached, output, reasoning) = (columns.next()??, columns.next()?, columns.next()??, columns.next()?);
    Some(Price {
        input,
        cached: cached.unwrap_or(input),
        output,
        reasoning: reasoning.unwrap_or(output),
    })
}

/// `gpt-4o-2024-08-06` costs what `gpt-4o` does, unless it is named itself.
fn without_date(model: &str) -> Option<&str> {
    let (name, date) = model.split_at_checked(model.len().checked_sub("-2024-08-06".len())?)?;
    let is_date = date.bytes().enumerate().all(|(at, byte)| match at {
        0 | 5 | 8 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    is_date.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, cached: u64, output: u64, reasoning: u64) -> Usage {
        Usage {
            input,
            cached,
            output,
            reasoning,
        }
    }

    #[test]
    fn the_built_in_list_is_whole_sorted_and_says_where_it_is_from() {
        let names: Vec<_> = rows().map(|(name, _)| name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert!(names.len() > 20);
        for (name, columns) in rows() {
            assert!(read(columns).is_some(), "{name}: {columns}");
        }
        assert!(BUILT_IN.contains("Source: https://") && BUILT_IN.contains("As of 20"));
    }

    #[test]
    fn a_dated_model_costs_what_the_undated_one_does() {
        let list = PriceList::default();
        let gpt_4o = list.price_of("gpt-4o").unwrap();
        assert_eq!((gpt_4o.input, gpt_4o.cached, gpt_4o.output), (250_000_000, 125_000_000, 1_000_000_000));
        assert_eq!(list.price_of("gpt-4o-2024-08-06"), Some(gpt_4o));
        for unknown in ["gpt-4o-2024-08-6", "gpt", "", "gpt-4o,", "#", "-2024-08-06", "über-2024-08-06"] {
            assert_eq!(list.price_of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_closest_rule_counts_before_the_built_in_list() {
        let rule = |model: &str, input| PriceRule {
            model: model.to_owned(),
            price: Price { input, ..Price::FREE },
        };
        let list = PriceList::new(vec![rule("*", 1), rule("gpt-4o*", 2), rule("gpt-4o-mini", 3), rule("gpt-4*", 4)]);
        let input = |model| list.price_of(model).map(|price| price.input);
        assert_eq!(
            [
                input("llama"),
                input("gpt-4o"),
                input("gpt-4o-mini"),
                input("gpt-4.1"),
                input("gpt-4o-mini-2024-07-18")
            ],
            [Some(1), Some(2), Some(3), Some(4), Some(2)]
        );
        assert_eq!(PriceList::new(vec![]).otherwise_free().price_of("echo"), Some(Price::FREE));
    }

    #[test]
    fn a_request_is_rounded_up_once_and_parts_are_told_apart() {
        let price = Price {
            input: 1_000_000,
            cached: 100_000,
            output: 4_000_000,
            reasoning: 5_000_000,
        };
        assert_eq!(price.of(&usage(0, 0, 0, 0)), 0);
        assert_eq!(price.of(&usage(10, 0, 0, 0)), 10);
        assert_eq!(price.of(&usage(10, 10, 0, 0)), 1);
        assert_eq!(price.of(&usage(11, 10, 0, 0)), 2);
        assert_eq!(price.of(&usage(10, 1, 10, 4)), 9 + 24 + 20 + 1, "0.1 more is rounded up");
        assert_eq!(price.at_most(10, 10), 10 + 50);
        assert_eq!(price.of(&usage(u64::MAX, 0, u64::MAX, 0)), u64::MAX);
    }

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        let rule = PriceRule {
            model: "llama*".to_owned(),
            price: Price {
                input: 1,
                cached: 2,
                output: 3,
                reasoning: 4,
            },
        };
        let text = serde_json::to_string(&rule).unwrap();
        assert_eq!(text, r#"{"model":"llama*","input":1,"cached":2,"output":3,"reasoning":4}"#);
        assert_eq!(serde_json::from_str::<PriceRule>(&text).unwrap(), rule);
    }
}

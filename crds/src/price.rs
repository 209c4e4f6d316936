//! What a provider's models cost, where that differs from the built-in price list or is not in it.
//! It refuses to know that list.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::money::{self, AMOUNT_PATTERN, MAX_AMOUNT};
use crate::schema;
use crate::validate::{Violation, check};

/// The most prices of one provider.
pub(crate) const MAX_PRICES: usize = 128;
/// The longest name of a model that is told apart.
const MAX_MODEL: usize = 128;
/// Anything without white space, and a `*` only at the end.
const MODEL_PATTERN: &str = r"^[^*\s]*\*?$";

const UNIQUE_MODEL: &str = "stands in the list twice; give each model one price";

/// What 1,000,000 LLM tokens of a model cost, in USD.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct ModelPrice {
    /// The model's name as requests say it, or the beginning of names followed by `*`; `*` alone is every model. The closest one counts.
    #[schemars(length(min = 1, max = MAX_MODEL), regex(pattern = MODEL_PATTERN))]
    pub model: String,

    /// USD per 1,000,000 input tokens: a decimal number in quotes with at most six decimals, such as "2.50".
    #[schemars(length(min = 1, max = MAX_AMOUNT), regex(pattern = AMOUNT_PATTERN))]
    pub input: String,

    /// USD per 1,000,000 output tokens.
    #[schemars(length(min = 1, max = MAX_AMOUNT), regex(pattern = AMOUNT_PATTERN))]
    pub output: String,

    /// USD per 1,000,000 input tokens that the provider had in its cache; what input costs if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_AMOUNT), regex(pattern = AMOUNT_PATTERN))]
    pub cached_input: Option<String>,

    /// USD per 1,000,000 output tokens spent on reasoning; what output costs if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_AMOUNT), regex(pattern = AMOUNT_PATTERN))]
    pub reasoning: Option<String>,
}

impl ModelPrice {
    /// Input, cached input, output and reasoning, in USD micro-cents (10⁻⁸ USD) per 1,000,000 tokens; none if one is no amount.
    #[must_use]
    pub fn micro_cents(&self) -> Option<[u64; 4]> {
        let read = |text: &str| money::micro_cents(text).ok();
        let (input, output) = (read(&self.input)?, read(&self.output)?);
        let or = |text: Option<&str>, otherwise| text.map_or(Some(otherwise), read);
        Some([
            input,
            or(self.cached_input.as_deref(), input)?,
            output,
            or(self.reasoning.as_deref(), output)?,
        ])
    }
}

/// Every rule that prices break.
pub(crate) fn judge(prices: &[ModelPrice], path: &str, found: &mut Vec<Violation>) {
    if prices.len() > MAX_PRICES {
        found.push(Violation::new(
            path,
            format!("must have at most {MAX_PRICES} items; it has {}", prices.len()),
        ));
    }
    for (index, price) in prices.iter().enumerate() {
        let at = format!("{path}[{index}]");
        let stem = price.model.strip_suffix('*').unwrap_or(&price.model);
        let length = price.model.chars().count();
        if !(1..=MAX_MODEL).contains(&length) || stem.contains(|c: char| c == '*' || c.is_ascii_whitespace() || c == '\u{b}') {
            let why = format!("must be 1 to {MAX_MODEL} characters without white space, with a '*' at the end at most");
            found.push(Violation::new(format!("{at}.model"), why));
        }
        if prices[..index].iter().any(|other| other.model == price.model) {
            found.push(Violation::new(format!("{at}.model"), UNIQUE_MODEL));
        }
        let amounts = [
            ("input", Some(&price.input)),
            ("output", Some(&price.output)),
            ("cachedInput", price.cached_input.as_ref()),
            ("reasoning", price.reasoning.as_ref()),
        ];
        for (name, amount) in amounts {
            if let Some(amount) = amount {
                check(found, format!("{at}.{name}"), money::micro_cents(amount).map(drop));
            }
        }
    }
}

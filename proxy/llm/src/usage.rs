//! Token counts as providers report them, in both of OpenAI's vocabularies.
//! It refuses to know prices, limits and where in an answer the report stands.

use serde_json::Value;

/// Tokens of one request, as the provider counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens, the cached ones among them.
    pub input: u64,
    /// Prompt tokens that the provider read from its cache; never more than `input`.
    pub cached: u64,
    /// Generated tokens, the reasoning ones among them.
    pub output: u64,
    /// Tokens generated for reasoning; never more than `output`.
    pub reasoning: u64,
}

/// Above this a count is absurd: a thousand times the largest context window on offer in 2026.
const MOST_TOKENS: u64 = 1_000_000_000;

enum Count {
    /// Not there, or null.
    Absent,
    Tokens(u64),
    /// Not a whole number from 0 to [`MOST_TOKENS`].
    Absurd,
}

impl Usage {
    /// Reads a `usage` object: chat and text completions and embeddings say `prompt_tokens` and `completion_tokens`, the others `input_tokens` and
    /// `output_tokens`; where both stand, the former count.
    ///
    /// An absurd count (negative, a fraction, beyond 10⁹, no number) makes the whole report absent: the caller then estimates, instead of booking
    /// nonsense. Of prompt and output one may be missing and is then taken from `total_tokens`; a missing output without a total is 0, as
    /// embeddings have it. A total that contradicts its parts is passed over. Details that exceed their whole are clamped to it; absurd details
    /// are 0.
    #[must_use]
    pub fn read(object: &[u8]) -> Option<Self> {
        let report: Value = serde_json::from_slice(object).ok()?;
        let input = count(&report, ["prompt_tokens", "input_tokens"]);
        let output = count(&report, ["completion_tokens", "output_tokens"]);
        let total = match count(&report, ["total_tokens"]) {
            Count::Tokens(total) => Some(total),
            Count::Absent | Count::Absurd => None,
        };
        let (input, output) = match (input, output) {
            (Count::Tokens(input), Count::Tokens(output)) => (input, output),
            (Count::Tokens(input), Count::Absent) => (input, total.and_then(|total| total.checked_sub(input)).unwrap_or(0)),
            (Count::Absent, Count::Tokens(output)) => (total?.checked_sub(output)?, output),
            (Count::Absent, Count::Absent) | (Count::Absurd, _) | (_, Count::Absurd) => return None,
        };
        let cached = detail(&report, ["prompt_tokens_details", "input_tokens_details"], "cached_tokens");
        let reasoning = detail(&report, ["completion_tokens_details", "output_tokens_details"], "reasoning_tokens");
        Some(Self {
            input,
            cached: cached.min(input),
            output,
            reasoning: reasoning.min(output),
        })
    }
}

/// The first of the names that is there.
fn count<const N: usize>(report: &Value, names: [&str; N]) -> Count {
    let Some(value) = names.iter().find_map(|name| report.get(name).filter(|value| !value.is_null())) else {
        return Count::Absent;
    };
    // Some servers write whole numbers as 12.0.
    let tokens = value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|number| number.fract() == 0.0 && *number >= 0.0)
            .map(|number| number as u64)
    });
    match tokens {
        Some(tokens) if tokens <= MOST_TOKENS => Count::Tokens(tokens),
        _ => Count::Absurd,
    }
}

fn detail(report: &Value, groups: [&str; 2], name: &str) -> u64 {
    let group = groups.iter().find_map(|group| report.get(group).filter(|value| value.is_object()));
    match group.map(|group| count(group, [name])) {
        Some(Count::Tokens(tokens)) => tokens,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;

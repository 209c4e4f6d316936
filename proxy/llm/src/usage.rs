//! Token counts as providers report them, in both of OpenAI's vocabularies.
//! It refuses to know prices, limits and where in an answer the report stands.

use crate::scan::{Cursor, Fault};

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

/// What stands where a count should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Count {
    /// Not there, or null.
    #[default]
    Absent,
    Tokens(u64),
    /// Not a whole number from 0 to [`MOST_TOKENS`].
    Absurd,
}

/// The members of a report that are read, each under the two names that it may have. Of a name that stands twice the last counts.
#[derive(Default)]
struct Report {
    input: [Count; 2],
    output: [Count; 2],
    total: Count,
    /// Absent: not an object.
    cached: [Option<Count>; 2],
    reasoning: [Option<Count>; 2],
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
        let mut cursor = Cursor::new(str::from_utf8(object).ok()?);
        let usage = Self::read_at(&mut cursor).ok()?;
        // Behind the object nothing may follow.
        usage.filter(|_| cursor.next_token().is_none())
    }

    /// Reads the `usage` object on which the cursor stands, and steps over it. Nothing is allocated: this is done for every request.
    pub(crate) fn read_at(cursor: &mut Cursor<'_>) -> Result<Option<Self>, Fault> {
        let mut report = Report::default();
        cursor.object(|cursor, key| {
            let name = key.name()?;
            match &*name {
                "prompt_tokens" => report.input[0] = read_count(cursor)?,
                "input_tokens" => report.input[1] = read_count(cursor)?,
                "completion_tokens" => report.output[0] = read_count(cursor)?,
                "output_tokens" => report.output[1] = read_count(cursor)?,
                "total_tokens" => report.total = read_count(cursor)?,
                "prompt_tokens_details" => report.cached[0] = read_detail(cursor, "cached_tokens")?,
                "input_tokens_details" => report.cached[1] = read_detail(cursor, "cached_tokens")?,
                "completion_tokens_details" => report.reasoning[0] = read_detail(cursor, "reasoning_tokens")?,
                "output_tokens_details" => report.reasoning[1] = read_detail(cursor, "reasoning_tokens")?,
                _ => {
                    cursor.value(1)?;
                }
            }
            Ok::<(), Fault>(())
        })?;
        Ok(report.usage())
    }
}

impl Report {
    fn usage(self) -> Option<Usage> {
        let total = match self.total {
            Count::Tokens(total) => Some(total),
            Count::Absent | Count::Absurd => None,
        };
        let (input, output) = match (first(self.input), first(self.output)) {
            (Count::Tokens(input), Count::Tokens(output)) => (input, output),
            (Count::Tokens(input), Count::Absent) => (input, total.and_then(|total| total.checked_sub(input)).unwrap_or(0)),
            (Count::Absent, Count::Tokens(output)) => (total?.checked_sub(output)?, output),
            (Count::Absent, Count::Absent) | (Count::Absurd, _) | (_, Count::Absurd) => return None,
        };
        let detail = |groups: [Option<Count>; 2]| match groups[0].or(groups[1]) {
            Some(Count::Tokens(tokens)) => tokens,
            _ => 0,
        };
        Some(Usage {
            input,
            cached: detail(self.cached).min(input),
            output,
            reasoning: detail(self.reasoning).min(output),
        })
    }
}

/// The first that is there.
fn first(counts: [Count; 2]) -> Count {
    if counts[0] == Count::Absent { counts[1] } else { counts[0] }
}

fn read_count(cursor: &mut Cursor<'_>) -> Result<Count, Fault> {
    let value = cursor.value(2)?;
    Ok(count(cursor.slice(&value)))
}

/// The count of this name in the object on which the cursor stands; none if it is no object.
fn read_detail(cursor: &mut Cursor<'_>, name: &str) -> Result<Option<Count>, Fault> {
    if cursor.next_token() != Some(b'{') {
        cursor.value(2)?;
        return Ok(None);
    }
    let mut found = Count::Absent;
    cursor.object(|cursor, key| {
        if key.name()? == name {
            found = read_count(cursor)?;
        } else {
            cursor.value(3)?;
        }
        Ok::<(), Fault>(())
    })?;
    Ok(Some(found))
}

/// The count that a value's text says.
fn count(value: &str) -> Count {
    let tokens = if value == "null" {
        return Count::Absent;
    } else if value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().ok()
    } else if value.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        // Some servers write whole numbers as 12.0.
        let number: Option<f64> = value.parse().ok();
        number
            .filter(|number| number.fract() == 0.0 && *number >= 0.0)
            .map(|number| number as u64)
    } else {
        None
    };
    match tokens {
        Some(tokens) if tokens <= MOST_TOKENS => Count::Tokens(tokens),
        _ => Count::Absurd,
    }
}

#[cfg(test)]
mod tests;

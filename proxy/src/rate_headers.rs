//! `x-ratelimit-*` in OpenAI's spelling: what is left of the limits of requests and of LLM tokens that are nearest to their end, and when they
//! reset. It refuses to know why a request was refused.

use http::{HeaderMap, HeaderName, HeaderValue};
use store::{DbTime, LimitUnit};

use crate::grant::Grant;
use crate::meter::Meter;

/// limit, remaining, reset.
type Names = [HeaderName; 3];

const REQUESTS: Names = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: Names = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// What one limit has left.
struct Left {
    limit: u64,
    remaining: u64,
    reset_ms: i64,
}

/// Tells of the grant's limits, in place of what a provider told of its own.
pub(crate) fn apply(headers: &mut HeaderMap, grant: &Grant, now: DbTime) {
    if !grant.has_rates {
        return;
    }
    tell(headers, &REQUESTS, nearest(grant, now, |unit| unit == LimitUnit::Requests));
    tell(headers, &TOKENS, nearest(grant, now, |unit| unit != LimitUnit::Requests));
}

fn tell(headers: &mut HeaderMap, names: &Names, left: Option<Left>) {
    let Some(left) = left else { return };
    headers.insert(&names[0], HeaderValue::from(left.limit));
    headers.insert(&names[1], HeaderValue::from(left.remaining));
    if let Ok(reset) = HeaderValue::from_str(&duration(left.reset_ms)) {
        headers.insert(&names[2], reset);
    }
}

/// Of several limits the one with the smallest part left.
fn nearest(grant: &Grant, now: DbTime, counts: impl Fn(LimitUnit) -> bool) -> Option<Left> {
    let rates = grant.meters.iter().filter(|meter| meter.is_rate() && counts(meter.unit));
    rates
        .map(|meter| left(meter, now))
        .min_by_key(|left| u128::from(left.remaining) * u128::from(u64::MAX) / u128::from(left.limit.max(1)))
}

fn left(meter: &Meter, now: DbTime) -> Left {
    let limit = meter.max_units();
    let (_, end) = meter.window.around(now);
    Left {
        limit,
        remaining: meter.block(now).map_or(limit, |block| block.remaining()),
        reset_ms: end.ms_since(now).max(0),
    }
}

/// As OpenAI writes it: `6m0s`, `1s`, `17ms`.
fn duration(ms: i64) -> String {
    let (seconds, rest) = (ms / 1_000, ms % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, seconds) {
        (0, 0, 0) => format!("{rest}ms"),
        (0, 0, seconds) if rest == 0 => format!("{seconds}s"),
        (0, 0, seconds) => format!("{seconds}.{rest:03}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        let written = [17, 1_000, 59_042, 360_000, 86_399_999].map(duration);
        assert_eq!(written, ["17ms", "1s", "59.042s", "6m0s", "23h59m59s"]);
    }
}

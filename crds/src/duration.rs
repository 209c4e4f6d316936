//! Lifetimes as users type them: `24h`, `1h30m`, `90s`. A strict subset of Go's durations, so that CEL's `duration()` reads them alike.
//! It refuses to know which field holds one and what its bounds are.

use jiff::SignedDuration;

/// The schema's pattern. There is no `d`, because Go has none.
pub const PATTERN: &str = "^([0-9]{1,5}(h|m|s)){1,3}$";
/// Three parts of five digits and a unit.
pub const MAX_LEN: usize = 18;

/// A text that is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Another form.
    #[error("must be a duration of one to three parts of hours (h), minutes (m) or seconds (s), such as 24h, 1h30m or 45m")]
    Malformed,
    /// A part of more than five digits.
    #[error("is out of range: a part has at most five digits; write it in a larger unit, such as 8760h for 525600m")]
    TooManyDigits,
}

/// Reads a duration; parts add up, in any order.
///
/// # Errors
/// [`DurationError`] if the text does not match [`PATTERN`].
pub fn parse(text: &str) -> Result<SignedDuration, DurationError> {
    let malformed = Err(DurationError::Malformed);
    if text.is_empty() || text.len() > MAX_LEN {
        return malformed;
    }
    let mut seconds: i64 = 0;
    let mut digits = 0_usize;
    let mut amount: i64 = 0;
    let mut parts = 0_usize;
    let mut longest = 0_usize;
    for byte in text.bytes() {
        let unit = match byte {
            b'0'..=b'9' => {
                digits += 1;
                amount = amount.saturating_mul(10).saturating_add(i64::from(byte - b'0'));
                continue;
            }
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return malformed,
        };
        if digits == 0 || parts == 3 {
            return malformed;
        }
        seconds = seconds.saturating_add(amount.saturating_mul(unit));
        longest = longest.max(digits);
        (digits, amount, parts) = (0, 0, parts + 1);
    }
    match (digits, longest) {
        (0, ..=5) => Ok(SignedDuration::from_secs(seconds)),
        (0, _) => Err(DurationError::TooManyDigits),
        _ => malformed,
    }
}

/// Prints a duration in its shortest form of whole hours, minutes and seconds (`1h30m`). Parts of a second are cut off; what is not positive is
/// `0s`.
#[must_use]
pub fn format(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let parts = [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let text: String = parts
        .iter()
        .filter(|(amount, _)| *amount > 0)
        .map(|(amount, unit)| format!("{amount}{unit}"))
        .collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_add_up() {
        for (text, seconds) in [
            ("24h", 86_400),
            ("1h30m", 5_400),
            ("90s", 90),
            ("0s", 0),
            ("1s1h", 3_601),
            ("1h1h", 7_200),
            ("99999h99999h99999h", 1_079_989_200),
        ] {
            assert_eq!(parse(text), Ok(SignedDuration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_go_would_read_and_the_pattern_does_not_is_refused() {
        for text in [
            "", "0", "24", "h", "1d", "1.5h", "-1h", "+1h", "1h ", " 1h", "1H", "1h1m1s1s", "1ms", "1h30", "１h",
        ] {
            assert_eq!(parse(text), Err(DurationError::Malformed), "{text}");
        }
    }

    #[test]
    fn a_part_with_too_many_digits_is_out_of_range_and_not_malformed() {
        for text in ["525600m", "100000h", "1h99999999999999s"] {
            assert_eq!(parse(text), Err(DurationError::TooManyDigits), "{text}");
        }
    }

    #[test]
    fn the_shortest_form_is_printed() {
        for (seconds, text) in [
            (86_400, "24h"),
            (5_400, "1h30m"),
            (90, "1m30s"),
            (0, "0s"),
            (-5, "0s"),
            (31_536_000, "8760h"),
        ] {
            assert_eq!(format(SignedDuration::from_secs(seconds)), text);
        }
        assert_eq!(format(SignedDuration::from_millis(1_999)), "1s");
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_the_pattern_matches(text in "[0-9hms]{0,10}|([0-9]{1,6}[hmsd]){1,4}|.{0,4}") {
            prop_assert_eq!(parse(&text).is_ok(), regex::Regex::new(PATTERN).unwrap().is_match(&text), "{:?}", text);
        }

        #[test]
        fn what_is_printed_reads_back(seconds in 0_i64..99_999 * 3600) {
            let duration = SignedDuration::from_secs(seconds);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}

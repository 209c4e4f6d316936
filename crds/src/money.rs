//! Amounts of money as users type them: decimal numbers of USD. Never a float: a cent must stay a cent.
//! It refuses to know which field holds one.

/// The schema's pattern: at most nine digits and six decimals.
pub(crate) const AMOUNT_PATTERN: &str = r"^[0-9]{1,9}(\.[0-9]{1,6})?$";
/// Nine digits, a point, six decimals.
pub(crate) const MAX_AMOUNT: usize = 16;

/// USD micro-cents of one USD, as a number of decimals: 10⁸.
const DECIMALS: usize = 8;

/// A text that is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a decimal number of at most nine digits and six decimals, such as \"500\" or \"0.25\"")]
pub(crate) struct NotAnAmount;

/// The amount in USD micro-cents (10⁻⁸ USD).
pub(crate) fn micro_cents(text: &str) -> Result<u64, NotAnAmount> {
    let (whole, decimals) = match text.split_once('.') {
        None => (text, ""),
        Some((_, "")) => return Err(NotAnAmount),
        Some(parts) => parts,
    };
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || decimals.len() > 6 || !all_digits(whole) || !all_digits(decimals) {
        return Err(NotAnAmount);
    }
    format!("{whole}{decimals:0<DECIMALS$}").parse().map_err(|_| NotAnAmount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_to_the_last_decimal() {
        for (text, wanted) in [
            ("500", 50_000_000_000),
            ("0.25", 25_000_000),
            ("0.000001", 100),
            ("999999999.999999", 99_999_999_999_999_900),
            ("0", 0),
        ] {
            assert_eq!(micro_cents(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "",
            ".5",
            "5.",
            "-1",
            "+1",
            "1e3",
            "1,5",
            "1 ",
            "$1",
            "1000000000",
            "0.0000001",
            "1.2.3",
            "٣",
        ] {
            assert_eq!(micro_cents(text), Err(NotAnAmount), "{text:?}");
        }
    }
}

//! Amounts of cpu and memory as Kubernetes writes them: `500m`, `2`, `1.5Gi`. A subset without signs, exponents and parts below a thousandth.
//! It refuses to know what is measured.

/// The schema's pattern.
pub(crate) const PATTERN: &str = r"^[0-9]{1,10}(\.[0-9]{1,3})?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$";
/// Ten digits, a point, three digits and a suffix of two letters.
pub(crate) const MAX_LEN: usize = 16;

/// A text that is no such amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an amount such as \"500m\", \"2\" or \"1.5Gi\": at most ten digits, at most three decimals, and a suffix that Kubernetes knows")]
pub(crate) struct NotAQuantity;

/// Reads an amount, in millionths of one unit, so that every text of [`PATTERN`] has its exact value.
///
/// # Errors
/// [`NotAQuantity`] if the text does not match [`PATTERN`].
pub(crate) fn parse(text: &str) -> Result<u128, NotAQuantity> {
    let number_ends = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_ends);
    let (whole, decimals) = number.split_once('.').map_or((number, None), |(whole, decimals)| (whole, Some(decimals)));
    let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole, 10) || decimals.is_some_and(|decimals| !digits(decimals, 3)) {
        return Err(NotAQuantity);
    }
    let kibi = |power: u32| 1_000 * 1_024_u128.pow(power);
    let kilo = |power: u32| 1_000 * 1_000_u128.pow(power);
    // In thousandths, times the thousandths of the number: millionths.
    let unit = match suffix {
        "" => kilo(0),
        "m" => 1,
        "k" => kilo(1),
        "M" => kilo(2),
        "G" => kilo(3),
        "T" => kilo(4),
        "P" => kilo(5),
        "E" => kilo(6),
        "Ki" => kibi(1),
        "Mi" => kibi(2),
        "Gi" => kibi(3),
        "Ti" => kibi(4),
        "Pi" => kibi(5),
        "Ei" => kibi(6),
        _ => return Err(NotAQuantity),
    };
    let thousandths = format!("{whole}{:0<3}", decimals.unwrap_or_default());
    thousandths.parse::<u128>().map(|number| number * unit).map_err(|_| NotAQuantity)
}

/// Whether two amounts are the same, however they are spelled: `1000m` and `1`.
#[must_use]
pub fn same_amount(one: &str, other: &str) -> bool {
    parse(one).is_ok_and(|one| parse(other).is_ok_and(|other| one == other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::Regex;

    #[test]
    fn amounts_compare_across_suffixes() {
        let ascending = [
            "0",
            "1m",
            "0.5",
            "500.5m",
            "1",
            "1k",
            "1Ki",
            "0.001Gi",
            "1.5Mi",
            "1G",
            "1Gi",
            "9999999999Ei",
        ];
        let read: Vec<u128> = ascending.iter().map(|text| parse(text).unwrap()).collect();
        assert!(read.windows(2).all(|pair| pair[0] < pair[1]), "{read:?}");
        assert_eq!(parse("1000m"), parse("1"));
        assert_eq!(parse("1024Mi"), parse("1Gi"));
        assert!(same_amount("1000m", "1") && !same_amount("1000m", "2") && !same_amount("x", "x"));
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_the_pattern_matches(text in "[0-9.mkKMGi+-]{0,8}|[0-9]{1,11}(\\.[0-9]{1,4})?(m|k|Gi|Ei|n|e3)?|.{0,4}") {
            let by_pattern = Regex::new(PATTERN).unwrap().is_match(&text);
            prop_assert_eq!(parse(&text).is_ok(), by_pattern, "{:?}", text);
            prop_assert!(!by_pattern || text.len() <= MAX_LEN);
        }
    }
}

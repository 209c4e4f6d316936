//! Token values as the format's description spells them, computed here a second time so that the tests do not believe the product.

/// base62 in the order of its digits.
pub const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `sk-lp-<id>-<secret>` with its check: CRC-32/ISO-HDLC over what precedes, six base62 digits, most significant first.
#[must_use]
pub fn value(id: &str, secret: &str) -> String {
    let body = format!("sk-lp-{id}-{secret}");
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut check = [b'0'; 6];
    for digit in check.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    check.iter().fold(body, |body, digit| body + &char::from(*digit).to_string())
}

/// A well-formed value that nobody issued.
#[must_use]
pub fn unknown(random: &mut crate::random::Random) -> String {
    value(&random.base62(8), &random.base62(32))
}

/// The same value with one character of its secret changed, so that the check no longer fits.
#[must_use]
pub fn with_bad_check(value: &str) -> String {
    let at = "sk-lp-".len() + 8 + 1;
    let other = if value.as_bytes()[at] == b'x' { "y" } else { "x" };
    format!("{}{other}{}", &value[..at], &value[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vector_comes_out() {
        let value = value("AAAAAAAA", &"0".repeat(32));
        assert!(value.ends_with("2IEiq3"), "{value}");
        assert_eq!(value.len(), 53);
    }

    #[test]
    fn one_changed_character_breaks_the_check() {
        let good = value("AAAAAAAA", &"0".repeat(32));
        let bad = with_bad_check(&good);
        assert_eq!(good.len(), bad.len());
        let (body, check) = bad.split_at(47);
        assert_ne!(super::value("AAAAAAAA", &body[15..]), format!("{body}{check}"));
    }
}

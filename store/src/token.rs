//! A virtual key: minted, checked and digested here. Format: contracts.md §1.

use std::fmt;
use std::ops::Range;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::random;

/// Every token that we mint begins so; the checksum filter applies to these only.
const BRAND: &str = "sk-lp-";
/// The 8 public characters, fresh with each value.
const PUBLIC: Range<usize> = 6..14;
/// The 32 secret characters: more than 190 random bits, so that a plain SHA-256 needs no pepper.
const SECRET: Range<usize> = 15..47;
/// The CRC-32 of all that precedes it.
const CHECK: Range<usize> = 47..53;
/// The longest foreign key that we look up.
const MAX_FOREIGN: usize = 512;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Why a presented value cannot be a token of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFormatError {
    /// Empty, too long or not visible ASCII.
    #[error("malformed token")]
    Malformed,
    /// It begins with `sk-lp-` but length, alphabet or checksum is wrong.
    #[error("the token's checksum is wrong")]
    BadChecksum,
}

/// A token's clear text. Never printed, zeroed on drop.
#[derive(Clone, Eq)]
pub struct TokenValue(Zeroizing<String>);

impl TokenValue {
    /// Mints a fresh token from the system's random source.
    #[must_use]
    pub fn mint() -> Self {
        // Its capacity is its final length: a growing string would leave copies of the secret behind.
        let mut value = Zeroizing::new(String::with_capacity(CHECK.end));
        value.push_str(BRAND);
        push_random_base62(&mut value, PUBLIC.len());
        value.push('-');
        push_random_base62(&mut value, SECRET.len());
        let check = checksum(&value);
        value.extend(check.iter().copied().map(char::from));
        Self(value)
    }

    /// The clear text, for the one place that delivers it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reads a delivered value back (for instance from the Secret file).
    ///
    /// # Errors
    /// As [`TokenValue::check`].
    pub fn parse(value: &str) -> Result<Self, TokenFormatError> {
        Self::check(value)?;
        Ok(Self(Zeroizing::new(value.to_owned())))
    }

    /// Checks a presented value without any look-up: for `sk-lp-` values length, alphabet and checksum; others (imported, foreign keys)
    /// only for 1–512 visible ASCII bytes.
    ///
    /// # Errors
    /// Which of the two failed.
    pub fn check(value: &str) -> Result<(), TokenFormatError> {
        let bytes = value.as_bytes();
        if bytes.is_empty() || bytes.len() > MAX_FOREIGN || !bytes.iter().all(u8::is_ascii_graphic) {
            return Err(TokenFormatError::Malformed);
        }
        if !value.starts_with(BRAND) {
            return Ok(());
        }
        let base62 = |part: Range<usize>| bytes[part].iter().all(u8::is_ascii_alphanumeric);
        let well_formed = bytes.len() == CHECK.end && base62(PUBLIC) && bytes[PUBLIC.end] == b'-' && base62(SECRET);
        if well_formed && bytes[CHECK] == checksum(&value[..CHECK.start]) {
            Ok(())
        } else {
            Err(TokenFormatError::BadChecksum)
        }
    }

    /// The digest that the database holds.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(&self.0)
    }

    /// `sk-lp-` and the 8 public characters: what status, logs and lists may show. Of a foreign key nothing is public: `(imported)`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        if self.0.starts_with(BRAND) {
            &self.0[..PUBLIC.end]
        } else {
            "(imported)"
        }
    }
}

impl PartialEq for TokenValue {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl fmt::Debug for TokenValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenValue(…)")
    }
}

/// SHA-256 of the whole presented value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenDigest(pub [u8; 32]);

impl TokenDigest {
    /// The digest of a presented value.
    #[must_use]
    pub fn of(value: &str) -> Self {
        Self(Sha256::digest(value.as_bytes()).into())
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

/// Appends `n` random base62 characters, each equally likely: bytes from 248 on are drawn again, since 256 is no multiple of 62.
fn push_random_base62(value: &mut String, n: usize) {
    const UNBIASED: u8 = 4 * 62;
    let mut drawn = Zeroizing::new([0_u8; 64]);
    let end = value.len() + n;
    while value.len() < end {
        random::fill(drawn.as_mut_slice());
        let missing = end - value.len();
        value.extend(
            drawn
                .iter()
                .filter(|byte| **byte < UNBIASED)
                .map(|byte| char::from(BASE62[usize::from(byte % 62)]))
                .take(missing),
        );
    }
}

/// CRC-32/ISO-HDLC of an ASCII text, in six base62 digits, the most significant first.
fn checksum(text: &str) -> [u8; 6] {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_checksum_is_that_of_the_published_vector() {
        assert_eq!(&checksum(&format!("sk-lp-AAAAAAAA-{}", "0".repeat(32))), b"2IEiq3");
        assert_eq!(TokenValue::check(&format!("sk-lp-AAAAAAAA-{}2IEiq3", "0".repeat(32))), Ok(()));
    }

    #[test]
    fn a_minted_token_passes_its_own_check_and_never_comes_twice() {
        let minted: std::collections::HashSet<String> = (0..1_000).map(|_| TokenValue::mint().expose().to_owned()).collect();
        assert_eq!(minted.len(), 1_000);
        for value in minted {
            assert_eq!(value.len(), 53);
            assert_eq!(TokenValue::check(&value), Ok(()));
        }
    }

    #[test]
    fn every_character_of_the_alphabet_is_about_equally_likely() {
        let mut counts = std::collections::BTreeMap::<char, u32>::new();
        for _ in 0..2_000 {
            TokenValue::mint().expose()[SECRET]
                .chars()
                .for_each(|c| *counts.entry(c).or_default() += 1);
        }
        // 64,000 draws over 62 characters: 1,032 each, with a standard deviation of 32.
        assert_eq!(counts.len(), 62);
        assert!(counts.values().all(|n| (800..1_270).contains(n)), "{counts:?}");
    }

    #[test]
    fn foreign_keys_pass_and_what_no_header_may_hold_does_not() {
        assert_eq!(TokenValue::check("sk-imported-from-elsewhere"), Ok(()));
        assert_eq!(TokenValue::check(&"x".repeat(512)), Ok(()));
        for bad in ["", "two words", "tab\t", "ünicode", &"x".repeat(513)] {
            assert_eq!(TokenValue::check(bad), Err(TokenFormatError::Malformed), "{bad:?}");
        }
        for bad in ["sk-lp-", "sk-lp-AAAAAAAA-short", &format!("sk-lp-AAAAAAAA-{}2IEiq4", "0".repeat(32))] {
            assert_eq!(TokenValue::check(bad), Err(TokenFormatError::BadChecksum), "{bad:?}");
        }
    }

    #[test]
    fn only_the_public_part_is_ever_shown() {
        let token = TokenValue::mint();
        assert_eq!(token.prefix(), &token.expose()[..14]);
        assert_eq!(TokenValue::parse("sk-imported").unwrap().prefix(), "(imported)");
        let shown = format!("{token:?} {:?}", token.digest());
        assert!(!shown.contains(&token.expose()[SECRET]));
    }

    proptest! {
        #[test]
        fn one_changed_character_never_passes(at in 6_usize..53, to in prop::sample::select(BASE62.to_vec())) {
            let mut value = TokenValue::mint().expose().as_bytes().to_vec();
            prop_assume!(value[at] != to);
            value[at] = to;
            prop_assert_eq!(TokenValue::check(std::str::from_utf8(&value).unwrap()), Err(TokenFormatError::BadChecksum));
        }

        #[test]
        fn check_never_panics(value in "\\PC{0,80}", tail in "sk-lp-\\PC{0,60}") {
            let _ = (TokenValue::check(&value), TokenValue::check(&tail));
        }
    }
}

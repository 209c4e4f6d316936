//! A provider's key as it may be shown.

use secrecy::{ExposeSecret as _, SecretString};

/// Below this length the ends of a key would be too much of it.
const SHOWN_FROM: usize = 24;

/// The first 8 and the last 4 characters of a long key, nothing of a short one. Never a key that could be sent back as one.
pub(super) fn mask(key: &SecretString) -> String {
    let key = key.expose_secret();
    if key.len() < SHOWN_FROM || !key.is_ascii() {
        return "****...****".to_owned();
    }
    format!("{}...{}", &key[..8], &key[key.len() - 4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_shows_its_ends_and_a_short_one_nothing() {
        assert_eq!(mask(&"sk-proj-0123456789abcdef".into()), "sk-proj-...cdef");
        assert_eq!(mask(&"sk-proj-0123456789".into()), "****...****");
        assert_eq!(mask(&"schlüsselschlüsselschlüssel".into()), "****...****");
    }
}

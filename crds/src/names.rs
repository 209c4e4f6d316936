//! Names under Kubernetes' limits: RFC 1123 labels and subdomains, keys of a Secret.
//! It refuses to know what is named. Rules: kubernetes.io, "Object Names and IDs"; `k8s.io/apimachinery/pkg/util/validation`.

use crate::schema::{MAX_LABEL, MAX_SUBDOMAIN};

/// The longest Secret name that a file executor can write as `<namespace>.<name>.env`: the 255 bytes of a file name, less a namespace of 63,
/// two dots and `env`.
pub const MAX_SECRET_NAME_IN_FILES: usize = 187;

/// Why a name is refused; the text says what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not an RFC 1123 label: namespaces, names of providers.
    #[error("must be 1 to 63 lower-case letters, digits or '-', and begin and end with a letter or digit")]
    Label,
    /// Not an RFC 1123 subdomain: names of objects.
    #[error("must be 1 to 253 lower-case letters, digits, '-' or '.', and each part between dots must begin and end with a letter or digit")]
    Subdomain,
    /// Not a key that a Secret may hold.
    #[error("must be 1 to 253 letters, digits, '-', '_' or '.', and not begin with '..' nor be '.'")]
    SecretKey,
}

/// Checks a namespace or a provider's name.
///
/// # Errors
/// [`NameError::Label`].
pub fn dns_label(name: &str) -> Result<(), NameError> {
    if name.len() <= MAX_LABEL && is_label(name) {
        Ok(())
    } else {
        Err(NameError::Label)
    }
}

/// Checks the name of an object: one of the three kinds or a Secret.
///
/// # Errors
/// [`NameError::Subdomain`].
pub fn dns_subdomain(name: &str) -> Result<(), NameError> {
    if name.len() <= MAX_SUBDOMAIN && name.split('.').all(is_label) {
        Ok(())
    } else {
        Err(NameError::Subdomain)
    }
}

/// Checks the key of a value inside a Secret.
///
/// # Errors
/// [`NameError::SecretKey`].
pub fn secret_key(key: &str) -> Result<(), NameError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let sane = !key.is_empty() && key.len() <= MAX_SUBDOMAIN && key != "." && !key.starts_with("..");
    if sane && key.bytes().all(allowed) {
        Ok(())
    } else {
        Err(NameError::SecretKey)
    }
}

/// The shape of a label, without its length.
fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{LABEL_PATTERN, SECRET_KEY_PATTERN, SUBDOMAIN_PATTERN};
    use proptest::prelude::*;
    use regex::Regex;

    #[test]
    fn a_label_is_short_and_has_no_dot() {
        for good in ["a", "0", "openai", "a-b", "a--b", &"x".repeat(63)] {
            assert_eq!(dns_label(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"x".repeat(64)] {
            assert_eq!(dns_label(bad), Err(NameError::Label), "{bad}");
        }
    }

    #[test]
    fn a_subdomain_is_labels_between_dots() {
        for good in ["a", "a.b", "a-1.b-2", &"x".repeat(253)] {
            assert_eq!(dns_subdomain(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a.-b", "a/b", "..", &"x".repeat(254)] {
            assert_eq!(dns_subdomain(bad), Err(NameError::Subdomain), "{bad}");
        }
    }

    #[test]
    fn a_secret_key_is_no_path() {
        for good in ["api-key", "API_KEY", ".dockerconfigjson", "a..b"] {
            assert_eq!(secret_key(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "..a", "a/b", "a b", "ä", &"k".repeat(254)] {
            assert_eq!(secret_key(bad), Err(NameError::SecretKey), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_checks_agree_with_the_patterns_of_the_schema(name in "[-._/a-cA-Z0-9ä]{0,8}|[a-c.]{62,65}|[a-c]{252,255}") {
            for (pattern, limit, accepted) in [
                (LABEL_PATTERN, MAX_LABEL, dns_label(&name).is_ok()),
                (SUBDOMAIN_PATTERN, MAX_SUBDOMAIN, dns_subdomain(&name).is_ok()),
                (SECRET_KEY_PATTERN, MAX_SUBDOMAIN, secret_key(&name).is_ok()),
            ] {
                let schema = Regex::new(pattern).unwrap().is_match(&name) && name.chars().count() <= limit;
                prop_assert_eq!(accepted, schema, "{:?} against {}", name, pattern);
            }
        }
    }
}

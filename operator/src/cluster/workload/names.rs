//! The names of a fleet's children: the ProxyConfig's name and a suffix, or, where that is no DNS label, a prefix of it and a hash.
//! It refuses to know what the children are.

use sha2::{Digest as _, Sha256};

/// The longest DNS label, and so the longest name of a Service (RFC 1035).
const MAX_LABEL: usize = 63;
/// Hexadecimal digits of a hash inside a name: 40 bits.
const HASH_DIGITS: usize = 10;

/// What a fleet's children are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChildNames {
    /// The Deployment and its PodDisruptionBudget.
    pub(crate) deployment: String,
    /// The Service of /v1.
    pub(crate) service: String,
    /// The Service of /manage and metrics.
    pub(crate) manage: String,
    /// The Secret with the management token.
    pub(crate) management_secret: String,
    /// The Secret with the encryption key.
    pub(crate) encryption_secret: String,
}

impl ChildNames {
    /// The names of the children of the ProxyConfig `name`.
    pub(crate) fn of(name: &str) -> Self {
        let own = child(name, "");
        Self {
            deployment: own.clone(),
            service: own,
            manage: child(name, "-manage"),
            management_secret: child(name, "-management"),
            encryption_secret: child(name, "-encryption"),
        }
    }
}

/// `name` and `suffix`, if that is a DNS label that begins with a letter; otherwise as much of the name as there is room for, and a hash of it all.
fn child(name: &str, suffix: &str) -> String {
    let whole = format!("{name}{suffix}");
    if is_service_name(&whole) {
        return whole;
    }
    let letter = if name.starts_with(|c: char| c.is_ascii_lowercase()) { "" } else { "p" };
    let room = MAX_LABEL - suffix.len() - 1 - HASH_DIGITS - letter.len();
    let prefix: String = name.chars().take(room).map(|c| if c == '.' { '-' } else { c }).collect();
    format!("{letter}{}-{}{suffix}", prefix.trim_end_matches('-'), hash(name))
}

fn is_service_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= MAX_LABEL && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(inner)
}

/// The first digits of a text's SHA-256, for names and labels that must be short and differ.
pub(super) fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(HASH_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_stands_as_it_is() {
        let names = ChildNames::of("main");
        assert_eq!((names.service.as_str(), names.manage.as_str()), ("main", "main-manage"));
        assert_eq!(names.management_secret, "main-management");
        assert_eq!(names.encryption_secret, "main-encryption");
    }

    #[test]
    fn a_name_that_no_service_can_have_becomes_a_prefix_and_a_hash() {
        let long = "a".repeat(253);
        for name in [long.as_str(), "1st", "team.fleet", &"b.".repeat(31), &"c".repeat(60)] {
            let names = ChildNames::of(name);
            for child in [&names.service, &names.manage, &names.management_secret, &names.encryption_secret] {
                assert!(is_service_name(child) && !child.contains("--"), "{name}: {child}");
            }
        }
        assert_eq!(ChildNames::of(&"c".repeat(60)).service, "c".repeat(60));
        assert_ne!(ChildNames::of(&"a".repeat(200)).service, ChildNames::of(&"a".repeat(201)).service);
        assert_ne!(ChildNames::of("a.b").service, ChildNames::of("a-b").service);
    }
}

//! Which of several tokens may have a Secret of the name that they all want. Pure.
//! It refuses to know what the Secret holds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::references::{Key, Referrer};
use crate::observed::SecretClaim;

/// A token that wants the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contender {
    /// When it was created.
    pub(crate) created: Option<Time>,
    /// Its uid.
    pub(crate) uid: String,
    /// Its name.
    pub(crate) name: String,
}

/// Whether the Secret is `me`'s to use: who has it keeps it; else the oldest of those who want it gets it, and of two that were created in the
/// same second the one with the lower uid. Who reads the Secret of that name as an input, declares it.
pub(crate) fn claim(
    secret: &Key,
    me: &Contender,
    others: &[Contender],
    written_for: Option<&str>,
    readers: impl IntoIterator<Item = Referrer>,
) -> SecretClaim {
    let (namespace, name) = secret;
    if written_for == Some(me.uid.as_str()) {
        return SecretClaim::Free;
    }
    let reader = readers.into_iter().find_map(|reader| match reader {
        Referrer::ProxyConfig((namespace, name)) => Some(format!("ProxyConfig {namespace}/{name}")),
        Referrer::Project((namespace, name)) => Some(format!("LLMProject {namespace}/{name}")),
        Referrer::Token(_) => None,
    });
    if let Some(reader) = reader {
        return SecretClaim::Declared(format!(
            "Secret {namespace}/{name} is one that {reader} reads; name another in spec.secret.name"
        ));
    }
    let taken = |by: &Contender, verb: &str| {
        SecretClaim::Taken(format!(
            "Secret {namespace}/{name} {verb} WitheringToken {namespace}/{}; name another in spec.secret.name",
            by.name
        ))
    };
    if let Some(holder) = others.iter().find(|other| written_for == Some(other.uid.as_str())) {
        return taken(holder, "is that of");
    }
    let rank = |token: &Contender| (token.created.as_ref().map(|time| time.0), token.uid.clone());
    others
        .iter()
        .min_by_key(|other| rank(other))
        .filter(|oldest| rank(oldest) < rank(me))
        .map_or(SecretClaim::Free, |oldest| taken(oldest, "is wanted by the older"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, second: i64) -> Contender {
        Contender {
            created: Some(Time(jiff::Timestamp::from_second(second).unwrap())),
            uid: format!("uid-{name}"),
            name: name.to_owned(),
        }
    }

    fn judged(me: &Contender, others: &[Contender], written_for: Option<&str>) -> SecretClaim {
        claim(&("shop".to_owned(), "llm".to_owned()), me, others, written_for, [])
    }

    #[test]
    fn the_older_gets_it_and_the_other_is_told_who() {
        let (old, young) = (token("old", 1), token("young", 2));
        assert_eq!(judged(&old, std::slice::from_ref(&young), None), SecretClaim::Free);
        let SecretClaim::Taken(why) = judged(&young, std::slice::from_ref(&old), None) else {
            panic!("it is taken")
        };
        assert!(why.contains("WitheringToken shop/old") && why.contains("spec.secret.name"), "{why}");
    }

    #[test]
    fn of_two_that_were_created_at_once_exactly_one_gets_it() {
        let (a, b) = (token("a", 1), token("b", 1));
        assert_eq!(judged(&a, std::slice::from_ref(&b), None), SecretClaim::Free);
        assert!(matches!(judged(&b, &[a], None), SecretClaim::Taken(_)));
    }

    #[test]
    fn who_has_it_keeps_it_also_from_an_older_one() {
        let (old, young) = (token("old", 1), token("young", 2));
        assert_eq!(judged(&young, std::slice::from_ref(&old), Some("uid-young")), SecretClaim::Free);
        assert!(matches!(judged(&old, &[young], Some("uid-young")), SecretClaim::Taken(why) if why.contains("is that of")));
    }

    #[test]
    fn a_secret_that_a_project_reads_is_nobodys_to_write() {
        let secret = ("shop".to_owned(), "llm".to_owned());
        let reader = Referrer::Project(("shop".to_owned(), "web".to_owned()));
        let found = claim(&secret, &token("me", 1), &[], None, [reader]);
        assert!(matches!(found, SecretClaim::Declared(why) if why.contains("LLMProject shop/web")));
    }
}

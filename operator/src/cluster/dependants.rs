//! Who has to look again when something else has changed: those who refer to it, and those who refer to them.
//! It refuses to know whether the change matters.

use super::references::{References, Referred, Referrer};
use super::wake::Wakes;

/// Wakes whoever depends on `changed`: a fleet's projects and their tokens, a project's tokens, a Secret's referrers.
pub(crate) fn wake(references: &References, wakes: &Wakes, changed: &Referred) {
    for referrer in references.to(changed) {
        match referrer {
            Referrer::ProxyConfig((namespace, name)) => wakes.proxy_config(&namespace, &name),
            Referrer::Project(key) => {
                wakes.project(&key.0, &key.1);
                // What a project's Secret holds is nothing to its tokens; what its fleet is, is.
                if matches!(changed, Referred::ProxyConfig(_)) {
                    wake(references, wakes, &Referred::Project(key));
                }
            }
            Referrer::Token((namespace, name)) => wakes.token(&namespace, &name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn key(name: &str) -> (String, String) {
        ("a".to_owned(), name.to_owned())
    }

    fn fixture() -> References {
        let references = References::default();
        references.set(
            &Referrer::Project(key("p")),
            BTreeSet::from([Referred::ProxyConfig(key("f")), Referred::Secret(key("s"))]),
        );
        references.set(&Referrer::Token(key("t")), BTreeSet::from([Referred::Project(key("p"))]));
        references
    }

    fn woken(changed: &Referred) -> Vec<String> {
        let (wakes, mut woken) = Wakes::new();
        wake(&fixture(), &wakes, changed);
        let mut names = Vec::new();
        while let Ok(object) = woken.projects.try_recv() {
            names.push(object.name);
        }
        while let Ok(object) = woken.tokens.try_recv() {
            names.push(object.name);
        }
        names
    }

    #[test]
    fn a_fleet_wakes_its_projects_and_their_tokens() {
        assert_eq!(woken(&Referred::ProxyConfig(key("f"))), ["p", "t"]);
    }

    #[test]
    fn a_project_wakes_its_tokens_and_a_secret_only_those_who_name_it() {
        assert_eq!(woken(&Referred::Project(key("p"))), ["t"]);
        assert_eq!(woken(&Referred::Secret(key("s"))), ["p"]);
        assert!(woken(&Referred::Secret(key("other"))).is_empty());
    }
}

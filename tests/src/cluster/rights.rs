//! What a user may do and what of it is done: rbac.yaml beside the audit log. It refuses to know why.

use std::collections::BTreeSet;

use super::audit::{Entry, Mark};
use super::{Cluster, User, install};

/// One verb on one kind of resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The API group; empty for Kubernetes' first one.
    pub group: String,
    /// The plural, with the subresource if there is one: `witheringtokens/status`.
    pub resource: String,
    /// The verb.
    pub verb: String,
}

/// What rbac.yaml grants to the operator.
///
/// # Panics
/// If it has no ClusterRole of the operator.
#[must_use]
pub fn granted_to_operator() -> BTreeSet<Right> {
    let role = install::operator_role();
    let words = |list: &serde_json::Value| -> Vec<String> {
        let words = list.as_array().expect("a list").iter();
        words.map(|word| word.as_str().expect("a word").to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role.data["rules"].as_array().expect("rules") {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                rights.extend(words(&rule["verbs"]).into_iter().map(|verb| Right {
                    group: group.clone(),
                    resource: resource.clone(),
                    verb,
                }));
            }
        }
    }
    rights
}

/// The rights that a request needs: a server-side apply that makes its object needs `create` besides `patch`.
fn needed(entry: &Entry) -> impl Iterator<Item = Right> {
    let separator = if entry.subresource.is_empty() { "" } else { "/" };
    let resource = format!("{}{separator}{}", entry.resource, entry.subresource);
    let made = (entry.verb == "patch" && entry.code == 201).then_some("create");
    let (group, verb) = (entry.group.clone(), entry.verb.clone());
    [Some(verb), made.map(str::to_owned)].into_iter().flatten().map(move |verb| Right {
        group: group.clone(),
        resource: resource.clone(),
        verb,
    })
}

impl Cluster {
    /// The rights that a user has made use of since a mark.
    ///
    /// # Panics
    /// As [`Cluster::audit_mark`].
    #[must_use]
    pub fn rights_used_since(&self, user: User, from: Mark) -> BTreeSet<Right> {
        let entries = self.audit_since(from);
        let own = entries
            .iter()
            .filter(|entry| entry.user == user.name() && !entry.resource.is_empty() && entry.code != 403);
        own.flat_map(needed).collect()
    }

    /// What a user was denied since a mark: a right that is missing, or a request that should not be made.
    ///
    /// # Panics
    /// As [`Cluster::audit_mark`].
    #[must_use]
    pub fn denied_since(&self, user: User, from: Mark) -> Vec<Entry> {
        let mut entries = self.audit_since(from);
        entries.retain(|entry| entry.user == user.name() && entry.code == 403);
        entries
    }
}

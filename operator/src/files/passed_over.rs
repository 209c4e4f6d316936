//! Fields that say something only in a cluster: manifests may carry them, and each is told once that it is passed over here.
//! It refuses to know what they mean there.

use std::collections::BTreeSet;

use super::manifest::Spec;
use super::object_key::ObjectKey;

/// What was told by this process.
#[derive(Debug, Default)]
pub(super) struct PassedOver {
    told: BTreeSet<(ObjectKey, &'static str)>,
}

impl PassedOver {
    /// The fields that were not told before, each with its object.
    pub(super) fn news<'a>(&mut self, objects: impl Iterator<Item = (&'a ObjectKey, &'a Spec)>) -> Vec<String> {
        let mut news = Vec::new();
        for (key, spec) in objects {
            for field in cluster_only(spec) {
                if self.told.insert((key.clone(), field)) {
                    news.push(format!("{key}: {field} is passed over: it says something only in a cluster"));
                }
            }
        }
        news
    }
}

fn cluster_only(spec: &Spec) -> Vec<&'static str> {
    match spec {
        Spec::ProxyConfig(fleet) => fleet.cluster_only(),
        Spec::Project(_) => Vec::new(),
        Spec::Token(token) => token.cluster_only(),
    }
}

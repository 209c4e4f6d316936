//! When an object that is no longer in the manifests counts as deleted (contracts.md §7): never by a glance, an error or an empty folder.
//! It refuses to know what deletion means.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crds::Kind;

use super::object_key::ObjectKey;
use super::scan::Scan;
use super::sources::Sources;
use crate::object::Standing;

/// How far apart two clean scans without the object must be.
const APART: Duration = Duration::from_millis(500);

/// Since when objects have been absent from clean scans.
#[derive(Debug, Default)]
pub(super) struct Absences {
    since: HashMap<ObjectKey, Instant>,
}

impl Absences {
    /// How a stored object stands in this scan, made at `now`.
    pub(super) fn standing(&mut self, key: &ObjectKey, source: &str, scan: &Scan, sources: &Sources, now: Instant) -> Standing {
        if scan.manifests.contains_key(key) {
            self.since.remove(key);
            return Standing::Present;
        }
        if let Some(fault) = scan.held.get(key) {
            self.since.remove(key);
            return Standing::Invalid(fault.to_string());
        }
        let Some(root) = sources.root_of(source) else {
            self.since.remove(key);
            return Standing::SourceMissing(format!("{source} lies under none of the -f paths; the object is kept as it last was"));
        };
        if let Some(fault) = scan.unclear.get(source) {
            self.since.remove(key);
            return Standing::Invalid(fault.to_string());
        }
        if !scan.clean {
            self.since.remove(key);
            let why = "not every manifest can be read, so it is not known whether the object was deleted; it is kept as it last was";
            return Standing::SourceMissing(why.to_owned());
        }
        if scan.yields.get(&root).copied().unwrap_or_default() == 0 {
            self.since.remove(key);
            let shown = sources.shown().nth(root).unwrap_or_default();
            return Standing::SourceMissing(format!("{shown} declares nothing any more; the object is kept as it last was"));
        }
        if key.kind == Kind::ProxyConfig {
            return Standing::SourceMissing(
                "the ProxyConfig is declared no more; its fleet is served as it last was, until the data directory is removed".to_owned(),
            );
        }
        let since = *self.since.entry(key.clone()).or_insert(now);
        if now.duration_since(since) >= APART {
            Standing::Gone
        } else {
            Standing::Present
        }
    }

    /// Whether an object is on its way to be deleted, so that the next scan matters even if no byte changes.
    pub(super) fn any(&self) -> bool {
        !self.since.is_empty()
    }

    /// Forgets an object whose deletion is done.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.since.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct World {
        absences: Absences,
        scan: Scan,
        sources: Sources,
        start: Instant,
    }

    impl World {
        /// One folder that yields something, and a token that once came from it.
        fn new() -> Self {
            let scan = Scan {
                clean: true,
                yields: HashMap::from([(0, 1)]),
                ..Scan::default()
            };
            Self {
                absences: Absences::default(),
                scan,
                sources: Sources::new(vec![PathBuf::from("/m")], None),
                start: Instant::now(),
            }
        }

        fn look(&mut self, at_ms: u64, source: &str) -> Standing {
            let key = ObjectKey {
                kind: Kind::WitheringToken,
                namespace: "default".to_owned(),
                name: "web".to_owned(),
            };
            self.absences
                .standing(&key, source, &self.scan, &self.sources, self.start + Duration::from_millis(at_ms))
        }
    }

    #[test]
    fn an_object_is_gone_after_two_clean_scans_half_a_second_apart() {
        let mut world = World::new();
        assert_eq!(world.look(0, "/m/t.yaml"), Standing::Present);
        assert_eq!(world.look(499, "/m/t.yaml"), Standing::Present);
        assert_eq!(world.look(500, "/m/t.yaml"), Standing::Gone);
    }

    #[test]
    fn a_scan_that_is_not_clean_starts_the_wait_anew() {
        let mut world = World::new();
        world.look(0, "/m/t.yaml");
        world.scan.clean = false;
        assert!(matches!(world.look(400, "/m/t.yaml"), Standing::SourceMissing(_)));
        world.scan.clean = true;
        assert_eq!(world.look(600, "/m/t.yaml"), Standing::Present);
        assert_eq!(world.look(1_100, "/m/t.yaml"), Standing::Gone);
    }

    #[test]
    fn an_object_whose_source_is_elsewhere_or_whose_folder_is_empty_is_kept() {
        let mut world = World::new();
        for at in [0, 1_000, 2_000] {
            assert!(matches!(world.look(at, "/elsewhere/t.yaml"), Standing::SourceMissing(_)));
        }
        world.scan.yields.clear();
        for at in [3_000, 4_000, 5_000] {
            assert!(matches!(world.look(at, "/m/t.yaml"), Standing::SourceMissing(_)));
        }
    }
}

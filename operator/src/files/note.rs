//! From a scan to the stored objects: every valid manifest is noted in the database, and every stored object is judged by how it stands now.
//! It refuses to know rows and Secrets.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use crds::Kind;
use store::{Claim, FileObject, Fleet, StoreError};

use super::absence::Absences;
use super::fault::Fault;
use super::manifest::{Manifest, Spec};
use super::object_key::ObjectKey;
use super::scan::Scan;
use super::sources::Sources;
use super::world::Known;
use crate::object::Standing;

/// What noting needs besides the scan.
pub(super) struct Noting<'a> {
    /// The database.
    pub(super) fleet: &'a Fleet,
    /// The fleet that is served.
    pub(super) claim: &'a Claim,
    /// Where manifests come from.
    pub(super) sources: &'a Sources,
    /// When the scan was made.
    pub(super) now: Instant,
}

impl Noting<'_> {
    /// Notes every valid manifest in the database and judges how each stored object stands.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn note(&self, scan: &Scan, absences: &mut Absences, faults: &mut Vec<Fault>) -> Result<BTreeMap<ObjectKey, Known>, StoreError> {
        let mut stored: BTreeMap<ObjectKey, FileObject> = BTreeMap::new();
        for object in self.fleet.file_objects().await? {
            stored.extend(ObjectKey::of_stored(&object.key).map(|key| (key, object)));
        }
        let mut invalid: HashMap<ObjectKey, String> = HashMap::new();
        for (key, manifest) in &scan.manifests {
            let same_spec = stored.get(key).is_some_and(|object| object.spec == *manifest.stored);
            let objections = self.objections(manifest, stored.get(key).filter(|_| !same_spec));
            if let Some(first) = objections.first() {
                invalid.insert(key.clone(), first.to_string());
                faults.extend(objections);
                continue;
            }
            let known = same_spec && stored.get(key).is_some_and(|object| *object.source == *manifest.place.source);
            if !known {
                stored.insert(
                    key.clone(),
                    self.fleet
                        .see_file_object(&key.stored(), &manifest.place.source, &manifest.stored)
                        .await?,
                );
            }
        }
        let mut objects = BTreeMap::new();
        for (key, object) in stored {
            // What stands in the manifest has been read already.
            let declared = scan.manifests.get(&key).filter(|manifest| *manifest.stored == object.spec);
            let spec = match declared.map_or_else(|| Spec::of_stored(key.kind, &object.spec), |manifest| Ok(manifest.spec.clone())) {
                Ok(spec) => spec,
                Err(error) => {
                    tracing::error!(kind = %key.kind, namespace = key.namespace, name = key.name, "the stored spec cannot be read: {error}");
                    continue;
                }
            };
            let standing = absences.standing(&key, &object.source, scan, self.sources, self.now);
            let standing = invalid.remove(&key).map_or(standing, Standing::Invalid);
            objects.insert(
                key,
                Known {
                    stored: object,
                    spec,
                    standing,
                },
            );
        }
        Ok(objects)
    }

    /// What speaks against a manifest that is valid by itself: another fleet, or a change that its kind does not allow.
    fn objections(&self, manifest: &Manifest, stored: Option<&FileObject>) -> Vec<Fault> {
        let served = (self.claim.namespace.as_str(), self.claim.name.as_str());
        if manifest.key.kind == Kind::ProxyConfig && (manifest.key.namespace.as_str(), manifest.key.name.as_str()) != served {
            let message = format!(
                "this data directory serves ProxyConfig {}/{}; exactly one is served, give this one another --data-dir",
                served.0, served.1
            );
            return vec![manifest.place.fault("metadata.name", message)];
        }
        let Some(old) = stored.and_then(|object| Spec::of_stored(manifest.key.kind, &object.spec).ok()) else {
            return Vec::new();
        };
        manifest
            .spec
            .broken_by_update(&old)
            .into_iter()
            .map(|violation| manifest.place.fault(&violation.field, violation.message))
            .collect()
    }
}

//! What a pass knows: the stored objects with how they stand, their rows, the Secrets among the manifests and the clock.
//! Rows are read together at the start of a pass and one by one after an effect. It refuses to know what follows from them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crds::Kind;
use store::{
    DbTime, FileObject, Fleet, ProjectState, ProjectView, ProviderSpec, ReplicaView, ResourceUid, Result, RevisionState, TokenState, TokenView,
};

use super::manifest::{Spec, secret_name};
use super::object_key::ObjectKey;
use super::scan::Scan;
use crate::object::Standing;

/// A stored object and how it stands.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) stored: FileObject,
    pub(super) spec: Spec,
    pub(super) standing: Standing,
}

/// Everything that decisions of one pass are made from, but for the `.env` files.
pub(super) struct World {
    pub(super) scan: Arc<Scan>,
    pub(super) objects: BTreeMap<ObjectKey, Known>,
    pub(super) now: DbTime,
    pub(super) replicas: Vec<ReplicaView>,
    pub(super) providers: Vec<ProviderSpec>,
    projects: HashMap<ResourceUid, ProjectView>,
    tokens: HashMap<ResourceUid, TokenView>,
}

impl World {
    /// Reads all rows once.
    pub(super) async fn read(fleet: &Fleet, scan: Arc<Scan>, objects: BTreeMap<ObjectKey, Known>) -> Result<Self> {
        Ok(Self {
            scan,
            objects,
            replicas: fleet.replicas().await?,
            providers: fleet.providers().await?,
            projects: fleet.projects().await?.into_iter().map(|row| (row.owner.uid.clone(), row)).collect(),
            tokens: fleet.tokens().await?.into_iter().map(|row| (row.owner.uid.clone(), row)).collect(),
            now: fleet.store().now().await?,
        })
    }

    /// Reads again what an effect on one object may have changed.
    pub(super) async fn refresh(&mut self, fleet: &Fleet, kind: Kind, uid: &ResourceUid) -> Result<()> {
        match kind {
            Kind::ProxyConfig => self.providers = fleet.providers().await?,
            Kind::LlmProject => replace(&mut self.projects, uid, fleet.project_by_uid(uid).await?),
            Kind::WitheringToken => replace(&mut self.tokens, uid, fleet.token_by_uid(uid).await?),
        }
        self.now = fleet.store().now().await?;
        Ok(())
    }

    /// The row of a project.
    pub(super) fn project(&self, uid: &ResourceUid) -> Option<&ProjectView> {
        self.projects.get(uid)
    }

    /// The row of a token.
    pub(super) fn token(&self, uid: &ResourceUid) -> Option<&TokenView> {
        self.tokens.get(uid)
    }

    /// The declared object of a kind in a namespace, unless it was deleted.
    pub(super) fn declared(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Known> {
        let key = ObjectKey {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        self.objects.get(&key).filter(|known| known.standing != Standing::Gone)
    }

    /// A project that takes tokens: declared, with a row that is not deleted.
    pub(super) fn living_project(&self, known: &Known) -> Option<&ProjectView> {
        self.project(&known.stored.uid).filter(|row| row.state != ProjectState::Deleted)
    }

    /// The tokens whose Secrets were written and may stand, by namespace and Secret name.
    pub(super) fn secret_owners(&self) -> BTreeMap<(String, String), ObjectKey> {
        let owned = |(key, known): (&ObjectKey, &Known)| {
            let row = self
                .token(&known.stored.uid)
                .filter(|row| row.state != TokenState::Revoked && was_delivered(row))?;
            Some(((key.namespace.clone(), row.secret_name.clone()), key.clone()))
        };
        self.objects.iter().filter_map(owned).collect()
    }

    /// The tokens that want each Secret, by namespace and Secret name.
    pub(super) fn secret_wishes(&self) -> BTreeMap<(String, String), Vec<ObjectKey>> {
        let mut wishes: BTreeMap<(String, String), Vec<ObjectKey>> = BTreeMap::new();
        for (key, known) in self.objects.iter().filter(|(_, known)| known.standing != Standing::Gone) {
            let Spec::Token(spec) = &known.spec else { continue };
            if spec.state != crds::TokenState::Revoked {
                let secret = (key.namespace.clone(), secret_name(&key.name, spec).to_owned());
                wishes.entry(secret).or_default().push(key.clone());
            }
        }
        wishes
    }
}

/// Whether a value of this token may ever have reached its Secret.
fn was_delivered(row: &TokenView) -> bool {
    row.revisions
        .iter()
        .any(|revision| revision.write_begun || matches!(revision.state, RevisionState::Active | RevisionState::Previous))
}

fn replace<V>(rows: &mut HashMap<ResourceUid, V>, uid: &ResourceUid, row: Option<V>) {
    match row {
        Some(row) => drop(rows.insert(uid.clone(), row)),
        None => drop(rows.remove(uid)),
    }
}

//! Faults that need two documents to be seen: a reference to nothing, two tokens for one Secret, a second ProxyConfig.
//! They hold no object back; its conditions say the same, and it heals when the other document comes. It refuses to know the database.

use std::collections::{BTreeMap, BTreeSet};

use crds::{Kind, LlmProjectSpec, ProxyConfigSpec, WitheringTokenSpec};

use super::fault::Fault;
use super::manifest::{Manifest, Spec, secret_name};
use super::object_key::ObjectKey;
use super::scan::Scan;

/// What is known besides the manifests.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Objects that stand in the database.
    pub(super) objects: BTreeSet<ObjectKey>,
    /// Whose Secrets were written, by namespace and name.
    pub(super) secrets: BTreeMap<(String, String), ObjectKey>,
}

/// All of them, in the order of the objects.
pub(super) fn faults(scan: &Scan, known: &Known) -> Vec<Fault> {
    let mut found = Vec::new();
    let wishes = wishes(scan);
    for manifest in scan.manifests.values() {
        match &manifest.spec {
            Spec::ProxyConfig(_) => {}
            Spec::Project(spec) => project(scan, known, manifest, spec, &mut found),
            Spec::Token(spec) => token(scan, known, &wishes, manifest, spec, &mut found),
        }
    }
    found
}

fn exists(scan: &Scan, known: &Known, key: &ObjectKey) -> bool {
    scan.manifests.contains_key(key) || scan.held.contains_key(key) || known.objects.contains(key)
}

fn project(scan: &Scan, known: &Known, manifest: &Manifest, spec: &LlmProjectSpec, found: &mut Vec<Fault>) {
    let namespace = &manifest.key.namespace;
    let proxy = ObjectKey {
        kind: Kind::ProxyConfig,
        namespace: spec.proxy_ref.namespace(namespace).to_owned(),
        name: spec.proxy_ref.name.clone(),
    };
    if !exists(scan, known, &proxy) {
        found.push(
            manifest
                .place
                .fault("spec.proxyRef.name", format!("{proxy} does not exist; add its manifest")),
        );
    }
    let fleet = scan.manifests.get(&proxy).and_then(|manifest| {
        if let Spec::ProxyConfig(fleet) = &manifest.spec {
            Some(fleet)
        } else {
            None
        }
    });
    for (index, provider) in spec.providers.iter().enumerate() {
        let path = format!("spec.providers[{index}]");
        let declared = fleet.and_then(|fleet: &ProxyConfigSpec| fleet.providers.iter().find(|declared| declared.name == provider.name));
        if fleet.is_some() && declared.is_none() {
            found.push(manifest.place.fault(
                &format!("{path}.name"),
                format!("{proxy} has no provider {}; add it there or name another", provider.name),
            ));
        }
        if declared.is_some_and(|declared| !declared.needs_credentials()) {
            continue;
        }
        let Some(secret_ref) = provider.credentials.as_ref().map(|credentials| &credentials.secret_ref) else {
            if declared.is_some() {
                let message = format!("is required: provider {} wants a credential; name a Secret here", provider.name);
                found.push(manifest.place.fault(&format!("{path}.credentials"), message));
            }
            continue;
        };
        match scan.secrets.get(&(namespace.clone(), secret_ref.name.clone())) {
            None => {
                let message = format!(
                    "Secret {namespace}/{} does not exist; add its manifest, or pipe it in with -f -",
                    secret_ref.name
                );
                found.push(manifest.place.fault(&format!("{path}.credentials.secretRef.name"), message));
            }
            Some(secret) if secret.value(secret_ref.key()).is_none() => {
                let message = format!(
                    "Secret {namespace}/{} has no value under {:?}; add it there",
                    secret_ref.name,
                    secret_ref.key()
                );
                found.push(manifest.place.fault(&format!("{path}.credentials.secretRef.key"), message));
            }
            Some(_) => {}
        }
    }
}

/// The tokens that want each Secret, by namespace and name: nearly always one.
type Wishes<'s> = BTreeMap<(&'s str, &'s str), Vec<&'s Manifest>>;

fn wishes(scan: &Scan) -> Wishes<'_> {
    let mut wishes = Wishes::new();
    for manifest in scan.manifests.values() {
        if let Spec::Token(spec) = &manifest.spec
            && spec.state != crds::TokenState::Revoked
        {
            let secret = (manifest.key.namespace.as_str(), secret_name(&manifest.key.name, spec));
            wishes.entry(secret).or_default().push(manifest);
        }
    }
    wishes
}

fn token(scan: &Scan, known: &Known, wishes: &Wishes<'_>, manifest: &Manifest, spec: &WitheringTokenSpec, found: &mut Vec<Fault>) {
    let namespace = &manifest.key.namespace;
    let project = ObjectKey {
        kind: Kind::LlmProject,
        namespace: namespace.clone(),
        name: spec.project_ref.name.clone(),
    };
    if !exists(scan, known, &project) {
        found.push(
            manifest
                .place
                .fault("spec.projectRef.name", format!("{project} does not exist; add its manifest")),
        );
    }
    let wanted = (namespace.clone(), secret_name(&manifest.key.name, spec).to_owned());
    if let Some(secret) = scan.secrets.get(&wanted) {
        let message = format!("Secret {}/{} is itself a manifest, at {}; name another", wanted.0, wanted.1, secret.place);
        found.push(manifest.place.fault("spec.secret.name", message));
    }
    let owner = known.secrets.get(&wanted);
    if owner == Some(&manifest.key) || spec.state == crds::TokenState::Revoked {
        return;
    }
    let wish = wishes.get(&(wanted.0.as_str(), wanted.1.as_str()));
    let rival = wish.and_then(|tokens| tokens.iter().find(|other| other.key != manifest.key));
    let message = match (owner, rival) {
        (Some(owner), _) => format!("Secret {}/{} is that of {owner}; name another", wanted.0, wanted.1),
        (None, Some(rival)) => format!(
            "{} at {} wants Secret {}/{} as well; name another in one of them",
            rival.key, rival.place, wanted.0, wanted.1
        ),
        (None, None) => return,
    };
    found.push(manifest.place.fault("spec.secret.name", message));
}

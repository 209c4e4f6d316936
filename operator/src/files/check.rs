//! `--check`: whether the manifests would be taken, without a database.
//! It refuses to know what was taken before.

use crds::Kind;

use super::cross::{self, Known};
use super::fault::Fault;
use super::scan::{Scan, Scanner};
use super::sources::Sources;

/// What a check came to.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// How many of the manifests are valid objects; Secrets are none.
    pub objects: usize,
    /// Everything that is wrong, by file and line.
    pub faults: Vec<Fault>,
    /// Namespace and name of every valid ProxyConfig.
    pub proxy_configs: Vec<(String, String)>,
}

/// Reads and judges all manifests once. Blocking.
#[must_use]
pub fn check(sources: &Sources) -> CheckReport {
    let scan = Scanner::new(sources.clone()).scan();
    let mut faults = scan.faults.clone();
    faults.extend(cross::faults(&scan, &Known::default()));
    let fleets: Vec<_> = scan
        .manifests
        .values()
        .filter(|manifest| manifest.key.kind == Kind::ProxyConfig)
        .collect();
    if fleets.len() > 1 {
        let message = format!("{} ProxyConfigs are declared; exactly one is served, remove the others", fleets.len());
        faults.extend(fleets.iter().map(|manifest| manifest.place.fault("", message.clone())));
    }
    if fleets.is_empty() && !holds_fleet(&scan) {
        let shown: Vec<&str> = sources.shown().collect();
        faults.push(Fault::of_file(shown.join(", "), "no ProxyConfig is declared; exactly one is needed"));
    }
    faults.sort();
    faults.dedup();
    let proxy_configs = fleets
        .iter()
        .map(|manifest| (manifest.key.namespace.clone(), manifest.key.name.clone()))
        .collect();
    CheckReport {
        objects: scan.manifests.len(),
        faults,
        proxy_configs,
    }
}

/// A ProxyConfig is there, but not valid: that is said already.
fn holds_fleet(scan: &Scan) -> bool {
    scan.held.keys().any(|key| key.kind == Kind::ProxyConfig)
}

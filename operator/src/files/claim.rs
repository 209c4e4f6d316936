//! Which fleet the manifests declare: the name under which standalone claims its database (contracts.md §10).
//! It refuses to know whether the database was claimed before.

use store::Claim;

use super::check::CheckReport;

/// The cluster part of every identity in standalone.
pub const CLUSTER: &str = "standalone";

/// Why the manifests name no fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// There is none. A database that was claimed before can be served all the same.
    #[error("no valid ProxyConfig is declared; exactly one is needed")]
    Absent,
    /// There are several.
    #[error("several ProxyConfigs are declared ({}); exactly one is served, remove the others", .0.join(", "))]
    Several(Vec<String>),
}

/// The claim of the one declared ProxyConfig.
///
/// # Errors
/// [`ClaimError`] if there is not exactly one.
pub fn claim_of(report: &CheckReport) -> Result<Claim, ClaimError> {
    match report.proxy_configs.as_slice() {
        [] => Err(ClaimError::Absent),
        [(namespace, name)] => Ok(Claim {
            cluster: CLUSTER.to_owned(),
            namespace: namespace.clone(),
            name: name.clone(),
        }),
        several => Err(ClaimError::Several(
            several.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect(),
        )),
    }
}

//! The pure core: from what is observed of one resource to the one effect that brings it closer to its spec.
//! It reads no clock, draws no random number and touches nothing; time and a fresh token value come in with the observation.

mod limits;
mod programmed;
mod project;
mod proxy_config;
mod report;
mod token;

use crate::effect::Decision;
use crate::observed::Observed;

/// Decides the next effect for one resource. Performing it and observing again leads, in a bounded number of steps, to a decision without effect.
#[must_use]
pub fn decide(observed: &Observed) -> Decision {
    match observed {
        Observed::ProxyConfig(seen) => proxy_config::decide(seen),
        Observed::Project(seen) => project::decide(seen),
        Observed::Token(seen) => token::decide(seen),
    }
}

//! `standalone --check`: says whether the manifests would be taken, and touches nothing.

use operator::files::{Sources, check};

use crate::console;
use crate::exit::{Failure, Outcome};

/// One line for what is valid, one per fault otherwise.
pub(super) fn run(sources: &Sources) -> Result<Outcome, Failure> {
    let report = check(sources);
    if !report.faults.is_empty() {
        return Err(Failure::of_lines(report.faults));
    }
    let noun = if report.objects == 1 { "object" } else { "objects" };
    console::print(&format!("{} {noun} valid\n", report.objects))?;
    Ok(Outcome::Ok)
}

//! `llm-proxy standalone`. (being wired)
use crate::args::StandaloneArgs;
use crate::exit::{Failure, Outcome};
pub(crate) fn run(args: &StandaloneArgs) -> Result<Outcome, Failure> {
    let _log = crate::logging::start(&args.log)?;
    let dir = crate::data_dir::DataDir::open(&args.data_dir).map_err(Failure::new)?;
    dir.sealing_key().map_err(Failure::new)?;
    dir.ensure_management_token().map_err(Failure::new)?;
    Ok(Outcome::Ok)
}

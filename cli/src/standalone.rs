//! `llm-proxy standalone`: wires log, data directory, database, data plane and control plane together, in the one order in which
//! a failure at any point leaves nothing half done. It refuses to know how any of them works.

mod address;
mod check;
mod signals;

use std::io::Read;

use operator::files::{self, FilesReconciler, Sources};
use proxy::{DrainSettings, EgressSettings, Proxy, Settings};
use store::{Fleet, HolderId, KeyRing, Store};
use tokio::sync::watch;

use crate::args::StandaloneArgs;
use crate::console;
use crate::data_dir::{DataDir, database_path};
use crate::exit::{Failure, Outcome};
use crate::logging;
use address::local_url;
use signals::Signals;

/// Threads of the control runtime: manifests, database, look-ups. Requests run on the data plane's own threads.
const CONTROL_THREADS: usize = 2;

/// Validates, or serves until a signal.
pub(crate) fn run(args: &StandaloneArgs) -> Result<Outcome, Failure> {
    let sources = sources(args)?;
    if args.check {
        return check::run(&sources);
    }
    let log = logging::start(&args.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format_args!("cannot start the control threads: {error}")))?;
    let ended = runtime.block_on(serve(args, sources));
    if let Err(failure) = &ended {
        tracing::error!(error = %failure, "ended");
    }
    drop(log);
    ended
}

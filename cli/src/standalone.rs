//! `llm-proxy standalone`: wires data directory, database, data plane and control plane together, in the one order in which a failure at any
//! point leaves nothing half done. It refuses to know how any of them works.

mod check;
mod database;

use std::io::Read;
use std::path::Path;

use operator::files::{self, FilesReconciler, Sources};
use proxy::{ManageSettings, ManagementToken, Proxy, Reporting};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

use crate::args::StandaloneArgs;
use crate::console;
use crate::data_dir::DataDir;
use crate::exit::{Failure, Outcome};
use crate::logging;
use crate::serving::{self, local_url};
use database::Database;

/// The largest standard input that is read as manifests.
const MAX_STDIN: u64 = 16 << 20;

/// Validates, or serves until a signal.
pub(crate) fn run(args: &StandaloneArgs) -> Result<Outcome, Failure> {
    let sources = sources(args)?;
    if args.check {
        return check::run(&sources);
    }
    let _log = logging::start(&args.serve.log)?;
    let runtime = serving::runtime()?;
    let ended = LocalSet::new().block_on(&runtime, serve(args, sources));
    runtime.shutdown_timeout(serving::LEFTOVERS);
    ended
}

async fn serve(args: &StandaloneArgs, sources: Sources) -> Result<Outcome, Failure> {
    let asked_to_end = serving::signals()?;
    let dir = DataDir::open(&args.data_dir).map_err(Failure::new)?;
    let manifests = files::check(&sources);
    let database = database::open(&dir, &manifests).await?;
    let Database { store, claim, fleet, holder } = database;

    let manage = ManageSettings {
        listen: args.serve.manage_listen,
        token: ManagementToken::File(dir.management_token()),
    };
    let settings = serving::settings(&args.serve, args.listen, Some(manage), Reporting::Prompt);
    let proxy = Proxy::start(settings, fleet.clone(), holder).await.map_err(Failure::new)?;
    let local_url = local_url(proxy.addr());
    let base_url = format!("{}/v1", args.public_url.as_deref().unwrap_or(&local_url));
    let mut reconciler = FilesReconciler::new(sources, dir.path(), fleet.clone(), claim, base_url).map_err(Failure::new)?;
    let put_in_force = |error| Failure::new(format_args!("the manifests cannot be put in force: {error}"));
    reconciler.pass().await.map_err(put_in_force)?;
    // Once this process follows what the first pass wrote, the second one can say so in every status: `ready` means Ready.
    database::acknowledged(&fleet, holder).await.map_err(put_in_force)?;
    let settled = reconciler.pass().await.map_err(put_in_force)?;
    for complaint in &settled.complaints {
        console::complain(&format!("{complaint}\n"));
    }
    announce(&local_url, &settled.env_files);

    let (stop, stopped) = oneshot::channel::<()>();
    let mut reconciling = spawn_local(reconciler.run(async move { drop(stopped.await) }));
    let broken = tokio::select! {
        () = asked_to_end.wait() => false,
        // It ends by itself only by a fault of ours; without it nothing would be renewed or revoked.
        _ = &mut reconciling => true,
    };
    let drained = proxy.drain().await;
    if !drained.leases_returned {
        tracing::warn!("leases could not be given back: their rest is forfeited at the next start");
    }
    drop(stop);
    if !broken {
        let _ = reconciling.await;
    }
    store.close().await;
    if broken {
        return Err(Failure::new(
            "the manifests' reader broke down, and with it renewal and revocation: see the log, and start llm-proxy again",
        ));
    }
    tracing::info!(cut_replies = drained.cut, "ended");
    Ok(Outcome::Ok)
}

/// Says on standard output that everything is up: the address, then each file with a working key.
fn announce(local_url: &str, env_files: &[impl AsRef<Path>]) {
    let mut text = format!("ready {local_url}/v1\n");
    for file in env_files {
        text += &format!("{}\n", file.as_ref().display());
    }
    if let Err(failure) = console::print(&text) {
        tracing::warn!("{}", failure.report().trim_end());
    }
}

/// The `-f` paths; standard input, if it is one of them, is read here and never again.
fn sources(args: &StandaloneArgs) -> Result<Sources, Failure> {
    let (stdin, paths): (Vec<_>, Vec<_>) = args.filename.iter().cloned().partition(|path| path == Path::new("-"));
    let stdin = if stdin.is_empty() { None } else { Some(read_stdin()?) };
    Ok(Sources::new(paths, stdin))
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    match std::io::stdin().lock().take(MAX_STDIN + 1).read_to_string(&mut text) {
        Err(error) => Err(Failure::new(format_args!("cannot read manifests from standard input: {error}"))),
        Ok(_) if text.len() as u64 > MAX_STDIN => Err(Failure::new("cannot read manifests from standard input: more than 16 MiB")),
        Ok(_) => Ok(text),
    }
}

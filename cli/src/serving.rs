//! What every command that serves has in common: its runtime, its signals, the settings that its flags make, and how it waits for a
//! database. It refuses to know where projects and tokens come from.

mod address;
mod contact;
mod given;
mod signals;

use std::net::SocketAddr;
use std::time::Duration;

use proxy::{DrainSettings, EgressSettings, Limits, ManageSettings, Proxy, Reporting, Settings};
use store::{Fleet, HolderId};
use tokio::runtime::Runtime;

pub(crate) use address::local_url;
pub(crate) use contact::{Contact, NoContact};
pub(crate) use given::{postgres_url, sealing_key, secret};
pub(crate) use signals::Asked;

use crate::args::ServeArgs;
use crate::console;
use crate::exit::{Failure, Outcome};

/// Threads of the control runtime: manifests, database, look-ups. Requests run on the data plane's own threads.
const CONTROL_THREADS: usize = 2;
/// How long what is left on the control runtime may take to end after everything of importance has.
pub(crate) const LEFTOVERS: Duration = Duration::from_secs(1);

/// The control runtime, in a process that has its one provider for every TLS connection.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    // It fails only if there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format_args!("cannot start the control threads: {error}")))
}

/// Hears SIGTERM and SIGINT from now on, before there is a runtime. Where that is not possible, [`signals`] says so.
pub(crate) fn hear_signals() {
    let _ = signals::hear();
}

/// Listens for SIGTERM and SIGINT from now on; must be called on a runtime.
pub(crate) fn signals() -> Result<Asked, Failure> {
    signals::listen().map_err(|error| Failure::new(format_args!("cannot listen for signals: {error}")))
}

/// Clears away what the last process on a locked database left: the lock proves that whoever held leases here is dead.
pub(crate) async fn take_over(fleet: &Fleet, holder: HolderId) -> store::Result<()> {
    let forfeited = fleet.forfeit_other_holders(holder).await?;
    fleet.remove_other_replicas(holder).await?;
    if forfeited > 0 {
        tracing::warn!(
            leases = forfeited,
            "the last process did not end in order: what it had leased and not reported is forfeited"
        );
    }
    Ok(())
}

/// The data plane's settings.
pub(crate) fn settings(args: &ServeArgs, listen: SocketAddr, manage: Option<ManageSettings>, reporting: Reporting) -> Settings {
    Settings {
        listen,
        threads: usize::from(args.threads),
        limits: Limits {
            first_byte_deadline: args.first_byte_timeout,
            reply_idle: args.reply_idle_timeout,
            ..Limits::default()
        },
        egress: EgressSettings {
            ca_bundle: args.ca_bundle.clone(),
            ..EgressSettings::default()
        },
        drain: DrainSettings {
            delay: args.drain_delay,
            grace: args.drain_grace,
        },
        allowed_origins: args.allowed_origins.clone(),
        stale_after: args.stale_after,
        manage,
        reporting,
    }
}

/// Serves until a signal: at once, and ready as soon as the database is there.
pub(crate) async fn serve(
    settings: Settings,
    holder: HolderId,
    asked_to_end: Asked,
    open: impl AsyncFnMut() -> Result<Contact, NoContact>,
) -> Result<Outcome, Failure> {
    let mut proxy = Proxy::bind(settings).map_err(Failure::new)?;
    let url = local_url(proxy.addr());
    tracing::info!(url, "listening");
    let contact = contact::first_contact(&mut proxy, holder, &asked_to_end, open).await?;
    if contact.is_some() {
        let mut ready = format!("ready {url}\n");
        if let Some(addr) = proxy.manage_addr() {
            ready += &format!("manage {}\n", local_url(addr));
        }
        console::print(&ready)?;
        asked_to_end.wait().await;
    }
    let drained = proxy.drain().await;
    if !drained.leases_returned {
        tracing::warn!("leases could not be given back: their rest is forfeited");
    }
    if let Some(contact) = contact {
        contact.store.close().await;
    }
    tracing::info!(cut_replies = drained.cut, "ended");
    Ok(Outcome::Ok)
}

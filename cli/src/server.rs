//! `llm-proxy server`, the classic mode: projects and tokens come through /manage, the database is a SQLite file of its own or a PostgreSQL
//! that several processes share. It wires; it refuses to know how anything works.

pub(crate) mod database;

use proxy::{ManageSettings, ManagementToken, Proxy};
use secrecy::SecretString;
use store::HolderId;

use crate::args::ServerArgs;
use crate::console;
use crate::dotenv::variable;
use crate::exit::{Failure, Outcome};
use crate::logging;
use crate::serving::{self, first_contact, local_url};
use database::Database;

/// Serves until a signal.
pub(crate) fn run(args: &ServerArgs) -> Result<Outcome, Failure> {
    let management_token = variable("MANAGEMENT_TOKEN").ok_or_else(|| {
        Failure::new(
            "MANAGEMENT_TOKEN is not set: give it in the environment or the configuration file, such as the output of `openssl rand -hex 32`",
        )
    })?;
    let _log = logging::start(&args.serve.log)?;
    let runtime = serving::runtime()?;
    let ended = runtime.block_on(serve(args, management_token));
    runtime.shutdown_timeout(serving::LEFTOVERS);
    ended
}

async fn serve(args: &ServerArgs, management_token: SecretString) -> Result<Outcome, Failure> {
    let asked_to_end = serving::signals()?;
    let database = Database::of(args.db.as_deref())?;
    let holder = HolderId::new();
    let manage = ManageSettings {
        listen: args.serve.manage_listen,
        token: ManagementToken::Fixed(management_token),
    };
    let settings = serving::settings(&args.serve, args.addr, manage, database.reporting());
    let mut proxy = Proxy::bind(settings).map_err(Failure::new)?;
    let url = local_url(proxy.addr());
    tracing::info!(url, database = database.kind(), "listening");
    let contact = first_contact(&mut proxy, holder, &asked_to_end, async || database.open(holder).await).await?;
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

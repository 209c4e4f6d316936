//! `llm-proxy server`, the classic mode: projects and tokens come through /manage, the database is a SQLite file of its own or a PostgreSQL
//! that several processes share. It wires; it refuses to know how anything works.

pub(crate) mod database;

use proxy::{ManageSettings, ManagementToken};
use secrecy::SecretString;
use store::HolderId;

use crate::args::ServerArgs;
use crate::dotenv::variable;
use crate::exit::{Failure, Outcome};
use crate::logging;
use crate::serving;
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
    let manage = ManageSettings {
        listen: args.serve.manage_listen,
        token: ManagementToken::Fixed(management_token),
    };
    let settings = serving::settings(&args.serve, args.addr, Some(manage), database.reporting());
    let holder = HolderId::new();
    serving::serve(settings, holder, asked_to_end, async || database.open(holder).await).await
}

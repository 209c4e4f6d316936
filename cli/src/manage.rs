//! `llm-proxy manage`: asks the management API of a running server. It refuses to know the database.

mod api;
mod audit;
mod output;
mod project;
mod target;
mod token;
mod usage;

use secrecy::{ExposeSecret, SecretString};

use crate::args::{ManageApiArgs, ManageArgs, ManageCommand, OutputFormat};
use crate::client::{BaseUrl, Client, Remedies};
use crate::console;
use crate::exit::{Failure, Kind, Outcome};
use crate::fleet;
use api::Api;
use target::Target;
pub(crate) use target::Typed;

const REMEDIES: Remedies = Remedies {
    address: "--manage-api-base-url (MANAGEMENT_API_BASE_URL)",
    credential: "--management-token (MANAGEMENT_TOKEN)",
};
const FLEET_REMEDIES: Remedies = Remedies {
    address: "--fleet and --context",
    credential: "the key token of the fleet's management Secret",
};
/// What the address is if the variable is set to nothing.
const DEFAULT_BASE: &str = "http://localhost:8080";

/// Asks, and prints the answer.
pub(crate) fn run(args: &ManageArgs, typed: Typed) -> Result<Outcome, Failure> {
    let target = Target::of(&args.api, typed)?;
    let format = args.api.format();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format_args!("cannot start: {error}")))?;
    let ended = runtime.block_on(async {
        let api = Api::new(match target {
            Target::Address => client(&args.api)?,
            Target::Fleet => through_a_tunnel(&args.api).await?,
        });
        match &args.command {
            ManageCommand::Project(command) => project::run(&api, command, format).await.map(well),
            ManageCommand::Token(command) => token::run(&api, command, format).await.map(well),
            ManageCommand::Usage(args) => usage::run(&api, args, format).await.map(well),
            ManageCommand::Audit(command) => audit::run(&api, command, format).await,
        }
    });
    // A look-up of a host's name that hangs must not keep the process after its deadline.
    runtime.shutdown_background();
    let (text, outcome) = ended?;
    console::print(&text)?;
    Ok(outcome)
}

/// What a command prints that has nothing to complain of.
fn well(text: String) -> (String, Outcome) {
    (text, Outcome::Ok)
}

fn client(args: &ManageApiArgs) -> Result<Client, Failure> {
    let base = match args.manage_api_base_url.trim() {
        "" => DEFAULT_BASE,
        base => base,
    };
    let base = BaseUrl::parse(base).map_err(|why| Failure::new(format_args!("{} is no base URL: {why}", REMEDIES.address)))?;
    let token = match &args.management_token {
        Some(token) if !token.expose_secret().trim().is_empty() => token.clone(),
        _ => {
            return Err(Failure::of(
                Kind::Authentication,
                format_args!("no management token: set MANAGEMENT_TOKEN, or give {}", "--management-token"),
            ));
        }
    };
    Client::new(base, &token, args.ca_bundle.as_deref(), args.timeout, REMEDIES)
}

async fn through_a_tunnel(args: &ManageApiArgs) -> Result<Client, Failure> {
    let fleet = fleet::reach(&args.fleet, args.timeout).await?;
    Client::through(fleet.tunnel, &fleet.token, args.timeout, FLEET_REMEDIES)
}

/// A secret from the command line, or for `-` from standard input.
fn secret(given: &SecretString, what: &str) -> Result<SecretString, Failure> {
    let secret = match given.expose_secret().trim() {
        "-" => console::read_secret(what)?,
        other => SecretString::from(other),
    };
    if secret.expose_secret().is_empty() {
        return Err(Failure::new(format_args!("{what} is empty")));
    }
    Ok(secret)
}

/// What a command prints of one document.
fn one(format: OutputFormat, document: &str, table: impl FnOnce(&[serde_json::Value]) -> String) -> Result<String, Failure> {
    output::print(format, &[document.to_owned()], output::Shape::One, table)
}

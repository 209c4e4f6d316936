//! Flags of `llm-proxy manage`.

mod project;
mod report;
mod token;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use secrecy::SecretString;

pub(crate) use project::{ProjectCommand, ProjectCreateArgs, ProjectUpdateArgs, ProviderKeyArgs};
pub(crate) use report::{AuditCommand, AuditListArgs, UsageArgs};
pub(crate) use token::{TokenCommand, TokenGenerateArgs, TokenListArgs, TokenName, TokenUpdateArgs};

use super::values::duration;
use super::{ConfigFile, FleetArgs, OutputFormat};

/// `llm-proxy manage …`: what is asked of the management API, and of which one.
#[derive(Debug, Args)]
pub(crate) struct ManageArgs {
    /// Where and as whom.
    #[command(flatten)]
    pub(crate) api: ManageApiArgs,

    /// What.
    #[command(subcommand)]
    pub(crate) command: ManageCommand,
}

/// Where the management API is, who calls, and how its answers are printed; before or after the subcommand.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every manage command")]
pub(crate) struct ManageApiArgs {
    /// Address of the management API: what stands before /manage
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MANAGEMENT_API_BASE_URL",
        default_value = "http://localhost:8080",
        alias = "api-base-url"
    )]
    pub(crate) manage_api_base_url: String,

    /// The management token; better in the environment, since a command line shows in the shell's history
    #[arg(long, global = true, value_name = "TOKEN", env = "MANAGEMENT_TOKEN", hide_env_values = true)]
    pub(crate) management_token: Option<SecretString>,

    /// table or json
    #[arg(short, long, global = true, value_name = "FORMAT", hide_possible_values = true)]
    output: Option<OutputFormat>,

    /// The same as -o json: the API's own documents
    #[arg(long, global = true, conflicts_with = "output")]
    json: bool,

    /// How long each call may take
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,

    /// Certificate authorities (PEM) trusted besides the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_bundle: Option<PathBuf>,

    /// The file of variables.
    #[command(flatten)]
    config: ConfigFile,

    /// Which fleet, if it is one.
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
}

impl ManageApiArgs {
    /// How to print.
    pub(crate) fn format(&self) -> OutputFormat {
        match self.output {
            Some(format) if !self.json => format,
            _ if self.json => OutputFormat::Json,
            _ => OutputFormat::Table,
        }
    }
}

/// What can be managed.
#[derive(Debug, Subcommand)]
pub(crate) enum ManageCommand {
    /// Projects: each holds the key of a provider
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Tokens: the keys that applications use
    #[command(subcommand)]
    Token(TokenCommand),
    /// What was used: requests and LLM tokens
    Usage(UsageArgs),
    /// Who did what
    #[command(subcommand)]
    Audit(AuditCommand),
}

//! Flags of `llm-proxy manage`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use secrecy::SecretString;

use super::values::{duration, non_empty};
use super::{ConfigFile, OutputFormat};

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
}

/// What can be done with projects.
#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommand {
    /// List all projects
    List,
    /// Show one project
    Get(ProjectId),
    /// Create a project
    Create(ProjectCreateArgs),
    /// Change a project's name or its provider key
    Update(ProjectUpdateArgs),
    /// Always refused by the API: a project is deactivated instead
    Delete(ProjectId),
    /// Let a project's tokens through again
    Activate(ProjectId),
    /// Refuse every request of a project's tokens
    Deactivate(ProjectDeactivateArgs),
}

/// Which project.
#[derive(Debug, Args)]
pub(crate) struct ProjectId {
    /// The project's id
    #[arg(value_name = "PROJECT-ID", value_parser = non_empty)]
    pub(crate) id: String,
}

/// A provider's key, or where it comes from.
#[derive(Debug, Args)]
pub(crate) struct ProviderKeyArgs {
    /// The provider's API key; - reads it from standard input
    #[arg(long, value_name = "KEY", alias = "api-key")]
    pub(crate) openai_key: Option<SecretString>,

    /// Read the provider's API key from standard input, so that it stays out of the shell's history
    #[arg(long, conflicts_with = "openai_key", alias = "api-key-stdin")]
    pub(crate) openai_key_stdin: bool,
}

/// Flags of `project create`.
#[derive(Debug, Args)]
pub(crate) struct ProjectCreateArgs {
    /// The project's name
    #[arg(long, value_parser = non_empty)]
    pub(crate) name: String,

    /// Its key.
    #[command(flatten)]
    pub(crate) key: ProviderKeyArgs,
}

/// Flags of `project update`.
#[derive(Debug, Args)]
pub(crate) struct ProjectUpdateArgs {
    /// Which.
    #[command(flatten)]
    pub(crate) project: ProjectId,

    /// The new name
    #[arg(long, value_parser = non_empty)]
    pub(crate) name: Option<String>,

    /// The new key.
    #[command(flatten)]
    pub(crate) key: ProviderKeyArgs,
}

/// Flags of `project deactivate`.
#[derive(Debug, Args)]
pub(crate) struct ProjectDeactivateArgs {
    /// Which.
    #[command(flatten)]
    pub(crate) project: ProjectId,

    /// Also revoke all its tokens, for good
    #[arg(long)]
    pub(crate) revoke_tokens: bool,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Issue a token; its value is shown once
    Generate(TokenGenerateArgs),
    /// List tokens
    List(TokenListArgs),
    /// Show one token
    Get(TokenName),
    /// Change a token's limit, or suspend and resume it
    Update(TokenUpdateArgs),
    /// Revoke a token for good
    Revoke(TokenName),
    /// Revoke all tokens of a project for good
    RevokeAll(TokenRevokeAllArgs),
}

/// Which token.
#[derive(Debug, Args)]
pub(crate) struct TokenName {
    /// The token's id or its value; - reads that from standard input
    #[arg(value_name = "TOKEN")]
    pub(crate) token: SecretString,
}

/// Flags of `token generate`.
#[derive(Debug, Args)]
pub(crate) struct TokenGenerateArgs {
    /// The project whose provider key the token uses
    #[arg(long, value_name = "PROJECT-ID", value_parser = non_empty)]
    pub(crate) project_id: String,

    /// Its life in hours, at most a year
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8760))]
    pub(crate) duration: u32,

    /// Its life in minutes, instead of --duration
    #[arg(long, value_name = "MINUTES", conflicts_with = "duration", value_parser = clap::value_parser!(u32).range(1..=525_600))]
    pub(crate) duration_minutes: Option<u32>,

    /// How many requests it is good for; 0 is unlimited
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub(crate) max_requests: u64,
}

/// Flags of `token list`.
#[derive(Debug, Args)]
pub(crate) struct TokenListArgs {
    /// Only those of this project
    #[arg(long, value_name = "PROJECT-ID", value_parser = non_empty)]
    pub(crate) project_id: Option<String>,

    /// Only those that can be used now
    #[arg(long)]
    pub(crate) active_only: bool,
}

/// Flags of `token update`.
#[derive(Debug, Args)]
#[group(id = "change", required = true, multiple = true)]
pub(crate) struct TokenUpdateArgs {
    /// Which.
    #[command(flatten)]
    pub(crate) token: TokenName,

    /// How many requests it is good for in all; 0 is unlimited
    #[arg(long, value_name = "N", group = "change", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub(crate) max_requests: Option<u64>,

    /// Let it through again
    #[arg(long, group = "change")]
    pub(crate) activate: bool,

    /// Refuse it until it is activated
    #[arg(long, group = "change", conflicts_with = "activate")]
    pub(crate) deactivate: bool,
}

/// Flags of `token revoke-all`.
#[derive(Debug, Args)]
pub(crate) struct TokenRevokeAllArgs {
    /// The project
    #[arg(long, value_name = "PROJECT-ID", value_parser = non_empty)]
    pub(crate) project_id: String,
}

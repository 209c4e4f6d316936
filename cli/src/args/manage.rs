//! Flags of `llm-proxy manage`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use secrecy::SecretString;

use super::values::{day, duration, non_empty};
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
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=api::MAX_COUNT))]
    pub(crate) max_requests: u64,

    /// A name for people
    #[arg(long, value_parser = non_empty)]
    pub(crate) name: Option<String>,
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
    #[arg(long, value_name = "N", group = "change", value_parser = clap::value_parser!(u64).range(..=api::MAX_COUNT))]
    pub(crate) max_requests: Option<u64>,

    /// Let it through again
    #[arg(long, group = "change")]
    pub(crate) activate: bool,

    /// Refuse it until it is activated
    #[arg(long, group = "change", conflicts_with = "activate")]
    pub(crate) deactivate: bool,

    /// A new life in hours, counted from now
    #[arg(long, value_name = "HOURS", group = "change", value_parser = clap::value_parser!(u32).range(1..=8760))]
    pub(crate) duration: Option<u32>,

    /// A new life in minutes, counted from now
    #[arg(long, value_name = "MINUTES", group = "change", conflicts_with = "duration", value_parser = clap::value_parser!(u32).range(1..=525_600))]
    pub(crate) duration_minutes: Option<u32>,

    /// A new name for people
    #[arg(long, group = "change", value_parser = non_empty)]
    pub(crate) name: Option<String>,
}

/// Flags of `token revoke-all`.
#[derive(Debug, Args)]
pub(crate) struct TokenRevokeAllArgs {
    /// The project
    #[arg(long, value_name = "PROJECT-ID", value_parser = non_empty)]
    pub(crate) project_id: String,
}

/// Flags of `manage usage`.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// Only of this project
    #[arg(long, value_name = "PROJECT-ID", value_parser = non_empty)]
    pub(crate) project_id: Option<String>,

    /// Only of the token with this id
    #[arg(long, value_name = "TOKEN-ID", value_parser = non_empty)]
    pub(crate) token_id: Option<String>,

    /// Only of this model
    #[arg(long)]
    pub(crate) model: Option<String>,

    /// From this day on (UTC), such as 2026-01-31
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub(crate) from: Option<String>,

    /// Up to and with this day (UTC)
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub(crate) to: Option<String>,

    /// What the sums are kept apart by; none of them gives one sum
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "day,project,token,model")]
    pub(crate) group_by: Vec<UsageColumn>,
}

/// What sums can be kept apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UsageColumn {
    /// By day (UTC).
    Day,
    /// By project.
    Project,
    /// By token.
    Token,
    /// By model.
    Model,
    /// By nothing.
    None,
}

impl UsageColumn {
    /// As the API calls it; nothing for [`UsageColumn::None`].
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Day => Some("day"),
            Self::Project => Some("project"),
            Self::Token => Some("token"),
            Self::Model => Some("model"),
            Self::None => None,
        }
    }
}

/// What can be done with the audit.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show a page of events, newest first
    List(Box<AuditListArgs>),
    /// Check every chain of events for rows that are missing or changed; exits 1 if there are any
    Verify,
}

/// Flags of `manage audit list`.
#[derive(Debug, Args)]
pub(crate) struct AuditListArgs {
    /// Only this action, such as token.create
    #[arg(long)]
    pub(crate) action: Option<String>,

    /// Only of this actor
    #[arg(long)]
    pub(crate) actor: Option<String>,

    /// allowed, denied or failed
    #[arg(long, value_parser = ["allowed", "denied", "failed"], hide_possible_values = true)]
    pub(crate) outcome: Option<String>,

    /// Only of this project
    #[arg(long, value_name = "PROJECT-ID")]
    pub(crate) project_id: Option<String>,

    /// Only of this request
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,

    /// Only events that hold this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) search: Option<String>,

    /// From then on, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) start_time: Option<String>,

    /// Up to then
    #[arg(long, value_name = "TIME")]
    pub(crate) end_time: Option<String>,

    /// Which page
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=api::MAX_COUNT))]
    pub(crate) page: u64,

    /// Events of a page, at most 100
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=api::PAGE_SIZE_MAX))]
    pub(crate) page_size: u64,
}

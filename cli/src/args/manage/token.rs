//! Flags of `llm-proxy manage token`.

use clap::{Args, Subcommand};
use secrecy::SecretString;

use crate::args::values::non_empty;

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

//! Flags of `llm-proxy manage project`.

use clap::{Args, Subcommand};
use secrecy::SecretString;

use crate::args::values::non_empty;

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

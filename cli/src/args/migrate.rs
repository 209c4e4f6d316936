//! Flags of `llm-proxy migrate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConfigFile;

/// `llm-proxy migrate …`: which database, and what is to be done to its schema.
#[derive(Debug, Args)]
#[command(after_help = "\
Environment, or lines NAME=VALUE of the configuration file:
  DATABASE_URL   postgres://…: a PostgreSQL; --db wins over it, it wins over DATABASE_PATH")]
pub(crate) struct MigrateArgs {
    /// The SQLite database [env: DATABASE_PATH] [default: data/llm-proxy.db]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) db: Option<PathBuf>,

    /// The configuration file.
    #[command(flatten)]
    _config: ConfigFile,

    /// What.
    #[command(subcommand)]
    pub(crate) command: MigrateCommand,
}

/// What can be done to a schema.
#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// Apply all migrations that are missing
    Up,
    /// Take the newest migration back; what its tables hold is lost
    Down {
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Show the schema's version
    #[command(visible_alias = "version")]
    Status,
}

//! The command line: commands, flags, the environment variables behind them, and how their values read.
//! It refuses to know what the commands do.

mod chat;
mod fleet;
mod manage;
mod migrate;
mod operator;
mod serve;
mod setup;
mod spend;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;

pub(crate) use chat::{ChatArgs, OpenaiCommand};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
pub(crate) use fleet::FleetArgs;
#[cfg(test)]
pub(crate) use fleet::FleetName;
pub(crate) use manage::{
    AuditCommand, AuditListArgs, ManageApiArgs, ManageArgs, ManageCommand, ProjectCommand, ProjectCreateArgs, ProjectUpdateArgs, ProviderKeyArgs,
    TokenCommand, TokenGenerateArgs, TokenListArgs, TokenName, TokenUpdateArgs, UsageArgs,
};
pub(crate) use migrate::{MigrateArgs, MigrateCommand};
pub(crate) use operator::OperatorArgs;
pub(crate) use serve::{PodArgs, ServeArgs, ServerArgs};
pub(crate) use setup::{SetupArgs, listen_text};
pub(crate) use spend::SpendArgs;
pub(crate) use values::public_url;
use values::{EnvFilterText, OptionalPath, listen_addr, log_filter, optional_path};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "llm-proxy",
    version,
    about = "Short-lived, limited keys in front of LLM providers",
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the binary can be asked to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve what manifests in files declare, with a local SQLite database: no cluster needed
    Standalone(Box<StandaloneArgs>),
    /// Serve what is created through /manage: projects and tokens in a database of its own, or in a PostgreSQL that several processes share
    Server(Box<ServerArgs>),
    /// Serve as one of a fleet's replicas, on a PostgreSQL that somebody else migrates
    Proxy(Box<PodArgs>),
    /// Do what ProxyConfigs, LLMProjects and WitheringTokens of a Kubernetes cluster ask for
    Operator(Box<OperatorArgs>),
    /// Show objects, tokens and usage of a standalone data directory, whether or not its process runs
    Status(StatusArgs),
    /// Write the configuration file, bring the database up, and create a first project with its token
    Setup(Box<SetupArgs>),
    /// Bring a database's schema up, take it back, or show where it stands
    Migrate(MigrateArgs),
    /// Administer projects and tokens of a running server
    Manage(Box<ManageArgs>),
    /// Use the OpenAI API of a proxy
    #[command(subcommand)]
    Openai(OpenaiCommand),
    /// Print a completion script for a shell, to be loaded by its start-up file
    Completion {
        /// bash, zsh, fish, elvish or powershell
        shell: Shell,
    },
    /// Print the version
    Version,
}

/// Flags of `llm-proxy standalone`.
#[derive(Debug, Args)]
pub(crate) struct StandaloneArgs {
    /// Manifests: a file, a folder (its *.yaml, *.yml and *.json, not recursively), or - for standard input; repeatable
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    pub(crate) filename: Vec<PathBuf>,

    /// Where the database, the keys and the issued secrets live
    #[arg(long, value_name = "DIR", default_value = "./llm-proxy-data")]
    pub(crate) data_dir: PathBuf,

    /// Address to serve on; port 0 takes a free one, :8080 means every interface
    #[arg(long, value_name = "ADDR", env = "LISTEN_ADDR", default_value = "127.0.0.1:8080", value_parser = listen_addr)]
    pub(crate) listen: SocketAddr,

    /// Only validate the manifests: says what is wrong, with file, line and field, and exits 1 if anything is
    #[arg(long)]
    pub(crate) check: bool,

    /// Address that applications reach this process by, for the issued secrets: scheme and host, without /v1
    #[arg(long, value_name = "URL", value_parser = public_url)]
    pub(crate) public_url: Option<String>,

    /// Flags of every command that serves.
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

/// Flags of the log.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// text or json; absent: text on a terminal, json otherwise
    #[arg(long, value_name = "FORMAT", env = "LOG_FORMAT", hide_possible_values = true)]
    pub(crate) log_format: Option<LogFormat>,

    /// error, warn, info, debug or trace; also per module, such as info,proxy=debug
    #[arg(long, value_name = "LEVEL", env = "LOG_LEVEL", default_value = "info", value_parser = log_filter)]
    pub(crate) log_level: EnvFilterText,

    /// Log to this file instead of standard error
    #[arg(long, value_name = "FILE", env = "LOG_FILE", value_parser = optional_path)]
    pub(crate) log_file: Option<OptionalPath>,

    /// Start a new log file after this many MiB
    #[arg(long, value_name = "MIB", env = "LOG_MAX_SIZE_MB", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) log_max_size_mb: u64,

    /// How many old log files to keep beside the current one
    #[arg(long, value_name = "N", env = "LOG_MAX_BACKUPS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) log_max_backups: u32,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[value(alias = "console")]
    Text,
    /// One JSON object per line.
    Json,
}

/// Flags of `llm-proxy status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The data directory of `llm-proxy standalone`
    #[arg(long, value_name = "DIR", default_value = "./llm-proxy-data")]
    pub(crate) data_dir: PathBuf,

    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    output: OutputFormat,

    /// The same as -o json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

impl StatusArgs {
    /// How to print.
    pub(crate) fn format(&self) -> OutputFormat {
        if self.json { OutputFormat::Json } else { self.output }
    }
}

/// `--config`, for commands that read variables from a file. Nobody asks for its value here: the file is read before the command line is.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// File of NAME=value lines, for variables that the environment does not set
    #[arg(long = "config", global = true, value_name = "FILE", default_value = crate::dotenv::DEFAULT)]
    _config: PathBuf,
}

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    Table,
    /// One JSON document.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}

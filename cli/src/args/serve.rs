//! Flags of the commands that serve: those that all of them have, and those of `server` and of a fleet's pod.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use store::Claim;

use super::values::{claim, deadline, duration, listen_addr, origin, stale_after};
use super::{ConfigFile, LogArgs};

/// Flags of every command that serves /v1.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Serve /manage at this address alone, instead of beside /v1
    #[arg(long, value_name = "ADDR", value_parser = listen_addr)]
    pub(crate) manage_listen: Option<SocketAddr>,

    /// Threads that carry requests; 0 means one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub(crate) threads: u16,

    /// Certificate authorities (PEM) trusted besides the system's when calling providers
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_bundle: Option<PathBuf>,

    /// Browser origin that gets CORS headers, such as https://app.example.com; repeatable, every origin if absent
    #[arg(long = "allowed-origin", value_name = "ORIGIN", value_parser = origin)]
    pub(crate) allowed_origins: Vec<String>,

    /// How long a provider may take from the request to the head of its answer
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = deadline)]
    pub(crate) first_byte_timeout: Duration,

    /// How long a provider may be silent within its answer; noticed after at most twice as long
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = deadline)]
    pub(crate) reply_idle_timeout: Duration,

    /// How long known tokens are served while the database cannot be reached; then /v1 answers 503 until it can
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = stale_after)]
    pub(crate) stale_after: Duration,

    /// After SIGTERM: how long to go on accepting while /ready says 503
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub(crate) drain_delay: Duration,

    /// After that: how long running requests may take to finish
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) drain_grace: Duration,

    /// Flags of the log.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// Flags of `llm-proxy server`.
#[derive(Debug, Args)]
#[command(after_help = "\
Environment, or lines NAME=VALUE of the configuration file:
  MANAGEMENT_TOKEN  what /manage is asked with; required
  DATABASE_URL      postgres://…: a PostgreSQL that several processes share; --db wins over it, it wins over DATABASE_PATH
  ENCRYPTION_KEY    base64 of 32 bytes; without it encryption.key beside the SQLite file, made once
  OPENAI_API_URL    where OpenAI is, default https://api.openai.com
A flag wins over the environment, the environment over the file.")]
pub(crate) struct ServerArgs {
    /// Address to serve on; :8080 means every interface, port 0 takes a free one
    #[arg(long, value_name = "ADDR", env = "LISTEN_ADDR", default_value = ":8080", value_parser = listen_addr)]
    pub(crate) addr: SocketAddr,

    /// The SQLite database; its folder is made if need be [env: DATABASE_PATH] [default: data/llm-proxy.db]
    #[arg(long, value_name = "FILE")]
    pub(crate) db: Option<PathBuf>,

    /// The configuration file.
    #[command(flatten)]
    _config: ConfigFile,

    /// Flags of every command that serves.
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

/// Flags of `llm-proxy proxy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Environment:
  DATABASE_URL      postgres://…, unless --database-url-file is given
  ENCRYPTION_KEY    base64 of 32 bytes, unless --encryption-key-file is given
  MANAGEMENT_TOKEN  what /manage is asked with, unless --management-token-file is given; without either /manage is not served")]
pub(crate) struct PodArgs {
    /// The fleet, as CLUSTER/NAMESPACE/NAME: whose database it has to be
    #[arg(long, value_name = "CLAIM", value_parser = claim)]
    pub(crate) claim: Claim,

    /// Address of /v1; :8080 means every interface, port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = ":8080", value_parser = listen_addr)]
    pub(crate) listen: SocketAddr,

    /// File with the URL of the PostgreSQL database
    #[arg(long, value_name = "FILE")]
    pub(crate) database_url_file: Option<PathBuf>,

    /// File with the key that opens what is sealed in the database
    #[arg(long, value_name = "FILE")]
    pub(crate) encryption_key_file: Option<PathBuf>,

    /// File with the management token; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) management_token_file: Option<PathBuf>,

    /// Flags of every command that serves.
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

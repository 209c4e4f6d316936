//! Flags of `llm-proxy setup`.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

use super::values::{listen_addr, non_empty};

/// Flags of `llm-proxy setup`.
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// File of NAME=value lines to write; other lines of an existing one stay
    #[arg(long, value_name = "FILE", default_value = crate::dotenv::DEFAULT)]
    pub(crate) config: PathBuf,

    /// Ask for everything, on a terminal; keys are typed unseen
    #[arg(long)]
    pub(crate) interactive: bool,

    /// The OpenAI API key; - reads it from standard input
    #[arg(long, value_name = "KEY", env = "OPENAI_API_KEY", hide_env_values = true)]
    pub(crate) openai_key: Option<SecretString>,

    /// The token that /manage is asked with; one is made if there is none
    #[arg(long, value_name = "TOKEN", env = "MANAGEMENT_TOKEN", hide_env_values = true)]
    pub(crate) management_token: Option<SecretString>,

    /// The project to create
    #[arg(long, value_name = "NAME", default_value = "DefaultProject", value_parser = non_empty)]
    pub(crate) project: String,

    /// The life of its first token in hours, at most a year
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8760))]
    pub(crate) duration: u32,

    /// Create no project and no token
    #[arg(long)]
    pub(crate) skip_project: bool,

    /// The SQLite database [env: DATABASE_PATH] [default: data/llm-proxy.db]
    #[arg(long, value_name = "FILE")]
    pub(crate) db: Option<PathBuf>,

    /// Address that the server will listen on
    #[arg(long, value_name = "ADDR", env = "LISTEN_ADDR", default_value = "localhost:8080", value_parser = listen_text)]
    pub(crate) addr: String,
}

/// A listening address as it was typed: it goes into a file.
pub(crate) fn listen_text(text: &str) -> Result<String, String> {
    listen_addr(text).map(|_| text.to_owned())
}

//! Flags of `llm-proxy openai`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use secrecy::SecretString;

use super::ConfigFile;
use super::values::{duration, temperature};

/// What can be done with the OpenAI API of a proxy.
#[derive(Debug, Subcommand)]
pub(crate) enum OpenaiCommand {
    /// Talk to a model: a session on a terminal, one answer with a message or a pipe
    Chat(ChatArgs),
    /// Spend a token: so many requests are answered, the next one is refused
    Spend(super::SpendArgs),
}

/// Flags of `openai chat`.
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// One message, answered once; without it a session on a terminal, else what stands on standard input
    #[arg(value_name = "MESSAGE")]
    pub(crate) message: Vec<String>,

    /// The proxy's token; better in the environment, since a command line shows in the shell's history
    #[arg(long, value_name = "TOKEN", env = "PROXY_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<SecretString>,

    /// Address of the proxy: what stands before /v1
    #[arg(long, value_name = "URL", env = "PROXY_URL", default_value = "http://localhost:8080", alias = "proxy")]
    pub(crate) base_url: String,

    /// The model
    #[arg(long, default_value = "gpt-4")]
    pub(crate) model: String,

    /// What the model is told before anything else
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,

    /// The most LLM tokens of an answer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: Option<u32>,

    /// 0 to 2; the provider's default if absent
    #[arg(long, value_name = "T", value_parser = temperature)]
    pub(crate) temperature: Option<f64>,

    /// Wait for the whole answer instead of showing it as it comes
    #[arg(long)]
    pub(crate) no_stream: bool,

    /// How long to wait for an answer to begin, and between its parts
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) timeout: Duration,

    /// Certificate authorities (PEM) trusted besides the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_bundle: Option<PathBuf>,

    /// The file of variables.
    #[command(flatten)]
    config: ConfigFile,
}

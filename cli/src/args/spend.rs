//! Flags of `llm-proxy openai spend`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use secrecy::SecretString;

use super::values::{duration, non_empty};

/// Flags of `openai spend`.
#[derive(Debug, Args)]
#[command(after_help = "\
It exits 0 if so many requests were answered and the one after them was refused with the code. It asks again where it is told to try again
later, and until an address answers at all: with the Secret of a new token as environment it is a whole check of a fleet.")]
pub(crate) struct SpendArgs {
    /// How many requests have to be answered
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) requests: u32,

    /// The code with which the next one has to be refused
    #[arg(long = "then", value_name = "CODE", default_value = "rate_limit_exceeded", value_parser = non_empty)]
    pub(crate) code: String,

    /// The model
    #[arg(long, default_value = "echo")]
    pub(crate) model: String,

    /// The token; better in the environment, since a command line shows in the shell's history
    #[arg(long, value_name = "TOKEN", env = "OPENAI_API_KEY", hide_env_values = true)]
    pub(crate) token: Option<SecretString>,

    /// Address of the proxy: what stands before /v1, or with it
    #[arg(long, value_name = "URL", env = "OPENAI_BASE_URL", default_value = "http://localhost:8080")]
    pub(crate) base_url: String,

    /// How long it may take in all
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub(crate) timeout: Duration,

    /// Certificate authorities (PEM) trusted besides the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_bundle: Option<PathBuf>,
}

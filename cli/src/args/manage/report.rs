//! Flags of `llm-proxy manage usage` and `llm-proxy manage audit`.

use clap::{Args, Subcommand, ValueEnum};

use crate::args::values::{day, non_empty};

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

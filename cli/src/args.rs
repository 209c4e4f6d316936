//! The command line: commands, flags, the environment variables behind them, and how their values read.
//! It refuses to know what the commands do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

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
    Standalone(StandaloneArgs),
    /// Show objects, tokens and usage of a standalone data directory, whether or not its process runs
    Status(StatusArgs),
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

    /// Threads that carry requests; 0 means one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,

    /// Certificate authorities (PEM) trusted besides the system's when calling providers
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_bundle: Option<PathBuf>,

    /// Browser origin that gets CORS headers, such as https://app.example.com; repeatable, every origin if absent
    #[arg(long = "allowed-origin", value_name = "ORIGIN")]
    pub(crate) allowed_origins: Vec<String>,

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

/// The text of a log filter that is known to parse. (The parsed filter cannot be cloned, which clap wants.)
#[derive(Clone, Debug)]
pub(crate) struct EnvFilterText(String);

impl EnvFilterText {
    /// The filter itself.
    pub(crate) fn filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

/// A path that the environment may give as an empty text, which means none: `LOG_FILE=` logs to standard error.
#[derive(Clone, Debug)]
pub(crate) struct OptionalPath(pub(crate) Option<PathBuf>);

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

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    Table,
    /// One JSON document.
    Json,
}

/// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, or `:8080` for every interface.
fn listen_addr(text: &str) -> Result<SocketAddr, String> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let (ip, port) = match text.rsplit_once(':') {
        Some(("", port)) => (Ipv4Addr::UNSPECIFIED, port),
        Some(("localhost", port)) => (Ipv4Addr::LOCALHOST, port),
        _ => return Err("expected IP:PORT, such as 127.0.0.1:8080, or :PORT for every interface".to_owned()),
    };
    let port = port.parse().map_err(|_| format!("{port:?} is not a port: expected 0 to 65535"))?;
    Ok(SocketAddr::new(IpAddr::V4(ip), port))
}

/// Scheme and authority, and perhaps a path, without a trailing `/` or `/v1`.
fn public_url(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let base = text.trim_end_matches('/');
    let base = base.strip_suffix("/v1").unwrap_or(base).trim_end_matches('/');
    match authority {
        Some(rest)
            if !rest.is_empty()
                && !rest.starts_with(['/', ':', '?', '#'])
                && !rest.contains(['?', '#', '@'])
                && rest.is_ascii()
                && !rest.contains(char::is_whitespace) =>
        {
            Ok(base.to_owned())
        }
        _ => Err("expected http:// or https:// and a host, such as https://llm.example.com".to_owned()),
    }
}

/// `300ms`, `10s`, `1m30s`, `0s`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: expected something like 10s or 1m30s");
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(parsed).map_err(|_| wrong())
}

fn log_filter(text: &str) -> Result<EnvFilterText, String> {
    let text = if text.trim().is_empty() { "info" } else { text };
    // To the filter a bare word that is no level is a module's name: a mistyped level would silence everything else.
    let mistyped = text
        .split(',')
        .map(str::trim)
        .find(|part| !part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err());
    let expected = "expected error, warn, info, debug or trace, or something like info,proxy=debug";
    match (mistyped, EnvFilter::try_new(text)) {
        (Some(word), _) => Err(format!("{word:?} is not a level: {expected}")),
        (None, Err(error)) => Err(format!("{error}: {expected}")),
        (None, Ok(_)) => Ok(EnvFilterText(text.to_owned())),
    }
}

fn optional_path(text: &str) -> Result<OptionalPath, String> {
    Ok(OptionalPath((!text.is_empty()).then(|| PathBuf::from(text))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn listen_addresses_read_like_the_ancestors() {
        let read = |text: &str| listen_addr(text).map(|addr| addr.to_string()).ok();
        assert_eq!(read(":8080").as_deref(), Some("0.0.0.0:8080"));
        assert_eq!(read("localhost:0").as_deref(), Some("127.0.0.1:0"));
        assert_eq!(read("[::]:80").as_deref(), Some("[::]:80"));
        for wrong in ["", "8080", "127.0.0.1", ":", ":65536", "example.com:80"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_public_url_loses_its_tail_and_must_have_a_host() {
        let read = |text: &str| public_url(text).ok();
        assert_eq!(read("https://llm.example.com/").as_deref(), Some("https://llm.example.com"));
        assert_eq!(read("http://10.0.0.1:80/v1").as_deref(), Some("http://10.0.0.1:80"));
        assert_eq!(read("https://example.com/llm/v1/").as_deref(), Some("https://example.com/llm"));
        for wrong in [
            "",
            "llm.example.com",
            "ftp://x",
            "http://",
            "http:///v1",
            "http://x?y",
            "http://u@x",
            "http://a b",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_are_written_with_their_unit() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "5", "-1s", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_log_filter_that_says_nothing_known_is_refused() {
        assert!(log_filter("info,proxy=debug").is_ok());
        assert!(log_filter("").is_ok());
        assert!(log_filter("WARN").is_ok());
        for wrong in ["proxy=loud", "verbose"] {
            assert!(log_filter(wrong).is_err(), "{wrong}");
        }
    }
}

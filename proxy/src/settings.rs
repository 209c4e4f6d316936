//! What the composition root decides about a data plane before it starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::manage::ManageSettings;

/// Everything that [`crate::Proxy::start`] needs besides the fleet.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where /v1 and the operational endpoints are served; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Data threads; 0 means one per core.
    pub threads: usize,
    /// Sizes and deadlines.
    pub limits: Limits,
    /// How providers are reached.
    pub egress: EgressSettings,
    /// How the process leaves.
    pub drain: DrainSettings,
    /// Browser origins that get CORS headers; empty allows every origin (tokens are bearer values, no cookies are involved).
    pub allowed_origins: Vec<String>,
    /// How long known tokens are served after the last good contact with the database.
    pub stale_after: Duration,
    /// Whether and how `/manage` is served; `None`: not at all.
    pub manage: Option<ManageSettings>,
    /// How soon the database hears what was used.
    pub reporting: Reporting,
}

/// How soon the database hears what was used. What is lost when a process is killed is the same: what it had leased is forfeited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reporting {
    /// At once, nearly: for a process that is alone on its database, where people look at figures within a second.
    #[default]
    Prompt,
    /// Limits within 1 s, usage within 2 s: for a database that many processes share.
    Sparing,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            threads: 0,
            limits: Limits::default(),
            egress: EgressSettings::default(),
            drain: DrainSettings::default(),
            allowed_origins: Vec::new(),
            stale_after: Duration::from_secs(300),
            manage: None,
            reporting: Reporting::default(),
        }
    }
}

/// Sizes in bytes and deadlines.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest request body; larger ones get 413.
    pub max_body_bytes: usize,
    /// Bytes of request bodies held at once by the whole process; beyond it 503.
    pub body_budget_bytes: usize,
    /// The largest request head; larger ones get 431.
    pub max_head_bytes: usize,
    /// Grants kept in memory; beyond it any other one makes room, since it can be loaded again.
    pub max_grants: usize,
    /// For a client to send a whole request head, and between two requests of one connection.
    pub head_deadline: Duration,
    /// For a client between two pieces of its body; of a form, which streams through, noticed after at most twice as long.
    pub body_idle: Duration,
    /// For a client to send its whole body, where it is read whole.
    pub body_deadline: Duration,
    /// For one TCP connect and TLS handshake with a provider.
    pub connect_deadline: Duration,
    /// From the request's head going upstream to the answer's head.
    pub first_byte_deadline: Duration,
    /// Between two pieces of a provider's answer; noticed after at most twice as long.
    pub reply_idle: Duration,
    /// An idle provider connection older than this is closed: shorter than what providers keep.
    pub upstream_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 32 << 20,
            body_budget_bytes: 512 << 20,
            max_head_bytes: 64 << 10,
            max_grants: 200_000,
            head_deadline: Duration::from_secs(60),
            body_idle: Duration::from_secs(30),
            body_deadline: Duration::from_secs(300),
            connect_deadline: Duration::from_secs(10),
            first_byte_deadline: Duration::from_secs(600),
            reply_idle: Duration::from_secs(300),
            upstream_idle: Duration::from_secs(50),
        }
    }
}

/// How providers are reached.
#[derive(Clone, Debug, Default)]
pub struct EgressSettings {
    /// A PEM file of certificate authorities trusted besides the system's.
    pub ca_bundle: Option<PathBuf>,
    /// The HTTP proxies on the way out.
    pub proxies: EgressProxies,
}

/// Where the rules for egress proxies come from.
#[derive(Clone, Debug, Default)]
pub enum EgressProxies {
    /// HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in curl's meaning.
    #[default]
    Environment,
    /// Given values of the same form; empty means none.
    Fixed {
        /// For https providers.
        https: String,
        /// For http providers.
        http: String,
        /// Hosts that are reached directly.
        no: String,
    },
}

/// How the process leaves after SIGTERM (contracts.md §6).
#[derive(Clone, Debug)]
pub struct DrainSettings {
    /// /ready says 503 while requests are still accepted, so that load balancers notice first.
    pub delay: Duration,
    /// How long running requests may go on after that; then streams end with an error event.
    pub grace: Duration,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            grace: Duration::from_secs(300),
        }
    }
}

//! What can go wrong with a call, in one line each, and the exit code of each.

use std::error::Error;
use std::time::Duration;

use http::StatusCode;

use super::Remedies;
use super::address::BaseUrl;
use super::answer::printable;
use crate::exit::{Failure, Kind};
use crate::fleet::{Refusal, broken_by};

/// Why there is no usable answer. None of its texts holds a secret; texts of the server are made printable.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// No connection.
    Unreachable {
        /// The server.
        base: String,
        /// The system's reason.
        why: String,
    },
    /// No tunnel to the pod.
    Tunnel(Refusal),
    /// No TLS.
    Tls {
        /// The server.
        base: String,
        /// The reason.
        why: String,
    },
    /// The connection ended before the answer did.
    Cut {
        /// The server.
        base: String,
        /// What the node of a tunnel's pod says.
        why: Option<String>,
    },
    /// What came is not HTTP/1.1.
    NotHttp {
        /// The server.
        base: String,
        /// The reason.
        why: String,
    },
    /// Not within the deadline.
    Slow {
        /// The server.
        base: String,
        /// The deadline.
        after: Duration,
    },
    /// The answer points elsewhere; a credential is not carried there.
    Redirected {
        /// The server.
        base: String,
        /// Where to.
        to: String,
    },
    /// The answer is of no kind that the API gives.
    Foreign {
        /// The server.
        base: String,
        /// Its status.
        status: StatusCode,
        /// What it is instead, such as `a web page`.
        what: String,
    },
    /// The answer is larger than anything that is expected.
    TooLarge {
        /// The server.
        base: String,
        /// What is read, in MiB.
        limit_mib: usize,
    },
    /// The API says no.
    Refused {
        /// The status.
        status: StatusCode,
        /// Its message, on one line.
        message: String,
        /// Its code.
        code: Option<String>,
        /// Seconds after which to try again.
        retry_after: Option<u64>,
    },
}

impl ClientError {
    /// Sorts an error of the connection.
    pub(super) fn broken(base: &BaseUrl, error: &hyper::Error) -> Self {
        if error.is_parse() {
            let (base, why) = (base.to_string(), error.to_string());
            return Self::NotHttp { base, why };
        }
        Self::cut(base, error)
    }

    /// That the connection ended too early, and why as far as that is known.
    pub(super) fn cut(base: &BaseUrl, error: &(dyn Error + 'static)) -> Self {
        Self::Cut {
            base: base.to_string(),
            why: broken_by(error).map(printable),
        }
    }

    /// The exit code's kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. } | Self::Tls { .. } | Self::Cut { .. } => Kind::Network,
            Self::Tunnel(refusal) => refusal.kind,
            Self::Slow { .. } => Kind::Timeout,
            Self::NotHttp { .. } | Self::Redirected { .. } | Self::TooLarge { .. } => Kind::Other,
            // That a foreign server has no such page says nothing of the object.
            Self::Foreign { status, .. } if *status == StatusCode::NOT_FOUND => Kind::Other,
            Self::Foreign { status, .. } | Self::Refused { status, .. } => match status.as_u16() {
                401 | 403 => Kind::Authentication,
                404 => Kind::NotFound,
                408 | 504 => Kind::Timeout,
                _ => Kind::Other,
            },
        }
    }

    /// The line that ends the command: `act` is what was tried, such as `cannot list projects`.
    pub(crate) fn failure(&self, act: &str, remedies: Remedies) -> Failure {
        let Remedies { address, credential } = remedies;
        let why = match self {
            Self::Unreachable { base, why } => format!("no connection to {base}: {why}: is the server running? else set {address}"),
            Self::Tls { base, why } => {
                format!("no TLS with {base}: {why}: check {address}; a private authority is trusted by --ca-bundle")
            }
            Self::Tunnel(refusal) => refusal.why.clone(),
            Self::Cut { base, why: Some(why) } => format!("the tunnel to {base} broke: {why}: try again, or see the pod's log"),
            Self::Cut { base, why: None } => format!("the connection to {base} ended before the answer did: try again, or see the server's log"),
            Self::NotHttp { base, why } => format!("what answers at {base} does not speak plain HTTP/1.1 ({why}): check {address}"),
            Self::Slow { base, after } => format!("no answer from {base} within {after:?}: try again, or raise --timeout"),
            Self::Redirected { base, to } => format!("{base} redirects to {to}: set {address} to that if you trust it"),
            Self::Foreign { base, status, what } => {
                format!("{base} answered {} with {what} instead of JSON: check {address}", status.as_u16())
            }
            Self::TooLarge { base, limit_mib } => format!("the answer of {base} is larger than {limit_mib} MiB: check {address}"),
            Self::Refused {
                status,
                message,
                code,
                retry_after,
            } => refused(*status, message, code.as_deref(), *retry_after, credential),
        };
        Failure::of(self.kind(), format_args!("{act}: {why}"))
    }
}

fn refused(status: StatusCode, message: &str, code: Option<&str>, retry_after: Option<u64>, credential: &str) -> String {
    // The server's sentence goes on here.
    let mut line = format!("HTTP {}: {}", status.as_u16(), message.strip_suffix('.').unwrap_or(message));
    if let Some(code) = code {
        line += &format!(" ({code})");
    }
    match (status.as_u16(), retry_after) {
        (401, _) => line += &format!(": check {credential}"),
        (_, Some(seconds)) if !message.contains("try again") => line += &format!(": try again in {seconds} s"),
        (500, None) => line += ": see the server's log",
        _ => {}
    }
    line
}

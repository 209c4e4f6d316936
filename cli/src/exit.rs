//! How a command ends: its exit code, and the one line that says why. The full table of codes, for every command, is
//! 0 ok, 1 any other error and wrong usage, 2 network, 3 authentication, 4 not found, 5 timeout (README, "Exit codes").

use std::fmt;
use std::process::ExitCode;

/// How a command that ran to its end came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything is as it should be.
    Ok,
    /// It did what it was asked, and what it found is not well; it has said so already.
    NotWell,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::SUCCESS,
            Outcome::NotWell => Self::from(1),
        }
    }
}

/// What kind of failure ended a command, as far as scripts are to tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything without a code of its own.
    Other,
    /// The other side cannot be reached, or the connection broke.
    Network,
    /// It did not accept who we are, or that we may.
    Authentication,
    /// It has no such object.
    NotFound,
    /// It did not answer in time.
    Timeout,
}

impl Kind {
    /// The exit code.
    fn code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Network => 2,
            Self::Authentication => 3,
            Self::NotFound => 4,
            Self::Timeout => 5,
        }
    }
}

/// Why a command could not do what it was asked: what happened, to which object, what to do. Never holds a secret.
#[derive(Debug)]
pub(crate) struct Failure {
    lines: Vec<String>,
    kind: Kind,
}

impl Failure {
    /// A failure that one line explains.
    pub(crate) fn new(line: impl fmt::Display) -> Self {
        Self::of(Kind::Other, line)
    }

    /// A failure of a kind that has an exit code of its own.
    pub(crate) fn of(kind: Kind, line: impl fmt::Display) -> Self {
        Self {
            lines: vec![line.to_string()],
            kind,
        }
    }

    /// A failure with a line for each of several causes.
    pub(crate) fn of_lines(lines: impl IntoIterator<Item = impl fmt::Display>) -> Self {
        Self {
            lines: lines.into_iter().map(|line| line.to_string()).collect(),
            kind: Kind::Other,
        }
    }

    /// What kind it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.code())
    }

    /// What standard error shows: one line per cause, each ready to be found by its first word.
    pub(crate) fn report(&self) -> String {
        self.lines.iter().map(|line| format!("error: {}\n", one_line(line))).collect()
    }
}

/// Folds a message of several lines (a parser's, the system's) into one.
fn one_line(message: &str) -> String {
    message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_of_several_lines_is_reported_in_one() {
        assert_eq!(Failure::new("cannot parse\n  at line 3\n").report(), "error: cannot parse; at line 3\n");
    }

    #[test]
    fn each_cause_has_a_line() {
        assert_eq!(Failure::of_lines(["a", "b"]).report(), "error: a\nerror: b\n");
    }
}

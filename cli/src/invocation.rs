//! By which name the binary was called: its own, or as kubectl's plugin.

use std::ffi::OsStr;
use std::path::Path;

use clap::{Command, CommandFactory};

use crate::args::Cli;

/// As whom the binary was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    /// `llm-proxy`, or any name that says nothing.
    Itself,
    /// `kubectl llm-proxy`: kubectl looks for `kubectl-llm_proxy`, since a dash would begin a subcommand.
    KubectlPlugin,
    /// `kubectl_complete-llm_proxy`: what kubectl asks for completions of its plugin.
    KubectlCompletion,
}

impl Invocation {
    /// Reads the first word of the command line.
    pub(crate) fn of(argv0: Option<&OsStr>) -> Self {
        let name = argv0.map(Path::new).and_then(Path::file_stem).and_then(OsStr::to_str);
        match name {
            Some("kubectl-llm_proxy") => Self::KubectlPlugin,
            Some("kubectl_complete-llm_proxy") => Self::KubectlCompletion,
            _ => Self::Itself,
        }
    }

    /// The command line as its help shows it.
    pub(crate) fn command(self) -> Command {
        match self {
            Self::Itself => Cli::command(),
            Self::KubectlPlugin | Self::KubectlCompletion => Cli::command().bin_name("kubectl llm-proxy").display_name("kubectl llm-proxy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_whether_kubectl_calls() {
        let of = |name: &str| Invocation::of(Some(OsStr::new(name)));
        assert_eq!(of("/usr/local/bin/kubectl-llm_proxy"), Invocation::KubectlPlugin);
        assert_eq!(of("kubectl-llm_proxy.exe"), Invocation::KubectlPlugin);
        assert_eq!(of("/usr/local/bin/kubectl_complete-llm_proxy"), Invocation::KubectlCompletion);
        for other in ["llm-proxy", "/opt/kubectl-llm_proxy/llm-proxy", ""] {
            assert_eq!(of(other), Invocation::Itself, "{other}");
        }
        assert_eq!(Invocation::of(None), Invocation::Itself);
    }
}

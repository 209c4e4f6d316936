//! Whom `manage` asks: a server at an address, or a fleet in a Kubernetes cluster. It refuses to know how either is reached.

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::args::ManageApiArgs;
use crate::exit::Failure;
use crate::invocation::Invocation;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The server at `--manage-api-base-url`, as `--management-token`.
    Address,
    /// The fleet that `--fleet` names, or the only one.
    Fleet,
}

/// What the command line itself says: a variable of the environment, which may be meant for another server, decides nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Typed {
    /// Whether kubectl called.
    plugin: bool,
    address: bool,
    token: bool,
}

impl Typed {
    /// Looks at the flags of `manage`.
    pub(crate) fn of(invocation: Invocation, matches: &ArgMatches) -> Self {
        let typed = |flag: &str| {
            let manage = matches.subcommand_matches("manage");
            manage.and_then(|manage| manage.value_source(flag)) == Some(ValueSource::CommandLine)
        };
        Self {
            plugin: invocation == Invocation::KubectlPlugin,
            address: typed("manage_api_base_url"),
            token: typed("management_token"),
        }
    }
}

impl Target {
    /// Chooses.
    ///
    /// # Errors
    /// If flags contradict each other, or one would be passed over.
    pub(super) fn of(args: &ManageApiArgs, typed: Typed) -> Result<Self, Failure> {
        let named = args.fleet.fleet.is_some();
        if named && typed.address {
            return Err(Failure::new("--fleet and --manage-api-base-url name two servers: give one of them"));
        }
        if !named && (!typed.plugin || typed.address) {
            return match args.fleet.detail() {
                None => Ok(Self::Address),
                Some(flag) if typed.address => Err(Failure::new(format_args!(
                    "{flag} says where a fleet is, and --manage-api-base-url names a server: give one of them"
                ))),
                Some(flag) => Err(Failure::new(format_args!(
                    "{flag} says where a fleet is: give --fleet [NAMESPACE/]NAME as well"
                ))),
            };
        }
        if typed.token {
            return Err(Failure::new(
                "--management-token is of no use for a fleet: leave it out, the token is read from the fleet's management Secret",
            ));
        }
        if args.ca_bundle.is_some() {
            return Err(Failure::new(
                "--ca-bundle is of no use for a fleet: leave it out, the kubeconfig says what the API server's certificate is checked against",
            ));
        }
        Ok(Self::Fleet)
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn target(invocation: Invocation, flags: &str) -> Result<Target, String> {
        let words = ["llm-proxy", "manage"]
            .into_iter()
            .chain(flags.split_whitespace())
            .chain(["project", "list"]);
        let matches = invocation.command().try_get_matches_from(words).unwrap();
        let Command::Manage(args) = Cli::from_arg_matches(&matches).unwrap().command else {
            panic!("not manage");
        };
        Target::of(&args.api, Typed::of(invocation, &matches)).map_err(|failure| failure.report())
    }

    #[test]
    fn without_a_fleet_the_address_is_asked_and_kubectl_asks_the_only_fleet() {
        let (itself, plugin) = (Invocation::Itself, Invocation::KubectlPlugin);
        assert_eq!(target(itself, ""), Ok(Target::Address));
        assert_eq!(target(itself, "--fleet a/b"), Ok(Target::Fleet));
        assert_eq!(target(plugin, ""), Ok(Target::Fleet));
        assert_eq!(target(plugin, "-n a --context c --kubeconfig k"), Ok(Target::Fleet));
        assert_eq!(target(plugin, "--manage-api-base-url http://x"), Ok(Target::Address));
    }

    #[test]
    fn flags_that_would_be_passed_over_are_refused() {
        let (itself, plugin) = (Invocation::Itself, Invocation::KubectlPlugin);
        for (invocation, flags, said) in [
            (itself, "-n a", "--namespace says where a fleet is"),
            (itself, "--context c", "--context says"),
            (itself, "--kubeconfig k", "--kubeconfig says"),
            (itself, "--fleet b --manage-api-base-url http://x", "two servers"),
            (plugin, "--context c --manage-api-base-url http://x", "give one of them"),
            (plugin, "--management-token canary", "of no use for a fleet"),
            (itself, "--fleet b --ca-bundle f", "of no use for a fleet"),
        ] {
            let refused = target(invocation, flags).unwrap_err();
            assert!(refused.contains(said) && !refused.contains("canary"), "{flags}: {refused}");
        }
    }
}

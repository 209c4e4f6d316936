//! The one binary `llm-proxy`: parses the command line, runs the command, turns its end into an exit code.

mod args;
mod chat;
mod client;
mod completion;
mod console;
mod data_dir;
mod database;
mod dotenv;
mod exit;
mod fleet;
mod invocation;
mod logging;
mod manage;
mod migrate;
mod operator;
mod pod;
mod private_file;
mod server;
mod serving;
mod setup;
mod spend;
mod standalone;
mod status;
mod table;

use std::process::ExitCode;

use args::{Cli, Command, OpenaiCommand};
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use exit::{Failure, Outcome};
use invocation::Invocation;
use manage::Typed;

/// The commands that containers begin with.
const SERVE: [&str; 3] = ["proxy", "operator", "server"];

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| SERVE.iter().any(|command| word == *command))
    {
        serving::hear_signals();
    }
    // Before anything else, while the process has one thread: the file sets variables of the environment.
    let invocation = Invocation::of(std::env::args_os().next().as_deref());
    if invocation == Invocation::KubectlCompletion {
        return match console::print(&completion::answer(invocation.command(), std::env::args().skip(1))) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.exit_code(),
        };
    }
    if let Err(failure) = dotenv::load(invocation, std::env::args_os().skip(1)) {
        console::complain(&failure.report());
        return failure.exit_code();
    }
    let parsed = invocation
        .command()
        .try_get_matches()
        .and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error),
    };
    match run(cli.command, invocation, &matches) {
        Ok(outcome) => outcome.into(),
        Err(failure) => {
            console::complain(&failure.report());
            failure.exit_code()
        }
    }
}

fn run(command: Command, invocation: Invocation, matches: &ArgMatches) -> Result<Outcome, Failure> {
    match command {
        Command::Standalone(args) => standalone::run(&args),
        Command::Server(args) => server::run(&args),
        Command::Proxy(args) => pod::run(&args),
        Command::Operator(args) => operator::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Setup(args) => setup::run(&args),
        Command::Migrate(args) => migrate::run(&args),
        Command::Manage(args) => manage::run(&args, Typed::of(invocation, matches)),
        Command::Openai(OpenaiCommand::Chat(args)) => chat::run(&args),
        Command::Openai(OpenaiCommand::Spend(args)) => spend::run(&args),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "llm-proxy", &mut script);
            console::print(&String::from_utf8_lossy(&script)).map(|()| Outcome::Ok)
        }
        Command::Version => console::print(concat!("llm-proxy ", env!("CARGO_PKG_VERSION"), "\n")).map(|()| Outcome::Ok),
    }
}

/// Help and version are answers; anything else that stops the parser is wrong usage, which is 1 here and not clap's 2.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        console::complain(&error.render().to_string());
        return ExitCode::from(1);
    }
    match console::print(&error.render().to_string()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit_code(),
    }
}

//! The one binary `llm-proxy`: parses the command line, runs the command, turns its end into an exit code.

mod args;
mod console;
mod data_dir;
mod env_file;
mod exit;
mod logging;
mod private_file;
mod server;
mod serving;
mod standalone;
mod status;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;
use env_file::Environment;
use exit::{Failure, Outcome};

fn main() -> ExitCode {
    let parsed = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let ended = Environment::of(parsed.command.config()).and_then(|environment| match environment.complete(parsed) {
        Ok(cli) => run(cli.command, &environment),
        Err(error) => Ok(usage(&error)),
    });
    ended.unwrap_or_else(|failure| {
        console::complain(&failure.report());
        failure.exit_code()
    })
}

fn run(command: Command, environment: &Environment) -> Result<ExitCode, Failure> {
    let outcome = match command {
        Command::Standalone(args) => standalone::run(&args),
        Command::Server(args) => server::run(&args, environment),
        Command::Status(args) => status::run(&args),
        Command::Version => console::print(concat!("llm-proxy ", env!("CARGO_PKG_VERSION"), "\n")).map(|()| Outcome::Ok),
    };
    outcome.map(ExitCode::from)
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

//! The one binary `llm-proxy`: parses the command line, runs the command, turns its end into an exit code.

mod args;
mod chat;
mod client;
mod console;
mod data_dir;
mod database;
mod dotenv;
mod exit;
mod logging;
mod manage;
mod migrate;
mod operator;
mod pod;
mod private_file;
mod server;
mod serving;
mod setup;
mod standalone;
mod status;
mod table;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use exit::{Failure, Outcome};

fn main() -> ExitCode {
    // Before anything else, while the process has one thread: the file sets variables of the environment.
    if let Err(failure) = dotenv::load(std::env::args_os().skip(1)) {
        console::complain(&failure.report());
        return failure.exit_code();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(cli.command) {
        Ok(outcome) => outcome.into(),
        Err(failure) => {
            console::complain(&failure.report());
            failure.exit_code()
        }
    }
}

fn run(command: Command) -> Result<Outcome, Failure> {
    match command {
        Command::Standalone(args) => standalone::run(&args),
        Command::Server(args) => server::run(&args),
        Command::Proxy(args) => pod::run(&args),
        Command::Operator(args) => operator::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Setup(args) => setup::run(&args),
        Command::Migrate(args) => migrate::run(&args),
        Command::Manage(args) => manage::run(&args),
        Command::Openai(command) => chat::run(&command),
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

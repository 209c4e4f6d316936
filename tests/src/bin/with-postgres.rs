//! `with-postgres COMMAND…` runs a command with DATABASE_URL set: the one that is set already, or that of a throw-away server that is started
//! for it and removed afterwards. Its exit code is the command's.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode};

use testkit::postgres::cluster::Cluster;

#[allow(clippy::print_stderr, reason = "a program of the tests, and this is all it says")]
fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1).skip_while(|word| word == "--");
    let Some(program) = words.next() else {
        eprintln!("usage: with-postgres COMMAND [ARGUMENT]…");
        return ExitCode::FAILURE;
    };
    let mut command = Command::new(&program);
    command.args(words);
    let cluster = match std::env::var_os("DATABASE_URL").filter(|url| !url.is_empty()) {
        Some(_) => None,
        None => match Cluster::start() {
            Ok(cluster) => Some(cluster),
            Err(why) => {
                eprintln!("with-postgres: {why}");
                return ExitCode::FAILURE;
            }
        },
    };
    if let Some(cluster) = &cluster {
        command.env("DATABASE_URL", cluster.url());
    }
    match command.status() {
        Ok(status) => {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(1));
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("with-postgres: {}: {error}", program.to_string_lossy());
            ExitCode::from(127)
        }
    }
}

//! `control-plane build` makes the programs of the tests' control plane, their node, and the charts' tests, so that no test has to;
//! `control-plane run COMMAND…` runs a command with KUBECONFIG leading to a control plane that is started for it and gone afterwards. Its exit code
//! is the command's.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode};

use testkit::charts;
use testkit::cluster::node::Node;
use testkit::cluster::programs::Programs;
use testkit::cluster::{Cluster, User};

#[allow(clippy::print_stderr, reason = "a program of the tests, and this is all it says")]
fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1).skip_while(|word| word == "--");
    let (task, program) = (words.next(), words.next());
    // Missing programs are one line, here and for a run.
    let found = Programs::find();
    match (task.as_deref().and_then(std::ffi::OsStr::to_str), program, found) {
        (_, _, Err(why)) => {
            eprintln!("control-plane: {why}");
            ExitCode::FAILURE
        }
        (Some("build"), None, Ok(_)) => {
            if let Err(why) = charts::build() {
                eprintln!("control-plane: {why}");
                return ExitCode::FAILURE;
            }
            // A developer without root goes on without; the tests of the node say so, and fail in CI.
            if let Err(why) = Node::possible() {
                eprintln!("control-plane: the tests on a real node will prove nothing here: {why}");
            }
            ExitCode::SUCCESS
        }
        (Some("run"), Some(program), Ok(_)) => {
            let cluster = Cluster::options().with_controllers().start();
            let mut command = Command::new(&program);
            command.args(words).env("KUBECONFIG", cluster.kubeconfig(User::Admin));
            match command.status() {
                Ok(status) => {
                    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(1));
                    ExitCode::from(u8::try_from(code).unwrap_or(1))
                }
                Err(error) => {
                    eprintln!("control-plane: {}: {error}", program.to_string_lossy());
                    ExitCode::from(127)
                }
            }
        }
        _ => {
            eprintln!("usage: control-plane build | control-plane run COMMAND [ARGUMENT]…");
            ExitCode::FAILURE
        }
    }
}

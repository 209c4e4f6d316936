//! `with-postgres`, which `make test` runs everything under: a server for as long as the command runs, and nothing left of it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use testkit::postgres::answers;
use testkit::wait::{SOON, until};

fn with_postgres(script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_with-postgres"));
    command.args(["--", "sh", "-c", script]).env_remove("DATABASE_URL");
    command
}

#[test]
fn the_command_gets_a_server_of_its_own_and_its_exit_code_is_passed_on() {
    let output = with_postgres("echo $DATABASE_URL; exit 7").output().unwrap();
    let url = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(url.starts_with("postgres://postgres@127.0.0.1:") && !answers(url.trim()), "{url}");
}

#[test]
fn a_server_that_is_named_already_is_used() {
    let output = with_postgres("echo $DATABASE_URL")
        .env("DATABASE_URL", "postgres://elsewhere/db")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"postgres://elsewhere/db\n");
}

#[test]
fn nothing_is_left_when_it_is_killed() {
    let mut child = with_postgres("echo $DATABASE_URL; sleep 600")
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let url = url.trim().to_owned();
    assert!(answers(&url));
    let folders = |pid: u32| {
        let prefix = format!("llm-proxy-test-postgres-{pid}-");
        let here = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
        here.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)).count()
    };
    assert_eq!(folders(child.id()), 1);
    let group = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    let pid = child.id();
    child.wait().unwrap();
    until("the server ends", SOON, || !answers(&url));
    until("its folder goes", SOON, || folders(pid) == 0);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

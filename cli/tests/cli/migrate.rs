//! `llm-proxy migrate` on SQLite and on PostgreSQL.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::postgres::PgDatabase;
use crate::process::{Ended, llm_proxy};
use crate::terminal::Terminal;

fn migrate(place: &Path, args: &[&str]) -> Command {
    let mut command = llm_proxy(["migrate"]);
    command.args(args).current_dir(place);
    command
}

fn printed(mut command: Command) -> String {
    let ended: Ended = command.output().unwrap().into();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    ended.stdout
}

fn failed(mut command: Command, code: i32) -> String {
    let ended: Ended = command.output().unwrap().into();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
    assert!(ended.stderr.starts_with("error: ") && ended.stderr.lines().count() == 1, "{ended:?}");
    ended.stderr
}

/// The newest version that the binary knows, as it says itself.
fn newest(status: &str) -> u32 {
    let line = status.lines().find_map(|line| line.strip_prefix("Newest:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_sqlite_database_goes_up_down_and_up_again() {
    let place = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| printed(migrate(place.path(), args));
    let up = run(&["up"]);
    let status = run(&["status"]);
    let newest = newest(&status);
    assert_eq!(up, format!("SQLite data/llm-proxy.db: migrated from version 0 to {newest}\n"));
    assert_eq!(
        status,
        format!("Database: SQLite data/llm-proxy.db\nVersion:  {newest}\nNewest:   {newest}\nStatus:   up to date\n")
    );
    assert_eq!(run(&["version"]), status);
    for secret in ["data/llm-proxy.db", "data/encryption.key"] {
        let mode = fs::metadata(place.path().join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}: a server must be able to open what was sealed later");
    }
    assert_eq!(run(&["up"]), format!("SQLite data/llm-proxy.db: version {newest}, nothing to migrate\n"));
    for version in (0..newest).rev() {
        let before = version + 1;
        assert_eq!(
            run(&["down", "--yes"]),
            format!("SQLite data/llm-proxy.db: taken back from version {before} to {version}\n")
        );
    }
    assert_eq!(run(&["down", "--yes"]), "SQLite data/llm-proxy.db: version 0, nothing to take back\n");
    assert!(run(&["status"]).contains(&format!("{newest} to apply with `llm-proxy migrate up`")));
    assert!(run(&["up"]).contains(&format!("from version 0 to {newest}")));
}

#[test]
fn the_database_is_named_by_flag_environment_file_or_default_in_this_order() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join(".env"), "DATABASE_PATH=from-file.db\n").unwrap();
    let up = |arrange: &dyn Fn(&mut Command)| {
        let mut command = migrate(place.path(), &["up"]);
        arrange(&mut command);
        let text = printed(command);
        text.split(':').next().unwrap().to_owned()
    };
    let both = |command: &mut Command| {
        command.env("DATABASE_PATH", "from-environment.db").args(["--db", "from/flag.db"]);
    };
    let flag_and_server = |command: &mut Command| {
        command
            .env("DATABASE_URL", "postgres://127.0.0.1:1/nowhere")
            .args(["--db", "over-url.db"]);
    };
    let environment = |command: &mut Command| {
        command.env("DATABASE_PATH", "from-environment.db");
    };
    assert_eq!(up(&|_| {}), "SQLite from-file.db");
    assert_eq!(up(&environment), "SQLite from-environment.db");
    assert_eq!(up(&both), "SQLite from/flag.db");
    assert_eq!(up(&flag_and_server), "SQLite over-url.db");
}

#[test]
fn what_cannot_be_migrated_is_told_in_one_line() {
    let place = tempfile::tempdir().unwrap();
    let line = failed(migrate(place.path(), &["status", "--db", "none.db"]), 1);
    assert!(line.contains("there is no database none.db"), "{line}");
    assert!(failed(migrate(place.path(), &["down", "--db", "none.db", "--yes"]), 1).contains("there is no database"));
    assert!(!place.path().join("none.db").exists(), "looking makes nothing");

    fs::write(
        place.path().join("text.db"),
        "this is a text and no database, and long enough to be one of 100 bytes or more: ........",
    )
    .unwrap();
    assert!(failed(migrate(place.path(), &["up", "--db", "text.db"]), 1).contains("text.db"));

    printed(migrate(place.path(), &["up"]));
    let line = failed(migrate(place.path(), &["down"]), 1);
    assert!(line.contains("--yes") && line.contains("loses"), "{line}");

    let mut nobody = migrate(place.path(), &["status"]);
    nobody.env("DATABASE_URL", "postgres://user:canary@127.0.0.1:1/nowhere");
    let line = failed(nobody, 2);
    assert!(line.contains("PostgreSQL of DATABASE_URL") && !line.contains("canary"), "{line}");
    let mut other = migrate(place.path(), &["status"]);
    other.env("DATABASE_URL", "mysql://user:canary@127.0.0.1/d");
    let line = failed(other, 1);
    assert!(line.contains("no PostgreSQL URL") && !line.contains("canary"), "{line}");
}

#[test]
fn taking_back_asks_on_a_terminal() {
    let place = tempfile::tempdir().unwrap();
    printed(migrate(place.path(), &["up"]));
    let before = printed(migrate(place.path(), &["status"]));
    let mut terminal = Terminal::run(&migrate(place.path(), &["down"]));
    terminal.expect("What its tables hold is lost.");
    terminal.keys("n");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("nothing was taken back"), "{shown}");
    assert_eq!(printed(migrate(place.path(), &["status"])), before);

    let mut terminal = Terminal::run(&migrate(place.path(), &["down"]));
    terminal.expect("What its tables hold is lost.");
    terminal.keys("y");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    assert_ne!(printed(migrate(place.path(), &["status"])), before);
}

#[test]
fn a_postgresql_database_goes_up_and_down() {
    let place = tempfile::tempdir().unwrap();
    let database = PgDatabase::create();
    let run = |args: &[&str]| {
        let mut command = migrate(place.path(), args);
        command.env("DATABASE_URL", database.url());
        printed(command)
    };
    let newest = newest(&run(&["status"]));
    assert_eq!(run(&["up"]), format!("PostgreSQL of DATABASE_URL: migrated from version 0 to {newest}\n"));
    assert_eq!(
        run(&["up"]),
        format!("PostgreSQL of DATABASE_URL: version {newest}, nothing to migrate\n")
    );
    assert!(run(&["version"]).contains("up to date"));
    let down = run(&["down", "--yes"]);
    assert_eq!(
        down,
        format!("PostgreSQL of DATABASE_URL: taken back from version {newest} to {}\n", newest - 1)
    );
    assert!(fs::read_dir(place.path()).unwrap().next().is_none(), "nothing is made beside a server");
}

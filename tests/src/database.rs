//! The data dir's SQLite file from outside, through Python's own module: to age a database or to move its clock.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

const SCRIPT: &str = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=10).executescript(sys.stdin.read())";

/// Runs SQL on the database of a data dir.
///
/// # Panics
/// If Python 3 is missing or the SQL fails.
pub fn execute(data_dir: &Path, sql: &str) {
    let mut command = Command::new("python3");
    command
        .args(["-c", SCRIPT])
        .arg(data_dir.join("llm-proxy.db"))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped());
    let mut python = command.spawn().expect("python3 runs");
    python
        .stdin
        .take()
        .expect("its input")
        .write_all(sql.as_bytes())
        .expect("it reads its input");
    let output = python.wait_with_output().expect("python3 ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Moves the database's clock forward by so many milliseconds, for as long as the database lives.
pub fn move_clock(data_dir: &Path, ms: i64) {
    let now = "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)";
    execute(
        data_dir,
        &format!("BEGIN; DROP VIEW clock; CREATE VIEW clock AS SELECT {now} + {ms} AS now_ms; COMMIT;"),
    );
}

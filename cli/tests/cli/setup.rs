//! `llm-proxy setup`: the file that it writes, and a project and token with which a server then serves.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::postgres::PgDatabase;
use crate::process::{Ended, Place, Server, llm_proxy};
use crate::scripted::{Scripted, json};
use crate::terminal::Terminal;

fn setup(place: &Path, args: &[&str]) -> Command {
    let mut command = llm_proxy(["setup"]);
    command.args(args).current_dir(place);
    command
}

fn printed(mut command: Command) -> String {
    let ended: Ended = command.output().unwrap().into();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    ended.stdout
}

fn failed(mut command: Command) -> String {
    let ended: Ended = command.output().unwrap().into();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.stderr.starts_with("error: ") && ended.stderr.lines().count() == 1, "{ended:?}");
    assert!(!ended.stderr.contains("canary"), "{ended:?}");
    ended.stderr
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name} in {text}")).trim()
}

#[test]
fn what_it_creates_serves_requests_with_the_projects_key() {
    let place = Place::empty();
    let args = [
        "--openai-key",
        "sk-canary",
        "--management-token",
        "management",
        "--project",
        "My Project",
        "--duration",
        "168",
        "--addr",
        "127.0.0.1:0",
        "--config",
        "conf.env",
    ];
    let text = printed(setup(place.path(), &args));
    assert!(field(&text, "Project").starts_with("My Project ("), "{text}");
    assert!(
        text.contains("Start the server with: llm-proxy server --config conf.env\n") && !text.contains("canary"),
        "{text}"
    );
    let token = field(&text, "Token").to_owned();
    assert!(token.starts_with("sk-lp-") && token.len() == 53, "{text}");
    let file = fs::read_to_string(place.path().join("conf.env")).unwrap();
    assert_eq!(
        file,
        "OPENAI_API_KEY=sk-canary\nMANAGEMENT_TOKEN=management\nDATABASE_PATH=data/llm-proxy.db\nLISTEN_ADDR=127.0.0.1:0\nLOG_LEVEL=info\n"
    );
    let mode = fs::metadata(place.path().join("conf.env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let provider = Scripted::start([json(
        200,
        r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}"#,
    )]);
    let mut server = llm_proxy(["server", "--config", "conf.env"]);
    server.current_dir(place.path()).env("OPENAI_API_URL", &provider.url);
    let server = Server::of(server, &place);
    let ended: Ended = llm_proxy([
        "openai",
        "chat",
        "--no-stream",
        "--base-url",
        &server.base_url,
        "--token",
        &token,
        "hello",
    ])
    .output()
    .unwrap()
    .into();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "hi\n"), "{ended:?}\n{}", server.log());
    assert!(provider.asked().headers.contains("authorization: Bearer sk-canary\r\n"));

    let line = failed(setup(place.path(), &["--config", "conf.env", "--project", "Second"]));
    assert!(line.contains("in use by another llm-proxy"), "{line}");
}

#[test]
fn run_again_it_keeps_what_it_is_not_told_and_what_is_not_its_own() {
    let place = tempfile::tempdir().unwrap();
    fs::write(
        place.path().join(".env"),
        "# mine\nHTTPS_PROXY=http://proxy:3128\nexport LISTEN_ADDR=127.0.0.1:9000\n",
    )
    .unwrap();
    let text = printed(setup(place.path(), &["--skip-project", "--openai-key", "sk-first"]));
    assert!(
        text.contains("A management token was made: MANAGEMENT_TOKEN in .env\n") && !text.contains("Token:"),
        "{text}"
    );
    let read = || fs::read_to_string(place.path().join(".env")).unwrap();
    let first = read();
    assert!(
        first.starts_with("# mine\nHTTPS_PROXY=http://proxy:3128\nLISTEN_ADDR=127.0.0.1:9000\nOPENAI_API_KEY=sk-first\nMANAGEMENT_TOKEN="),
        "{first}"
    );
    let made = field(&first.replace("=", ":"), "MANAGEMENT_TOKEN").to_owned();
    assert!(made.len() == 64 && !text.contains(&made), "{first}");

    let text = printed(setup(place.path(), &["--openai-key", "sk-second"]));
    assert!(field(&text, "Project").starts_with("DefaultProject ("), "{text}");
    assert_eq!(read(), first.replace("sk-first", "sk-second"));
    // Whatever else it is told, it changes nothing if it fails.
    let line = failed(setup(place.path(), &["--addr", "127.0.0.1:9999", "--management-token", "another"]));
    assert!(line.contains("DefaultProject") && line.contains("--project"), "{line}");
    assert_eq!(read(), first.replace("sk-first", "sk-second"));
}

#[test]
fn a_link_to_the_file_stays_a_link() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("real.env"), "OTHER=1\n").unwrap();
    std::os::unix::fs::symlink("real.env", place.path().join(".env")).unwrap();
    printed(setup(place.path(), &["--skip-project"]));
    assert!(fs::symlink_metadata(place.path().join(".env")).unwrap().is_symlink());
    let text = fs::read_to_string(place.path().join("real.env")).unwrap();
    assert!(text.starts_with("OTHER=1\nMANAGEMENT_TOKEN="), "{text}");
}

#[test]
fn an_empty_value_in_the_file_says_nothing() {
    let place = tempfile::tempdir().unwrap();
    let template = "\u{feff}LISTEN_ADDR=\r\nDATABASE_PATH=\nDATABASE_URL=\nOPENAI_API_KEY=\nMANAGEMENT_TOKEN=\n";
    fs::write(place.path().join(".env"), template).unwrap();
    let line = failed(setup(place.path(), &[]));
    assert!(line.contains("no OpenAI key"), "{line}");
    printed(setup(place.path(), &["--skip-project"]));
    let file = fs::read_to_string(place.path().join(".env")).unwrap();
    assert!(
        file.contains("LISTEN_ADDR=localhost:8080\n") && file.contains("DATABASE_PATH=data/llm-proxy.db\n"),
        "{file}"
    );
}

#[test]
fn a_key_may_be_piped_in_and_is_checked_before_anything_is_made() {
    let place = tempfile::tempdir().unwrap();
    let wrong: &[(&[&str], &str)] = &[
        (&[], "no OpenAI key"),
        (&["--openai-key", "sk-lp-canary"], "a token of a proxy"),
        (&["--openai-key", "sk-can...nary"], "masked"),
        (&["--openai-key", "sk canary"], "white space"),
        (&["--openai-key", "sk-x", "--management-token", "can\u{e4}ry canary"], "management token"),
        (&["--openai-key", "sk-x", "--project", "a\nb"], "control characters"),
        (&["--interactive"], "needs a terminal"),
    ];
    for (args, expected) in wrong {
        let line = failed(setup(place.path(), args));
        assert!(line.contains(expected), "{args:?}: {line}");
    }
    let mut server = setup(place.path(), &["--openai-key", "sk-x", "--db", "x.db"]);
    server.env("DATABASE_URL", "postgres://127.0.0.1:1/nowhere");
    assert!(failed(server).contains("DATABASE_URL is set"));
    assert!(fs::read_dir(place.path()).unwrap().next().is_none(), "nothing was made");

    let mut child = setup(place.path(), &["--openai-key", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"sk-canary\n").unwrap();
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains("canary"), "{ended:?}");
    assert!(
        fs::read_to_string(place.path().join(".env"))
            .unwrap()
            .contains("OPENAI_API_KEY=sk-canary\n")
    );
}

#[test]
fn on_a_terminal_it_asks_and_shows_no_key() {
    let place = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::run(&setup(place.path(), &["--interactive"]));
    terminal.expect("Create a project and a token?");
    terminal.keys("y");
    terminal.answer("OpenAI API key", "sk-canary");
    terminal.answer("Management token", "");
    terminal.answer("SQLite database", "");
    terminal.answer("Address to listen on", "");
    terminal.answer("Project", "Typed");
    terminal.answer("Life of its token in hours", "");
    terminal.expect("Keep the token now");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(
        shown.contains("Typed (") && shown.contains("sk-lp-") && !shown.contains("canary"),
        "{shown}"
    );
    let file = fs::read_to_string(place.path().join(".env")).unwrap();
    assert!(
        file.contains("OPENAI_API_KEY=sk-canary\n") && file.contains("LISTEN_ADDR=localhost:8080\n"),
        "{file}"
    );
}

#[test]
fn on_postgresql_it_leaves_behind_what_a_server_needs() {
    let place = Place::empty();
    let database = PgDatabase::create();
    let mut without = setup(place.path(), &["--openai-key", "sk-x"]);
    without.env("DATABASE_URL", database.url());
    assert!(failed(without).contains("ENCRYPTION_KEY is not set"));
    assert!(!place.path().join(".env").exists());

    let mut command = setup(
        place.path(),
        &["--openai-key", "sk-x", "--management-token", "management", "--addr", "127.0.0.1:0"],
    );
    command
        .env("DATABASE_URL", database.url())
        .env("ENCRYPTION_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let text = printed(command);
    assert!(text.contains("PostgreSQL of DATABASE_URL, version ") && text.contains("sk-lp-"), "{text}");
    let mut server = llm_proxy(["server"]);
    server.current_dir(place.path());
    let server = Server::of(server, &place);
    let args = [
        "manage",
        "project",
        "list",
        "--management-token",
        "management",
        "--manage-api-base-url",
        &server.base_url,
    ];
    let ended: Ended = llm_proxy(args).output().unwrap().into();
    assert!(
        ended.code == Some(0) && ended.stdout.contains("DefaultProject"),
        "{ended:?}\n{}",
        server.log()
    );
    assert!(!place.path().join("data").exists(), "nothing is made beside a server's database");

    let mut nobody = setup(place.path(), &["--openai-key", "sk-x"]);
    nobody.env("DATABASE_URL", "postgres://user:canary@127.0.0.1:1/nowhere");
    let ended: Ended = nobody.output().unwrap().into();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(!ended.stderr.contains("canary") && ended.stderr.lines().count() == 1, "{ended:?}");
}

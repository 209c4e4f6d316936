//! How `llm-proxy server` and `llm-proxy proxy` start, refuse to start, and wait.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use testkit::client::{self, Request};
use testkit::postgres::Database;
use testkit::server::{ENCRYPTION_KEY, MANAGEMENT_TOKEN, Server, Setup};
use testkit::{program, wait};

use crate::fleet::Fleet;

/// Asserts that a process gives up in one line with exit code 1, and returns the line.
#[track_caller]
fn refused(setup: &Setup) -> String {
    let (code, stderr) = setup.clone().arg("--log-level").arg("error").fails();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{stderr}");
    stderr
}

#[test]
fn without_a_management_token_it_does_not_start() {
    assert!(refused(&Setup::sqlite().without("MANAGEMENT_TOKEN")).contains("MANAGEMENT_TOKEN"));
    assert!(refused(&Setup::sqlite().env("MANAGEMENT_TOKEN", "")).contains("MANAGEMENT_TOKEN"));
}

#[test]
fn a_sqlite_file_has_one_process_and_the_second_says_so() {
    let setup = Setup::sqlite();
    let mut first = setup.start();
    let line = refused(&setup);
    assert!(line.contains("data/llm-proxy.db") && line.contains(&first.pid().to_string()), "{line}");
    first.kill();
    setup.start().stop();
}

#[test]
fn the_key_beside_a_sqlite_file_is_made_once_and_never_again() {
    let setup = Setup::sqlite();
    setup.start().stop();
    let key = setup.folder().join("data/encryption.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&key).unwrap();
    setup.start().stop();
    assert_eq!(std::fs::read(&key).unwrap(), before);
    std::fs::remove_file(&key).unwrap();
    assert!(refused(&setup).contains("encryption.key"));
    assert!(!key.exists());
    assert!(refused(&setup.clone().env("ENCRYPTION_KEY", ENCRYPTION_KEY)).contains("does not open this database"));
    let line = refused(&setup.env("ENCRYPTION_KEY", "c2hvcnQ="));
    assert!(line.contains("ENCRYPTION_KEY") && !line.contains("c2hvcnQ"), "{line}");
}

#[test]
fn processes_on_one_postgresql_need_one_key() {
    let database = Database::create();
    let setup = Setup::postgres(&database.url());
    assert!(refused(&setup.clone().without("ENCRYPTION_KEY")).contains("ENCRYPTION_KEY"));
    let _first = setup.start();
    let other = "YW5vdGhlciBzZWFsaW5nIGtleSBvZiB0aGUgdGVzdHM=";
    assert!(refused(&setup.clone().env("ENCRYPTION_KEY", other)).contains("does not open this database"));
    let _second = setup.start();
}

#[test]
fn another_fleets_and_a_newer_database_stop_the_start_in_one_line() {
    let database = Database::create();
    let setup = Setup::postgres(&database.url());
    setup.start().stop();
    database.execute("UPDATE fleets SET cluster = 'elsewhere'");
    assert!(refused(&setup).contains("elsewhere/-/-"));
    database.execute("UPDATE fleets SET cluster = 'server'; UPDATE schema_info SET version = 900, min_reader = 900, min_writer = 900");
    assert!(refused(&setup).contains("900"));
}

#[test]
fn a_url_that_is_none_of_postgresql_is_refused_without_repeating_it() {
    let line = refused(&Setup::postgres("mysql://root:canary@localhost/x"));
    assert!(line.contains("DATABASE_URL") && !line.contains("canary"), "{line}");
}

#[test]
fn a_wrong_password_or_a_missing_database_is_waited_for() {
    let database = Database::create();
    let (url, name) = (database.url(), database.name().to_owned());
    let missing = url.replace(&name, &format!("{name}_missing"));
    let mut server = Setup::postgres(&missing).on_a_known_port().spawn();
    wait::until("the reason", wait::SOON, || {
        server.readiness().is_some_and(|(status, text)| status == 503 && text.contains("refuses"))
    });
    assert!(server.runs());
    wait::until("the details in the log", wait::SOON, || server.stderr().contains("3D000"));
    server.stop();
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let setup = Setup::sqlite();
    let lines = format!("MANAGEMENT_TOKEN={MANAGEMENT_TOKEN}\nDATABASE_PATH=from-file.db\nLISTEN_ADDR=127.0.0.1:1\n");
    std::fs::write(setup.folder().join(".env"), lines).unwrap();
    let plain = setup.clone().without("MANAGEMENT_TOKEN");
    plain.start().stop();
    assert!(setup.folder().join("from-file.db").exists());
    plain.clone().env("DATABASE_PATH", "from-environment.db").start().stop();
    assert!(setup.folder().join("from-environment.db").exists());
    plain.env("DATABASE_PATH", "unused.db").arg("--db").arg("from-flag.db").start().stop();
    assert!(setup.folder().join("from-flag.db").exists() && !setup.folder().join("unused.db").exists());
}

#[test]
fn projects_and_tokens_made_through_manage_are_served_at_once_by_every_process() {
    let fleet = Fleet::new();
    let servers = fleet.start(2);
    let manage = |server: &Server, request: Request| {
        let response = server.send(&request.bearer(MANAGEMENT_TOKEN));
        assert!((200..300).contains(&response.status), "{} {}", response.status, response.text());
        response.json()
    };
    let body = serde_json::json!({"name": "p", "api_key": "sk-of-the-project"});
    let project = manage(&servers[0], Request::post("/manage/projects", &body));
    let body = serde_json::json!({"project_id": project["id"], "duration_minutes": 60, "max_requests": 3});
    let token = manage(&servers[1], Request::post("/manage/tokens", &body));
    let chat = Request::chat(false).bearer(token["token"].as_str().expect("the value"));
    let answers: Vec<_> = (0..5).map(|n| servers[n % 2].send(&chat).status).collect();
    assert_eq!(fleet.provider.heads(), 3, "{answers:?}");
}

/// A replica of a fleet, on ports that are free now.
struct Pod {
    child: std::process::Child,
    addr: std::net::SocketAddr,
}

impl Pod {
    fn start(url: &str, claim: &str) -> Self {
        let free = || {
            let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            probe.local_addr().unwrap()
        };
        let addr = free();
        let mut command: Command = program::command(&["proxy", "--claim", claim, "--manage-listen", "127.0.0.1:0", "--listen"]);
        command
            .arg(addr.to_string())
            .env("DATABASE_URL", url)
            .env("ENCRYPTION_KEY", ENCRYPTION_KEY);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, addr }
    }

    fn readiness(&self) -> Option<(u16, String)> {
        let response = client::send(self.addr, &Request::get("/ready")).ok()?;
        Some((response.status, response.text()))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_pod_waits_for_its_schema_and_never_migrates() {
    let database = Database::create();
    let pod = Pod::start(&database.url(), "server/-/-");
    wait::until("the reason", wait::SOON, || {
        pod.readiness()
            .is_some_and(|(status, text)| status == 503 && text.contains("no schema yet"))
    });
    assert_eq!(database.number("SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'"), 0);
    Setup::postgres(&database.url()).start().stop();
    wait::until("readiness", wait::SOON, || pod.readiness().is_some_and(|(status, _)| status == 200));
}

#[test]
fn a_pod_is_not_ready_on_a_schema_that_it_cannot_write_and_becomes_so() {
    let database = Database::create();
    Setup::postgres(&database.url()).start().stop();
    let known = database.number("SELECT min_writer FROM schema_info");
    database.execute("UPDATE schema_info SET min_writer = 900");
    let pod = Pod::start(&database.url(), "server/-/-");
    wait::until("the reason", wait::SOON, || {
        pod.readiness().is_some_and(|(status, text)| status == 503 && text.contains("schema"))
    });
    database.execute(&format!("UPDATE schema_info SET min_writer = {known}"));
    wait::until("readiness", wait::SOON, || pod.readiness().is_some_and(|(status, _)| status == 200));
}

#[test]
fn a_pod_of_another_fleet_ends() {
    let database = Database::create();
    Setup::postgres(&database.url()).start().stop();
    let mut pod = Pod::start(&database.url(), "cluster/n/p");
    let mut ended = None;
    wait::until("its end", wait::SOON, || {
        ended = pod.child.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(1));
}

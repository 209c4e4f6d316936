//! A data dir that cannot be used says why in one line and exits 1; one that was left in any state starts again.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use testkit::client::Request;
use testkit::database;
use testkit::manifests::{self, Folder};
use testkit::mount::Tmpfs;
use testkit::provider::Provider;
use testkit::stage::{PROVIDER_KEY, Stage};
use testkit::standalone::Setup;
use testkit::wait;

/// Starts a process that must give up with exit code 1 and one line that names `what`.
#[track_caller]
fn gives_up(setup: &Setup, what: &str) -> String {
    let (code, stderr) = setup.fails();
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!((code, errors.len()), (Some(1), 1), "{stderr}");
    assert!(errors[0].contains(what), "it does not name {what:?}: {stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains("backtrace"), "{stderr}");
    errors[0].to_owned()
}

fn echo_folder() -> Folder {
    Folder::with_echo(&[("app", "")])
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let folder = echo_folder();
    let setup = Setup::new(&folder);
    gives_up(&setup.clone().listen(addr), &addr.to_string());
    // The same data dir is free again.
    assert_eq!(setup.start().send(&Request::get("/live")).status, 200);
}

#[test]
fn a_second_process_on_the_same_dir_or_port_exits_and_the_first_goes_on() {
    let folder = echo_folder();
    let setup = Setup::new(&folder);
    let first = setup.start();
    gives_up(&setup, &setup.data().display().to_string());
    let other = Setup::new(&folder).listen(first.addr());
    gives_up(&other, &first.addr().to_string());
    let key = first.key("app");
    assert_eq!(first.send(&Request::get("/v1/models").bearer(&key)).status, 200);
}

#[test]
fn a_read_only_data_dir_is_named() {
    let Some(tmpfs) = Tmpfs::mount("a_read_only_data_dir_is_named", "32m") else {
        return;
    };
    let folder = echo_folder();
    tmpfs.set_read_only(true);
    let dir = tmpfs.path().join("data");
    gives_up(&Setup::new(&folder).data_dir(&dir), &dir.display().to_string());
    tmpfs.set_read_only(false);
    let mut process = Setup::new(&folder).data_dir(&dir).start();
    process.stop();
    tmpfs.set_read_only(true);
    gives_up(&Setup::new(&folder).data_dir(&dir), &dir.display().to_string());
}

#[test]
fn a_start_on_a_full_disk_says_so_and_the_next_one_is_clean() {
    let Some(tmpfs) = Tmpfs::mount("a_start_on_a_full_disk_says_so_and_the_next_one_is_clean", "32m") else {
        return;
    };
    let folder = echo_folder();
    let dir = tmpfs.path().join("data");
    let setup = Setup::new(&folder).data_dir(&dir);
    fs::create_dir(&dir).unwrap();
    tmpfs.fill();
    let (code, stderr) = setup.fails();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.to_lowercase().contains("no space left") && stderr.contains("free some space"),
        "{stderr}"
    );
    tmpfs.free();
    let process = setup.start();
    assert_eq!(process.send(&Request::get("/v1/models").bearer(&process.key("app"))).status, 200);
}

#[test]
fn an_emptied_database_is_refused_in_one_line_instead_of_starting_as_new() {
    let setup = Setup::new(&echo_folder());
    setup.start().stop();
    let database = setup.data().join("llm-proxy.db");
    fs::write(&database, "").unwrap();
    for log in ["-wal", "-shm"] {
        drop(fs::remove_file(setup.data().join(format!("llm-proxy.db{log}"))));
    }
    let said = gives_up(&setup, "llm-proxy.db is empty");
    assert!(said.contains("restore it"), "{said}");
    assert_eq!(fs::metadata(&database).unwrap().len(), 0, "nothing was touched");
}

#[test]
fn what_is_no_file_in_the_place_of_a_key_is_a_warning_in_the_log() {
    let setup = Setup::new(&echo_folder());
    let process = setup.start();
    let (path, elsewhere) = (setup.secret_path("app"), setup.data().join("elsewhere"));
    fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    let warning = wait::some("a warning", wait::SOON, || {
        let stderr = process.stderr();
        let lines = stderr.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.filter(|line| line["level"] == "WARN").find(|line| line["name"] == "app")
    });
    assert!(
        warning["message"].as_str().is_some_and(|message| message.contains("remove it")),
        "{warning}"
    );
}

#[test]
fn a_project_without_its_key_is_told_on_standard_error_before_ready() {
    let folder = Folder::empty();
    folder.put("fleet.yaml", &manifests::fleet("http://127.0.0.1:9"));
    folder.put(
        "project.yaml",
        &format!("{}---\n{}", manifests::project("app", ""), manifests::key_secret("app", " \n")),
    );
    folder.put("token.yaml", &manifests::token("app", "app", ""));
    let log = tempfile::NamedTempFile::new().unwrap();
    let setup = Setup::new(&folder).arg("--log-file").arg(&log.path().display().to_string());
    let process = setup.start();
    let stderr = process.stderr();
    let said: Vec<&str> = stderr.lines().filter(|line| line.starts_with("LLMProject team/app: ")).collect();
    assert_eq!(said.len(), 1, "{stderr}");
    assert!(said[0].contains("\"api-key\"") && said[0].contains("add it"), "{stderr}");
}

#[test]
fn a_disk_that_fills_up_stops_new_blocks_with_503_and_heals_without_a_restart() {
    let Some(tmpfs) = Tmpfs::mount("a_disk_that_fills_up_stops_new_blocks_with_503_and_heals_without_a_restart", "32m") else {
        return;
    };
    let provider = Provider::start();
    let folder = Folder::with_tokens(&provider.base_url(), PROVIDER_KEY, &[("app", &manifests::max_requests(500))]);
    let mut process = Setup::new(&folder).data_dir(tmpfs.path().join("data")).start();
    let key = process.key("app");
    let chat = || process.send(&Request::chat(false).bearer(&key));
    assert_eq!(chat().status, 200);
    tmpfs.fill();
    let mut served = 1;
    let refusal = wait::some("the block in hand to be spent", wait::SOON, || {
        let response = chat();
        served += u64::from(response.status == 200);
        (response.status != 200).then_some(response)
    });
    assert_eq!(
        (refusal.status, refusal.code().as_str()),
        (503, "database_unavailable"),
        "{}",
        refusal.text()
    );
    assert!(refusal.header("retry-after").is_some());
    tmpfs.free();
    wait::until("it heals", wait::SOON, || {
        let healed = chat().status == 200;
        served += u64::from(healed);
        healed
    });
    while served < 500 {
        let response = chat();
        assert!(matches!(response.status, 200 | 429 | 503), "{}", response.text());
        if response.header("x-should-retry") == Some("false") {
            break;
        }
        served += u64::from(response.status == 200);
    }
    assert_eq!(served, provider.heads());
    assert_eq!(provider.heads(), 500, "a full disk costs nothing");
    assert!(process.runs());
    assert!(!process.stderr().contains("panicked"), "{}", process.stderr());
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let folder = echo_folder();
    let setup = Setup::new(&folder);
    setup.start().stop();
    database::execute(
        setup.data(),
        "UPDATE schema_info SET version = 9999, min_reader = 9999, min_writer = 9999;",
    );
    let before = fs::read(setup.data().join("llm-proxy.db")).unwrap();
    let line = gives_up(&setup, "9999");
    assert!(
        line.contains("llm-proxy.db") || line.contains(&setup.data().display().to_string()) || line.contains("database"),
        "{line}"
    );
    assert_eq!(fs::read(setup.data().join("llm-proxy.db")).unwrap(), before);
    assert_ne!(setup.status().exit_code, Some(0));
}

#[test]
fn the_database_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = echo_folder();
    let process = Setup::new(&folder).start();
    for file in ["llm-proxy.db", "llm-proxy.db-wal"] {
        let mode = fs::metadata(process.setup().data().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}");
    }
}

#[test]
fn kill_minus_nine_at_any_moment_of_a_start_leaves_a_dir_that_starts() {
    let folder = echo_folder();
    let setup = Setup::new(&folder);
    let mut random = testkit::random::Random::announced("kill -9 while starting");
    let rounds = if wait::long_variant() { 100 } else { 15 };
    let mut first_key = None;
    for _ in 0..rounds {
        let mut process = setup.spawn();
        // A random moment, not a wait for anything: the whole start takes about as long.
        std::thread::sleep(Duration::from_micros(random.below(150_000)));
        process.kill();
        if first_key.is_none() {
            first_key = setup.secret("app").map(|env| env["OPENAI_API_KEY"].clone());
        }
    }
    let process = setup.start();
    let key = process.key("app");
    assert_eq!(process.send(&Request::get("/v1/models").bearer(&key)).status, 200);
    if let Some(first) = first_key {
        assert_eq!(
            process.send(&Request::get("/v1/models").bearer(&first)).status,
            200,
            "a value that was delivered lives on"
        );
    }
    let status = setup.status();
    let revisions = status.token("app").unwrap()["revisions"].as_array().unwrap().clone();
    let active = revisions.iter().filter(|revision| revision["state"] == "Active").count();
    assert_eq!(active, 1, "{revisions:?}");
    assert!(
        fs::read_dir(setup.data().join("secrets")).unwrap().count() == 1,
        "no temporary file is left"
    );
}

#[test]
fn status_works_with_the_process_down_and_beside_it() {
    let mut stage = Stage::new(&manifests::max_requests(5));
    assert_eq!(stage.send(Request::chat(false)).status, 200);
    wait::until("a fresh figure", Duration::from_secs(3), || {
        stage.process.setup().status().quota("app").is_some_and(|quota| quota.used == 1)
    });
    stage.process.kill();
    let status = stage.process.setup().status();
    assert_eq!(status.quota("app").map(|quota| quota.used), Some(1));
    let nowhere = testkit::program::run(&["status", "--data-dir", "/nonexistent/llm-proxy"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&nowhere.stderr).lines().count(), 1);
}

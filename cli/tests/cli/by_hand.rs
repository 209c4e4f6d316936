//! What people are told to type works: `make demo`, the commands that it ends with, and the README's.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{BINARY, Ended, Place, Server, quiet_environment, repository};

/// A shell in the repository's root.
pub(crate) fn bash(script: &str, directory: &Path) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(directory)
        .stdin(Stdio::null());
    quiet_environment(&mut command);
    let path = std::env::join_paths(
        std::iter::once(Path::new(BINARY).parent().unwrap().to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    command.env("PATH", path.unwrap()).env("LISTEN_ADDR", "127.0.0.1:0");
    command
}

/// The README's block after this marker.
fn readme(marker: &str) -> String {
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let after = text
        .split_once(&format!("<!-- {marker} -->\n```"))
        .unwrap_or_else(|| panic!("the README has no block {marker:?}"))
        .1;
    after.split_once('\n').unwrap().1.split_once("\n```").unwrap().0.to_owned()
}

#[test]
fn the_demo_runs_within_10_s_and_the_commands_it_ends_with_work() {
    let tmp = tempfile::tempdir().unwrap();
    let demo = |script: &str| -> Ended {
        bash(script, &repository())
            .env("LLM_PROXY_BIN", BINARY)
            .env("TMPDIR", tmp.path())
            .output()
            .unwrap()
            .into()
    };
    let started = Instant::now();
    let ended = demo("examples/demo.sh");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(
        ended.stdout.contains("data: [DONE]") && ended.stdout.contains("rate_limit_exceeded"),
        "{}",
        ended.stdout
    );
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0, "the demo cleans up");

    let by_hand = ended
        .stdout
        .split_once("# --- begin: by hand\n")
        .unwrap()
        .1
        .split_once("# --- end: by hand")
        .unwrap()
        .0;
    let ended = demo(&format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{by_hand}"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.contains("data: [DONE]") && ended.stdout.contains("WitheringToken"),
        "{}",
        ended.stdout
    );
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0, "and so does what follows it");
}

#[test]
fn make_install_puts_the_command_and_kubectls_plugin_in_one_folder() {
    // In cargo's place, since its build in release mode takes minutes: it installs the binary under test where cargo would.
    let place = Place::empty();
    let tools = place.path().join("tools");
    fs::create_dir(&tools).unwrap();
    let cargo =
        format!("#!/bin/sh\n[ \"$*\" = 'install --path cli --locked' ] || exit 9\nexec install -D {BINARY} \"$CARGO_INSTALL_ROOT/bin/llm-proxy\"\n");
    fs::write(tools.join("cargo"), cargo).unwrap();
    fs::set_permissions(tools.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    let root = place.path().join("installed");
    let mut make = Command::new("make");
    make.args(["--no-print-directory", "install"])
        .current_dir(repository())
        .stdin(Stdio::null());
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let ended: Ended = make.env("PATH", path).env("CARGO_INSTALL_ROOT", &root).output().unwrap().into();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for name in ["llm-proxy", "kubectl-llm_proxy", "kubectl_complete-llm_proxy"] {
        assert!(root.join("bin").join(name).is_file(), "{name}");
    }
    let mut plugin = Command::new(root.join("bin/kubectl-llm_proxy"));
    quiet_environment(&mut plugin);
    let ended: Ended = plugin.args(["manage", "--help"]).output().unwrap().into();
    assert!(ended.code == Some(0) && ended.stdout.contains("--fleet"), "{ended:?}");
}

#[test]
fn the_demo_cleans_up_when_it_is_interrupted() {
    let place = Place::empty();
    let tmp = place.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    let mut demo = Command::new("bash");
    demo.arg("examples/demo.sh")
        .current_dir(repository())
        .env("LLM_PROXY_BIN", BINARY)
        .env("TMPDIR", &tmp)
        .stdin(Stdio::null());
    let output = place.path().join("output");
    let mut demo = demo
        .stdout(File::create(&output).unwrap())
        .stderr(File::create(place.path().join("errors")).unwrap())
        .spawn()
        .unwrap();
    crate::process::eventually("the demo's server is up", || {
        fs::read_to_string(&output).unwrap().contains("ready http://").then_some(())
    });
    // Not SIGINT: a shell that was started in the background of another ignores it. Both have the same trap.
    assert!(Command::new("kill").args(["-TERM", &demo.id().to_string()]).status().unwrap().success());
    assert_eq!(demo.wait().unwrap().code(), Some(143));
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
}

#[test]
fn the_readmes_first_steps_work() {
    let place = Place::empty();
    symlink(repository().join("examples"), place.path().join("examples")).unwrap();
    let server = Server::of(bash(&format!("exec {}", readme("run: server")), place.path()), &place);
    server.line();
    let ended: Ended = bash(&readme("run: first steps"), place.path()).output().unwrap().into();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.contains("data: [DONE]") && ended.stdout.contains("default/hello"),
        "{}",
        ended.stdout
    );
    let metrics: Ended = bash(&format!("curl -s {}/metrics", server.base_url.trim_end_matches("/v1")), place.path())
        .output()
        .unwrap()
        .into();
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let named: Vec<&str> = words(&text).filter(|word| word.starts_with("llm_proxy_")).collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        let family = name.trim_end_matches("_total");
        assert!(
            metrics.stdout.contains(&format!("# TYPE {family} ")),
            "/metrics has no {name}:\n{}",
            metrics.stdout
        );
    }
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn the_readme_lists_every_code_of_a_refusal() {
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let errors = text.split_once("\n## Errors\n").unwrap().1.split_once("\n## ").unwrap().0;
    let table = fs::read_to_string(repository().join("proxy/src/refusal.rs")).unwrap();
    let answers = table.split_once("fn answer").unwrap().1.split("#[cfg(test)]").next().unwrap();
    // In the one table a code is the only text that is one lower-case word.
    let codes = answers
        .split('"')
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
    let mut seen = 0;
    for code in codes {
        assert!(errors.contains(&format!("`{code}`")), "the README does not say what {code} is");
        seen += 1;
    }
    assert!(seen > 15, "{seen}");
}

/// The words of a text, without the marks around them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .filter(|word| !word.is_empty())
}

#[test]
fn the_readmes_way_to_bring_a_key_works_and_leaves_it_in_no_file() {
    let canary = "sk-proj-canary-0123456789abcdef";
    let place = Place::empty();
    symlink(repository().join("examples"), place.path().join("examples")).unwrap();
    // The pipe's last command takes the shell's place, so that the server is the test's own child.
    let script = format!("shopt -s lastpipe\n{}", readme("run: key").replace("  llm-proxy", "  exec llm-proxy"));
    let mut command = bash(&script, place.path());
    command.env("OPENAI_API_KEY", canary);
    let server = Server::of(command, &place);
    assert!(server.line().ends_with("openai-data/secrets/default.app.env"));
    let mut folders = vec![place.path().join("openai-data")];
    let mut files = vec![place.path().join("log")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert!(files.len() > 4, "{files:?}");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        assert!(
            !bytes.windows(canary.len()).any(|window| window == canary.as_bytes()),
            "{}",
            file.display()
        );
    }
}

//! `llm-proxy manage --fleet` and `kubectl llm-proxy` as far as there is no cluster: what is missing is said in one line, without a secret.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{BINARY, Ended, quiet_environment};
use crate::scripted::{Scripted, answer, json};

const CANARY: &str = "kubeconfig-canary";

/// A home folder with the plugin's names for the binary.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["llm-proxy", "kubectl-llm_proxy", "kubectl_complete-llm_proxy"] {
            symlink(BINARY, folder.path().join(name)).unwrap();
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A kubeconfig of this server, and what stands in its user.
    fn kubeconfig(&self, server: &str, user: &str) -> PathBuf {
        let path = self.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: '{server}'}}}}]\nusers: [{{name: u, user: {user}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u, namespace: team-a}}}}]\ncurrent-context: c\n"
        );
        fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.path().join(name));
        quiet_environment(&mut command);
        for name in ["KUBECONFIG", "KUBERNETES_SERVICE_HOST"] {
            command.env_remove(name);
        }
        command.current_dir(self.path()).env("HOME", self.path()).stdin(Stdio::null());
        command
    }

    fn plugin(&self, kubeconfig: Option<&Path>, args: &[&str]) -> Ended {
        let mut command = self.command("kubectl-llm_proxy");
        if let Some(path) = kubeconfig {
            command.env("KUBECONFIG", path);
        }
        command.args(args).output().unwrap().into()
    }
}

#[track_caller]
fn failed(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
    assert!(ended.stderr.starts_with("error: ") && ended.stderr.lines().count() == 1, "{ended:?}");
    assert!(!ended.stderr.contains("canary"), "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "no {word:?} in {ended:?}");
    }
}

const LIST: [&str; 3] = ["manage", "project", "list"];

#[test]
fn without_a_cluster_one_line_says_what_is_missing() {
    let home = Home::new();
    failed(
        &home.plugin(None, &LIST),
        1,
        &["no kubeconfig", "--kubeconfig", "KUBECONFIG", "~/.kube/config"],
    );
    failed(&home.plugin(Some(Path::new("/nonexistent")), &LIST), 1, &["no kubeconfig"]);
    let missing = [&LIST[..], &["--kubeconfig", "/nonexistent/config"]].concat();
    failed(&home.plugin(None, &missing), 1, &["/nonexistent/config: no such file"]);

    let token = format!("{{token: {CANARY}}}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}", nobody.local_addr().unwrap());
    let path = home.kubeconfig(&address, &token);
    // Nobody answers.
    let slow = [&LIST[..], &["--timeout", "300ms"]].concat();
    failed(&home.plugin(Some(&path), &slow), 5, &["no answer from the API server", &address, "300ms"]);
    drop(nobody);
    failed(
        &home.plugin(Some(&path), &LIST),
        2,
        &["no connection to the API server", &address, "connection refused"],
    );
    let context = [&LIST[..], &["--context", "prod"]].concat();
    failed(&home.plugin(Some(&path), &context), 1, &["no context \"prod\""]);
    // The same from the usual place and by the binary's own name.
    fs::create_dir(home.path().join(".kube")).unwrap();
    fs::copy(&path, home.path().join(".kube/config")).unwrap();
    let own: Ended = home.command("llm-proxy").args(LIST).args(["--fleet", "a/b"]).output().unwrap().into();
    failed(&own, 2, &["cannot find the fleet a/b", "connection refused"]);
}

#[test]
fn what_is_no_cluster_of_ours_is_said_in_one_line() {
    let home = Home::new();
    let plugin = |answers, args: &[&str]| {
        let server = Scripted::start(answers);
        let path = home.kubeconfig(&server.url, &format!("{{token: {CANARY}}}"));
        let ended = home.plugin(Some(&path), args);
        assert!(server.asked().headers.contains(CANARY), "{ended:?}");
        ended
    };
    let named = ["manage", "-n", "team-a", "project", "list"];
    let not_found = answer(404, "content-type: text/plain\r\n", "404 page not found\n");
    failed(&plugin([not_found], &named), 4, &["has no ProxyConfigs: is llm-proxy installed in it?"]);
    let page = answer(200, "content-type: text/html\r\n", "<html>canary</html>");
    failed(&plugin([page], &named), 1, &["is no API server of Kubernetes"]);
    let empty = json(
        200,
        r#"{"apiVersion":"llm-proxy.dev/v1alpha1","kind":"ProxyConfigList","metadata":{},"items":[]}"#,
    );
    failed(&plugin([empty], &named), 4, &["there is no fleet in namespace team-a"]);
}

#[test]
fn a_credential_plugin_works_reads_no_standard_input_and_its_output_is_not_shown() {
    let home = Home::new();
    let server = Scripted::start([answer(404, "content-type: text/plain\r\n", "")]);
    let exec = |script: &str| {
        format!("{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: /bin/sh, args: ['-c', '{script}'], interactiveMode: IfAvailable}}}}")
    };
    let credential = r#"{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{\"token\":\"exec-canary\"}}"#;
    let good = format!(r#"read line; test -z "$line" && printf "{credential}""#);
    let path = home.kubeconfig(&server.url, &exec(&good));
    let mut command = home.command("kubectl-llm_proxy");
    command.args(["manage", "-n", "a", "project", "create", "--name", "x", "--openai-key-stdin"]);
    let mut child = command
        .env("KUBECONFIG", &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"sk-canary\n");
    let ended = Ended::from(child.wait_with_output().unwrap());
    failed(&ended, 4, &["has no ProxyConfigs"]);
    assert!(server.asked().headers.contains("authorization: Bearer exec-canary\r\n"), "{ended:?}");

    let path = home.kubeconfig(&server.url, &exec("echo canary; echo canary >&2; exit 7"));
    failed(&home.plugin(Some(&path), &LIST), 3, &["credential plugin failed", "exit status: 7"]);
}

#[test]
fn flags_of_a_fleet_and_of_an_address_do_not_mix() {
    let home = Home::new();
    let run = |args: &[&str]| -> Ended { home.command("llm-proxy").args(LIST).args(args).output().unwrap().into() };
    failed(&run(&["-n", "a"]), 1, &["give --fleet [NAMESPACE/]NAME as well"]);
    failed(&run(&["--fleet", "b", "--manage-api-base-url", "http://x"]), 1, &["name two servers"]);
    failed(&run(&["--fleet", "b", "--management-token", "canary"]), 1, &["of no use for a fleet"]);
    // Without any of them it is the address, as ever.
    failed(&run(&[]), 3, &["no management token"]);
    let by_address = [&LIST[..], &["--manage-api-base-url", "http://127.0.0.1:1"]].concat();
    failed(&home.plugin(None, &by_address), 3, &["no management token"]);
    let usage: Ended = home.command("llm-proxy").args(LIST).args(["--fleet", "A/b"]).output().unwrap().into();
    assert!(usage.code == Some(1) && usage.stderr.contains("the namespace must be"), "{usage:?}");
}

#[test]
fn kubectl_shows_its_own_name_reads_no_env_file_and_completes() {
    let home = Home::new();
    fs::write(home.path().join(".env"), "this is = no \" env file\n").unwrap();
    let help = home.plugin(None, &["manage", "project", "list", "--help"]);
    assert_eq!(help.code, Some(0), "{help:?}");
    assert!(
        help.stdout.contains("Usage: kubectl llm-proxy manage project list") && help.stdout.contains("--fleet"),
        "{help:?}"
    );
    failed(&home.plugin(None, &LIST), 1, &["no kubeconfig"]);
    let version = home.plugin(None, &["version"]);
    assert!(version.stdout.starts_with("llm-proxy "), "{version:?}");
    let mut complete = home.command("kubectl_complete-llm_proxy");
    let completed: Ended = complete.args(["manage", "project", "li"]).output().unwrap().into();
    assert_eq!(
        (completed.code, completed.stdout.lines().next_back()),
        (Some(0), Some(":4")),
        "{completed:?}"
    );
    assert!(completed.stdout.starts_with("list\t"), "{completed:?}");
}

//! `kubectl llm-proxy manage`: a fleet found in a real API server with the caller's own rights, and asked through its port-forward.
//! The node is the tests' own; a real kubelet carries the tunnel in the story of a real node.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::cluster::port_forward::{Forward, Node};
use testkit::cluster::{Cluster, User, install};
use testkit::server::{MANAGEMENT_TOKEN, Server, Setup};
use testkit::{dead_end, program, wait};

const LABEL: (&str, &str) = ("app.kubernetes.io/instance", "main");

/// A namespace with a fleet, as the operator leaves it, and a folder with kubeconfigs and the plugin.
struct Stage {
    cluster: &'static Cluster,
    namespace: String,
    folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        // Of its own: what fleets there are in all namespaces is a part of the tests, and a node of 127.0.0.1 is one to nobody else.
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        let cluster = CLUSTER.get_or_init(Cluster::start);
        let folder = tempfile::tempdir().unwrap();
        for name in ["kubectl-llm_proxy", "kubectl_complete-llm_proxy", "llm-proxy"] {
            symlink(program::path(), folder.path().join(name)).unwrap();
        }
        symlink(cluster.kubectl_path(), folder.path().join("kubectl")).unwrap();
        let stage = Self {
            cluster,
            namespace: cluster.namespace(),
            folder,
        };
        // Nobody else makes it here, and every pod wants it.
        stage.apply(&json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default", "namespace": stage.namespace } }));
        stage
    }

    /// With the fleet `main`, whose Secret holds the token of the tests' servers.
    fn with_fleet() -> Self {
        let stage = Self::new();
        stage.fleet("main");
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "main-management", "namespace": stage.namespace },
            "stringData": { "token": format!("{MANAGEMENT_TOKEN}\n") },
        });
        stage.apply(&secret);
        stage
    }

    fn apply(&self, object: &Value) {
        let applied = self
            .cluster
            .kubectl_with_input(User::Admin, &["apply", "--server-side", "-f", "-"], &object.to_string());
        let _ = applied.ok();
    }

    fn fleet(&self, name: &str) {
        self.apply(&json!({
            "apiVersion": "llm-proxy.dev/v1alpha1", "kind": "ProxyConfig", "metadata": { "name": name, "namespace": self.namespace },
            "spec": { "database": { "sqlite": {} }, "providers": [{ "name": "echo", "api": "Echo" }] },
        }));
        let (key, value) = LABEL;
        self.status(
            name,
            &json!({ "managementSecretName": format!("{name}-management"), "selector": format!("{key}={value}") }),
        );
    }

    fn status(&self, fleet: &str, status: &Value) {
        let patch = json!({ "status": status }).to_string();
        let args = [
            "patch",
            "proxyconfig",
            fleet,
            "-n",
            &self.namespace,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ];
        let _ = self.cluster.kubectl(&args).ok();
    }

    /// A pod of the fleet on a node of its own.
    fn pod(&self, forward: Forward) -> Node {
        let node = Node::start(self.cluster, forward);
        node.run_pod(self.cluster, &self.namespace, "main-0", &[LABEL], true);
        node
    }

    /// A kubeconfig whose context is in `namespace`, of the admin or of whoever has this token.
    fn kubeconfig(&self, name: &str, namespace: &str, token: Option<&str>) -> PathBuf {
        let text = fs::read_to_string(self.cluster.kubeconfig(User::Admin)).unwrap();
        let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
        kubeconfig["contexts"][0]["context"]["namespace"] = json!(namespace);
        if let Some(token) = token {
            kubeconfig["users"][0]["user"]["token"] = json!(token);
        }
        let path = self.folder.path().join(name);
        fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }

    /// The admin's, in the stage's namespace.
    fn here(&self) -> PathBuf {
        self.kubeconfig("admin", &self.namespace, None)
    }

    /// A ServiceAccount of the namespace that may do what the rules say, there.
    fn account(&self, name: &str, rules: &Value) -> PathBuf {
        let space = &self.namespace;
        self.apply(&json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": space } }));
        let token = self.cluster.kubectl(&["create", "token", name, "-n", space]).ok();
        self.may(name, rules);
        self.kubeconfig(name, space, Some(token.trim()))
    }

    fn may(&self, account: &str, rules: &Value) {
        let space = &self.namespace;
        let metadata = json!({ "name": account, "namespace": space });
        let group = "rbac.authorization.k8s.io";
        let api_version = "rbac.authorization.k8s.io/v1";
        self.apply(&json!({ "apiVersion": api_version, "kind": "Role", "metadata": metadata, "rules": rules }));
        self.apply(&json!({
            "apiVersion": api_version, "kind": "RoleBinding", "metadata": metadata,
            "roleRef": { "apiGroup": group, "kind": "Role", "name": account },
            "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": space }],
        }));
        // The API server learns of a right a moment after it has written it down.
        let Some(last) = rules.as_array().and_then(|rules| rules.last()) else {
            return;
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (resource, below) = match text(&last["resources"][0]).split_once('/') {
            Some((resource, below)) => (resource.to_owned(), below.to_owned()),
            None => (text(&last["resources"][0]), String::new()),
        };
        let object = match text(&last["resourceNames"][0]) {
            name if name.is_empty() => resource,
            name => format!("{resource}/{name}"),
        };
        let verb = text(&last["verbs"][0]);
        let user = format!("--as=system:serviceaccount:{space}:{account}");
        let subresource = format!("--subresource={below}");
        wait::until("the right to take effect", wait::SOON, || {
            let answer = self.cluster.kubectl(&["auth", "can-i", &verb, &object, &subresource, &user, "-n", space]);
            answer.stdout.trim() == "yes"
        });
    }

    /// A program that sees nothing of the caller's environment, and finds the folder's programs first.
    fn command(&self, program: &str, kubeconfig: &Path) -> Command {
        let mut command = Command::new(program);
        let path = std::env::join_paths([self.folder.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
        command
            .env_clear()
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null());
        command
    }

    /// `kubectl llm-proxy manage …`, to its end.
    fn manage(&self, kubeconfig: &Path, args: &[&str]) -> Ended {
        let kubectl = self.folder.path().join("kubectl");
        let mut command = self.command(kubectl.to_str().unwrap(), kubeconfig);
        command.args(["llm-proxy", "manage"]).args(args).output().unwrap().into()
    }
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ended = Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert!(
            !ended.stdout.contains(MANAGEMENT_TOKEN) && !ended.stderr.contains(MANAGEMENT_TOKEN),
            "{ended:?}"
        );
        ended
    }
}

impl Ended {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self.stdout
    }

    /// One line, with this exit code and these words.
    #[track_caller]
    fn failed(self, code: i32, words: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:?}");
        assert!(self.stderr.starts_with("error: ") && self.stderr.lines().count() == 1, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {self:?}");
        }
        eprintln!("{}", self.stderr.trim_end());
    }
}

fn server() -> (Server, SocketAddr) {
    let server = Setup::sqlite().start();
    let address = server.addr();
    (server, address)
}

/// Answers each connection with the beginning of an answer that never ends.
fn babbler(head: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(head.as_bytes());
            open.push(stream);
        }
    });
    address
}

const FLEET_RULE: &str = r#"{"apiGroups": ["llm-proxy.dev"], "resources": ["proxyconfigs"], "verbs": ["get", "list"]}"#;
const SECRET_RULE: &str = r#"{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["main-management"], "verbs": ["get"]}"#;
const PODS_RULE: &str = r#"{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}"#;
const TUNNEL_RULE: &str = r#"{"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]}"#;

fn rules(texts: &[&str]) -> Value {
    Value::Array(texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect())
}

#[test]
fn a_fleet_is_managed_through_the_api_server_with_the_documented_rights() {
    let stage = Stage::with_fleet();
    let (_server, address) = server();
    let node = stage.pod(Forward::To(address));
    let account = stage.account("manager", &rules(&[FLEET_RULE, SECRET_RULE, PODS_RULE, TUNNEL_RULE]));

    // What the manual says, word for word; kubectl and llm-proxy are found on PATH.
    let block = crate::documents::block("docs/cli.md", "fleet");
    let script = block.replace("team-a/main", &format!("{}/main", stage.namespace));
    assert!(script != block && script.contains("kubectl llm-proxy manage"), "{block}");
    let mut bash = stage.command("/bin/bash", &account);
    bash.args(["-euo", "pipefail", "-c", &script])
        .env("OPENAI_API_KEY", "sk-proj-0123456789abcdef");
    // A variable that is meant for another server is not taken for this one.
    bash.env("MANAGEMENT_TOKEN", "of-another-server")
        .env("MANAGEMENT_API_BASE_URL", "http://127.0.0.1:9");
    let said = Ended::from(bash.output().unwrap()).ok();
    assert!(
        said.contains("Team A") && said.contains("sk-lp-") && said.contains("Keep the token now"),
        "{said}"
    );

    let listed = stage.manage(&account, &["project", "list", "--json"]).ok();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["name"], "Team A");
    let named = format!("{}/main", stage.namespace);
    let by_name = stage.manage(&account, &["project", "list", "--fleet", &named, "--json"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&by_name).unwrap(), listed);
    let missing = stage.manage(&account, &["project", "get", "01a1ff97-0000-7000-8000-000000000000"]);
    missing.failed(4, &["HTTP 404"]);

    let asked = node.asked();
    let expected = format!("/portForward/{}/main-0?", stage.namespace);
    assert!(
        asked.len() >= 5 && asked.iter().all(|one| one.starts_with(&expected) && one.contains("8081")),
        "{asked:?}"
    );
    let audit = fs::read_to_string(stage.cluster.folder().join("audit.log")).unwrap();
    assert!(audit.contains("portforward") && !audit.contains(MANAGEMENT_TOKEN));
}

#[test]
fn the_charts_admin_role_is_enough_by_itself() {
    let chart = install::objects(include_str!("../node/rendered/cluster.golden.yaml"));
    let role = chart
        .into_iter()
        .find(|object| object.metadata.name.as_deref() == Some("release-llm-proxy-admin"));
    let stage = Stage::with_fleet();
    let (_server, address) = server();
    let _node = stage.pod(Forward::To(address));
    let account = stage.account("administrator", &role.expect("the role").data["rules"]);
    let listed = stage.manage(&account, &["project", "list", "--json"]).ok();
    assert!(serde_json::from_str::<Value>(&listed).unwrap().is_array(), "{listed}");
}

#[test]
fn kubectl_lists_the_plugin_without_a_warning_and_completes_its_commands() {
    let stage = Stage::new();
    let here = stage.here();
    let kubectl = stage.folder.path().join("kubectl");
    let run = |args: &[&str]| -> Ended { stage.command(kubectl.to_str().unwrap(), &here).args(args).output().unwrap().into() };
    let plugins = run(&["plugin", "list"]);
    assert!(
        plugins.stdout.contains("kubectl-llm_proxy") && !format!("{plugins:?}").contains("warning"),
        "{plugins:?}"
    );
    let version = run(&["llm-proxy", "version"]).ok();
    assert!(version.starts_with("llm-proxy "), "{version}");
    let help = run(&["llm-proxy", "manage", "--help"]).ok();
    assert!(help.contains("Usage: kubectl llm-proxy manage"), "{help}");
    let completed = run(&["__complete", "llm-proxy", "manage", "project", "act"]);
    assert!(completed.stdout.starts_with("activate\t"), "{completed:?}");
}

#[test]
fn each_missing_right_is_named() {
    let stage = Stage::with_fleet();
    let (_server, address) = server();
    let _node = stage.pod(Forward::To(address));
    let list = ["project", "list"];
    let account = stage.account("nobody", &rules(&[]));
    let place = format!("in namespace {}", stage.namespace);
    stage
        .manage(&account, &list)
        .failed(3, &["no fleet to be seen", "--fleet NAMESPACE/NAME"]);
    stage
        .manage(&account, &["project", "list", "-n", &stage.namespace])
        .failed(3, &["the right to list on proxyconfigs", &place]);
    stage
        .manage(&account, &["project", "list", "--fleet", "main"])
        .failed(3, &["get on proxyconfigs", &place]);
    stage.may("nobody", &rules(&[FLEET_RULE]));
    stage.manage(&account, &list).failed(3, &["get on secrets", &place, "main-management"]);
    stage.may("nobody", &rules(&[FLEET_RULE, SECRET_RULE]));
    stage.manage(&account, &list).failed(3, &["list on pods", &place]);
    stage.may("nobody", &rules(&[FLEET_RULE, SECRET_RULE, PODS_RULE]));
    stage
        .manage(&account, &list)
        .failed(3, &["no tunnel to pod", "get and create on pods/portforward", &place]);
    // Since Kubernetes 1.35 a tunnel over a WebSocket takes `create` too.
    let get_only = TUNNEL_RULE.replace(r#", "create""#, "");
    stage.may("nobody", &rules(&[FLEET_RULE, SECRET_RULE, PODS_RULE, &get_only]));
    stage
        .manage(&account, &list)
        .failed(3, &["no tunnel to pod", "get and create on pods/portforward"]);
    let stranger = stage.kubeconfig("stranger", &stage.namespace, Some("no-such-token"));
    stage
        .manage(&stranger, &list)
        .failed(3, &["cannot look for fleets in namespace", "does not accept the kubeconfig's user"]);
}

#[test]
fn no_fleet_two_fleets_and_a_fleet_that_is_not_there_yet_are_said_in_one_line() {
    let stage = Stage::new();
    let here = stage.here();
    stage
        .manage(&here, &["project", "list", "-n", &stage.namespace])
        .failed(4, &["there is no fleet in namespace"]);
    stage
        .manage(&here, &["project", "list", "--fleet", "main"])
        .failed(4, &["there is no fleet main in namespace"]);
    stage.fleet("one");
    stage.status("one", &json!({ "managementSecretName": null, "selector": null }));
    stage
        .manage(&here, &["project", "list"])
        .failed(1, &["/one has no management Secret yet"]);
    stage.status("one", &json!({ "managementSecretName": "one-management" }));
    stage
        .manage(&here, &["project", "list"])
        .failed(4, &["cannot read the management Secret", "not found"]);
    stage.apply(&json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "one-management", "namespace": stage.namespace } }));
    stage.manage(&here, &["project", "list"]).failed(4, &["holds no token"]);
    stage.fleet("two");
    let both = format!("{0}/one, {0}/two:", stage.namespace);
    stage
        .manage(&here, &["project", "list"])
        .failed(1, &["several fleets", &both, "--fleet NAMESPACE/NAME"]);
    let elsewhere = stage.kubeconfig("elsewhere", &stage.cluster.namespace(), None);
    stage
        .manage(&elsewhere, &["project", "list"])
        .failed(1, &["several fleets in https://127.0.0.1:"]);
}

#[test]
fn a_pod_that_is_not_ready_and_a_tunnel_that_breaks_are_said_in_one_line() {
    let stage = Stage::with_fleet();
    let here = stage.here();
    let list = ["project", "list", "--timeout", "20s"];
    stage.manage(&here, &list).failed(2, &["no pod that is ready (there are none)"]);
    let half = babbler("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n[{\"id\":");
    let node = Node::start(stage.cluster, Forward::Silent);
    node.run_pod(stage.cluster, &stage.namespace, "main-0", &[LABEL], false);
    stage.manage(&here, &list).failed(2, &["no pod that is ready (of 1)"]);
    node.run_pod(stage.cluster, &stage.namespace, "main-1", &[LABEL], true);
    let pod = format!("pod {}/main-1", stage.namespace);

    stage
        .manage(&here, &["project", "list", "--timeout", "500ms"])
        .failed(5, &["no answer", "500ms"]);
    node.set(Forward::Refused("error forwarding port 8081: connection refused".to_owned()));
    stage
        .manage(&here, &list)
        .failed(2, &[&pod, "the tunnel to", "error forwarding port 8081: connection refused"]);
    // Within the head, and within the body.
    for after in [10, 75] {
        node.set(Forward::Lost(half, after));
        stage.manage(&here, &list).failed(2, &[&pod, "ended before the answer did"]);
    }
    node.set(Forward::To(babbler("SSH-2.0-OpenSSH\r\n")));
    stage.manage(&here, &list).failed(1, &[&pod, "does not speak plain HTTP/1.1"]);
    // Its token is another one by now.
    let (_server, address) = {
        let server = Setup::sqlite().env("MANAGEMENT_TOKEN", "another").start();
        let address = server.addr();
        (server, address)
    };
    node.set(Forward::To(address));
    stage.manage(&here, &list).failed(3, &["HTTP 401", "the fleet's management Secret"]);
}

#[test]
fn a_pod_whose_node_is_away_is_out_of_reach() {
    let stage = Stage::with_fleet();
    let dead = dead_end::DeadEnd::refusing();
    let node = Node::away(stage.cluster, dead.addr());
    node.run_pod(stage.cluster, &stage.namespace, "main-0", &[LABEL], true);
    stage
        .manage(&stage.here(), &["project", "list"])
        .failed(2, &["no tunnel to pod", "main-0", "try again"]);
}

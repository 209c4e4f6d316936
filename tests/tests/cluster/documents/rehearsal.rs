//! A control plane for somebody who types along: Helm, kubectl and llm-proxy on PATH, and what a Deployment describes runs as a process here, with
//! the rights and the files that its pods would have. It refuses to know what is typed.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tempfile::TempDir;
use testkit::cluster::{Answer, Cluster, User};
use testkit::postgres::Database;
use testkit::process::Process;
use testkit::{charts, program};

/// How long a block may take.
const LIMIT: Duration = Duration::from_secs(180);
/// How often the node that is not there looks for pods.
const LOOK: Duration = Duration::from_millis(300);

pub(crate) struct Rehearsal {
    // Dropped from top to bottom: the processes before what they talk to.
    node: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
    cluster: Arc<Cluster>,
    database: Database,
    folder: TempDir,
}

impl Rehearsal {
    /// A control plane with nothing of ours but the definitions, an empty database in `DATABASE_URL`, and a folder that looks like the repository.
    pub(crate) fn start() -> Self {
        let cluster = Arc::new(Cluster::options().with_controllers().start());
        let folder = tempfile::tempdir().unwrap();
        let tools = folder.path().join("tools");
        fs::create_dir(&tools).unwrap();
        for name in ["llm-proxy", "kubectl-llm_proxy"] {
            symlink(program::path(), tools.join(name)).unwrap();
        }
        symlink(cluster.kubectl_path(), tools.join("kubectl")).unwrap();
        symlink(charts::helm(folder.path()).get_program(), tools.join("helm")).unwrap();
        for name in ["charts", "crds", "examples"] {
            symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name), folder.path().join(name)).unwrap();
        }
        let over = Arc::new(AtomicBool::new(false));
        let node = std::thread::spawn({
            let (cluster, over) = (Arc::clone(&cluster), Arc::clone(&over));
            move || {
                let mut node = Processes::of(&cluster);
                while !over.load(Ordering::SeqCst) {
                    node.look();
                    std::thread::sleep(LOOK);
                }
            }
        });
        Self {
            node: Some(node),
            over,
            cluster,
            database: Database::create(),
            folder,
        }
    }

    /// Where blocks are typed.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a block in bash as the cluster's administrator, each command of which has to succeed; what it printed.
    pub(crate) fn run(&self, block: &str) -> String {
        let home = self.folder.path();
        let path = format!("{}:{}", home.join("tools").display(), std::env::var("PATH").unwrap());
        let seconds = LIMIT.as_secs().to_string();
        let mut command = Command::new("timeout");
        command
            .args([&seconds, "bash", "-euo", "pipefail", "-c", block])
            .current_dir(home)
            .stdin(Stdio::null())
            .env("PATH", path)
            .env("HOME", home)
            .env("KUBECONFIG", self.cluster.kubeconfig(User::Admin))
            .env("DATABASE_URL", self.database.url());
        for (name, folder) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")] {
            command.env(name, home.join(".helm").join(folder));
        }
        let answer: Answer = command.output().expect("bash").into();
        assert!(answer.success, "{block}\nsaid\n{}{}\n{}", answer.stdout, answer.stderr, self.picture());
        answer.stdout
    }

    /// kubectl, which has to succeed.
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        self.cluster.kubectl(args).ok()
    }

    /// Waits until no object of these kinds is ours any more, in any namespace.
    pub(crate) fn until_gone(&self, kinds: &str) {
        let begun = Instant::now();
        loop {
            let left = self.kubectl(&["get", kinds, "-A", "-l", "app.kubernetes.io/name=llm-proxy", "-o", "name"]);
            if left.is_empty() {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{left}");
            std::thread::sleep(LOOK);
        }
    }

    /// What stands there, for whoever reads why a block failed.
    fn picture(&self) -> String {
        let ours = self.cluster.kubectl(&["get", "llm-proxy,deployments,pods", "-A", "-o", "wide"]);
        let why = self.cluster.kubectl(&["describe", "llm-proxy", "-A"]);
        format!("{}\n{}", ours.stdout, why.stdout)
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(node) = self.node.take() {
            // Its own panic is the failure that a person reads.
            let _ = node.join();
        }
    }
}

/// What runs in place of pods: a process for each Deployment of ours, whatever its number of replicas.
struct Processes<'a> {
    cluster: &'a Cluster,
    running: BTreeMap<String, (Value, Process, TempDir)>,
}

impl<'a> Processes<'a> {
    fn of(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            running: BTreeMap::new(),
        }
    }

    /// Starts and ends processes, and says that pods are Ready whose Deployment has one.
    fn look(&mut self) {
        let asked = ["get", "deployments", "-A", "-l", "app.kubernetes.io/name=llm-proxy", "-o", "json"];
        let list: Value = serde_json::from_str(&self.cluster.kubectl(&asked).ok()).unwrap();
        let mut wanted = BTreeMap::new();
        for deployment in list["items"].as_array().unwrap() {
            let of = |field: &str| deployment["metadata"][field].as_str().unwrap().to_owned();
            wanted.insert(format!("{}/{}", of("namespace"), of("name")), deployment);
        }
        self.running
            .retain(|name, (template, ..)| wanted.get(name).is_some_and(|deployment| deployment["spec"]["template"] == *template));
        for (name, deployment) in &wanted {
            if !self.running.contains_key(name) {
                let (process, files) = self.run(deployment);
                self.running
                    .insert(name.clone(), (deployment["spec"]["template"].clone(), process, files));
            }
            let (namespace, _) = name.split_once('/').unwrap();
            self.cluster.set_pods_ready(namespace, true);
        }
    }

    /// The program with its container's own arguments, its mounted files as files, on ports that are free.
    fn run(&self, deployment: &Value) -> (Process, TempDir) {
        let namespace = deployment["metadata"]["namespace"].as_str().unwrap();
        let pod = &deployment["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let files = tempfile::tempdir().unwrap();
        let mut mount = "";
        for source in pod["volumes"][0]["projected"]["sources"].as_array().into_iter().flatten() {
            mount = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
            let secret = source["secret"]["name"].as_str().unwrap();
            let held: Value = serde_json::from_str(&self.cluster.kubectl(&["-n", namespace, "get", "secret", secret, "-o", "json"]).ok()).unwrap();
            for item in source["secret"]["items"].as_array().unwrap() {
                let value = held["data"][item["key"].as_str().unwrap()].as_str().unwrap();
                fs::write(files.path().join(item["path"].as_str().unwrap()), STANDARD.decode(value).unwrap()).unwrap();
            }
        }
        let here = |arg: &str| match arg.split_once('=') {
            Some((flag @ ("--listen" | "--manage-listen"), _)) => format!("{flag}=127.0.0.1:0"),
            _ if mount.is_empty() => arg.to_owned(),
            _ => arg.replace(mount, files.path().to_str().unwrap()),
        };
        let args: Vec<String> = container["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| here(arg.as_str().unwrap()))
            .collect();
        let mut command = program::command(&args.iter().map(String::as_str).collect::<Vec<_>>());
        for name in ["MANAGEMENT_TOKEN", "DATABASE_URL", "ENCRYPTION_KEY", "KUBECONFIG"] {
            command.env_remove(name);
        }
        if let Some(account) = pod["serviceAccountName"].as_str() {
            command
                .env("KUBECONFIG", self.account(namespace, account, files.path()))
                .env("POD_NAME", "operator-0");
        }
        command.current_dir(files.path()).stdin(Stdio::null());
        let process = Process::spawn(command, files.path(), SocketAddr::from(([127, 0, 0, 1], 0)), "");
        (process, files)
    }

    /// A kubeconfig with the token that a pod of this ServiceAccount would have.
    fn account(&self, namespace: &str, account: &str, folder: &Path) -> PathBuf {
        let token = self.cluster.kubectl(&["-n", namespace, "create", "token", account]).ok();
        let text = fs::read_to_string(self.cluster.kubeconfig(User::Admin)).unwrap();
        let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
        kubeconfig["users"][0]["user"] = serde_json::json!({ "token": token.trim() });
        let path = folder.join("kubeconfig");
        fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }
}

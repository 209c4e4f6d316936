//! A fleet alone in a namespace: its ProxyConfig, its database, an operator in this process, and the pod that its Deployment describes, run as a
//! process. It refuses to know what a test is about.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crds::ProxyConfig;
use crds::conditions::{Condition, ConditionType, find};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use operator::cluster::Options;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testkit::cluster::{Cluster, User};
use testkit::postgres::Database;
use testkit::process::Process;
use testkit::program;
use tokio::runtime::Runtime;

use crate::operating::{Operating, options};

/// The deadline of conditions that have none of their own.
pub(crate) const SOON: Duration = Duration::from_secs(40);
/// How soon what was missing or wrong is mended; debug builds run on loaded machines.
pub(crate) const HEALS: Duration = Duration::from_secs(if cfg!(debug_assertions) { 8 } else { 2 });

/// A namespace with a database and nothing else in it yet.
pub(crate) struct Stage {
    pub(crate) cluster: &'static Cluster,
    pub(crate) namespace: String,
    pub(crate) database: Database,
    pub(crate) options: Options,
    operator: Option<Operating>,
    client: Client,
    runtime: Runtime,
}

impl Stage {
    /// A new one on the shared cluster.
    pub(crate) fn new() -> Self {
        let cluster = Cluster::shared();
        let namespace = cluster.namespace();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(async { cluster.client(User::Admin) });
        Self {
            cluster,
            options: options(&[&namespace]),
            namespace,
            database: Database::create(),
            operator: None,
            client,
            runtime,
        }
    }

    /// The same with the database's Secret, the fleet `main` with this further spec (JSON), and an operator.
    pub(crate) fn with_fleet(spec: Value) -> Self {
        let mut stage = Self::new();
        stage.make_database_secret("database", "url", &stage.database.url());
        stage.declare("main", spec);
        stage.start();
        stage
    }

    /// Starts the operator.
    pub(crate) fn start(&mut self) {
        self.operator = Some(Operating::of(self.cluster, self.options.clone()));
    }

    /// Stops it in an orderly way.
    pub(crate) fn stop(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.stop();
        }
    }

    /// Declares a fleet; the members of `spec` stand over the defaults.
    pub(crate) fn declare(&self, name: &str, spec: Value) {
        let mut whole =
            json!({"database": {"postgres": {"secretRef": {"name": "database"}}}, "providers": [{"name": "echo", "api": "Echo"}], "replicas": 1});
        for (field, value) in spec.as_object().cloned().unwrap_or_default() {
            whole[field] = value;
        }
        let object = json!({"apiVersion": "llm-proxy.dev/v1alpha1", "kind": "ProxyConfig", "metadata": {"name": name}, "spec": whole});
        self.apply::<ProxyConfig>(name, &object);
    }

    /// Makes, or changes, a Secret with one value.
    pub(crate) fn make_database_secret(&self, name: &str, key: &str, value: &str) {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {key: value}});
        self.apply::<Secret>(name, &secret);
    }

    /// Applies an object, as a person does.
    pub(crate) fn apply<K: Known>(&self, name: &str, object: &Value) {
        let params = PatchParams::apply("a-person").force();
        self.run(self.api::<K>().patch(name, &params, &Patch::Apply(object))).unwrap();
    }

    /// Changes an object by a merge patch.
    pub(crate) fn patch<K: Known>(&self, name: &str, patch: &Value) -> K {
        self.run(self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)))
            .unwrap()
    }

    /// An object, if it is there.
    pub(crate) fn get<K: Known>(&self, name: &str) -> Option<K> {
        self.run(self.api::<K>().get_opt(name)).unwrap()
    }

    /// An object as JSON.
    pub(crate) fn json<K: Known + serde::Serialize>(&self, name: &str) -> Value {
        serde_json::to_value(self.get::<K>(name)).unwrap()
    }

    /// What the Deployment's pods are replaced by when it changes.
    pub(crate) fn boot_hash(&self) -> String {
        let annotations = &self.json::<Deployment>("main")["spec"]["template"]["metadata"]["annotations"];
        annotations["llm-proxy.dev/boot-hash"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits for an object.
    pub(crate) fn wait_for<K: Known>(&self, name: &str) -> K {
        self.until(&format!("{name} is there"), SOON, || self.get(name))
    }

    /// Deletes an object.
    pub(crate) fn delete<K: Known>(&self, name: &str) {
        self.run(self.api::<K>().delete(name, &DeleteParams::default())).unwrap();
    }

    /// kubectl in the namespace.
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        let mut all = vec!["-n", &self.namespace];
        all.extend(args);
        self.cluster.kubectl(&all).ok()
    }

    /// The fleet.
    pub(crate) fn fleet(&self, name: &str) -> ProxyConfig {
        self.get(name).expect("the ProxyConfig")
    }

    /// Waits until a condition of the fleet `main` is this, such as `False SecretNotFound`, said of its present spec.
    pub(crate) fn says(&self, about: ConditionType, wanted: &str) -> Condition {
        self.fleet_says("main", about, wanted, SOON)
    }

    /// The same of any fleet and with any deadline.
    pub(crate) fn fleet_says(&self, name: &str, about: ConditionType, wanted: &str, limit: Duration) -> Condition {
        let start = Instant::now();
        loop {
            let fleet = self.fleet(name);
            let status = fleet.status.clone().unwrap_or_default();
            let found = find(&status.conditions, about).cloned();
            let said = found.as_ref().map(|condition| format!("{} {}", condition.status, condition.reason));
            if said.as_deref() == Some(wanted) && status.observed_generation == fleet.metadata.generation {
                return found.unwrap();
            }
            assert!(
                start.elapsed() < limit,
                "{about} of {name} is {said:?}, not {wanted} within {limit:?}: {status:#?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a look yields something.
    pub(crate) fn until<T>(&self, what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(
                start.elapsed() < limit,
                "not within {limit:?}: {what}\n{:#?}",
                self.get::<ProxyConfig>("main").and_then(|fleet| fleet.status)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A value of a Secret.
    pub(crate) fn value(&self, secret: &str, key: &str) -> Option<String> {
        let secret: Secret = self.get(secret)?;
        Some(String::from_utf8(secret.data?.get(key)?.0.clone()).unwrap())
    }

    /// Starts the fleet's pod: the program with the Deployment's own arguments, its mounted files as files, on ports that are free.
    pub(crate) fn start_pod(&self, deployment: &str) -> Pod {
        let deployment: Deployment = self.wait_for(deployment);
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        let container = &pod.containers[0];
        let folder = tempfile::tempdir().unwrap();
        let mount = &container.volume_mounts.as_ref().unwrap()[0].mount_path;
        let sources = pod.volumes.as_ref().unwrap()[0].projected.as_ref().unwrap().sources.clone().unwrap();
        for secret in sources.into_iter().filter_map(|source| source.secret) {
            for item in secret.items.unwrap() {
                let value = self.value(&secret.name, &item.key).expect("a mounted value");
                std::fs::write(folder.path().join(&item.path), value).unwrap();
            }
        }
        let args: Vec<String> = container.args.iter().flatten().map(|arg| here(arg, mount, &folder)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = program::command(&args);
        for name in ["MANAGEMENT_TOKEN", "DATABASE_URL", "ENCRYPTION_KEY"] {
            command.env_remove(name);
        }
        command.current_dir(folder.path()).stdin(Stdio::null());
        let process = Process::spawn(command, folder.path(), SocketAddr::from(([127, 0, 0, 1], 0)), "");
        Pod { process, folder }
    }

    fn api<K: Known>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn run<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }
}

/// A kind that the API server knows, in a namespace.
pub(crate) trait Known:
    kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug
{
}

impl<K> Known for K where K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug {}

/// An argument as it is on this machine: files where they are, ports that are free.
fn here(arg: &str, mount: &str, folder: &tempfile::TempDir) -> String {
    match arg.split_once('=') {
        Some((flag @ ("--listen" | "--manage-listen"), _)) => format!("{flag}=127.0.0.1:0"),
        _ => arg.replace(mount, folder.path().to_str().unwrap()),
    }
}

/// A running pod.
pub(crate) struct Pod {
    pub(crate) process: Process,
    folder: tempfile::TempDir,
}

impl Pod {
    /// The folder of its mounted files.
    pub(crate) fn files(&self) -> BTreeMap<String, PathBuf> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path())).collect()
    }

    /// Where /manage is.
    pub(crate) fn manage(&self) -> SocketAddr {
        let stdout = self.process.stdout();
        let line = stdout.lines().find_map(|line| line.strip_prefix("manage http://"));
        line.expect("the address of /manage").parse().unwrap()
    }
}

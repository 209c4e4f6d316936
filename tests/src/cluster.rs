//! A control plane of Kubernetes for tests: etcd, the API server and, on demand, Kubernetes' own controllers, with our definitions and users on it.
//! It refuses to know nodes: Pods are recorded and never run.
//!
//! `Cluster::shared()` is started once per test process; each test takes a namespace of its own in it. Who stops the API server starts its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1;
use kube::api::PostParams;
use kube::{Api, Client};
use rustix::process::Signal;

pub mod install;
pub mod kubectl;
pub mod node;
pub mod programs;

mod certificates;
mod keeper;
mod users;

pub use kubectl::Answer;
pub use users::{User, config_of};

use crate::random::Random;
use keeper::{Kept, RunFolder};
use programs::Programs;

/// How long the API server may take to answer for the first time on a loaded machine.
const START: Duration = Duration::from_secs(120);

/// Kubernetes' own controllers that our objects need; the others would only make noise in the audit log.
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,deployment-controller,replicaset-controller,\
                           serviceaccount-controller,disruption-controller,endpointslice-controller,horizontal-pod-autoscaler-controller,\
                           pod-garbage-collector-controller";

/// What is written down: all but reads of the server's health.
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
    {"level": "None", "nonResourceURLs": ["/healthz*", "/readyz*", "/livez*"]},
    {"level": "Metadata"}
]}"#;

/// What a control plane is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    controllers: bool,
    etcd_quota_bytes: Option<u64>,
    api_server_args: Vec<String>,
}

impl Options {
    /// Runs Kubernetes' own controllers too: namespaces end, what has an owner is collected, Deployments make Pods (which nobody runs).
    #[must_use]
    pub fn with_controllers(mut self) -> Self {
        self.controllers = true;
        self
    }

    /// How much etcd may hold, in bytes; 2 GiB if unset.
    #[must_use]
    pub fn with_etcd_quota(mut self, bytes: u64) -> Self {
        self.etcd_quota_bytes = Some(bytes);
        self
    }

    /// A further argument of kube-apiserver, such as `--max-requests-inflight=10`.
    #[must_use]
    pub fn with_api_server_arg(mut self, arg: &str) -> Self {
        self.api_server_args.push(arg.to_owned());
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// In one line that says what to install, if a program is missing; with the log of a process that does not start.
    #[must_use]
    pub fn start(self) -> Cluster {
        Cluster::with(self)
    }
}

/// A control plane that lives as long as this does, or as its process does.
#[derive(Debug)]
pub struct Cluster {
    // Dropped from top to bottom: who uses the store first, the folder last.
    controllers: Option<Kept>,
    api_server: Option<Kept>,
    _etcd: Kept,
    folder: RunFolder,
    programs: Programs,
    options: Options,
    api_address: SocketAddr,
    etcd_address: SocketAddr,
    secret: String,
}

impl Cluster {
    /// The one that all tests of this process share, with Kubernetes' own controllers. It ends with the process.
    ///
    /// # Panics
    /// As [`Options::start`].
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Options::default().with_controllers().start())
    }

    /// One of a test's own, without Kubernetes' own controllers.
    ///
    /// # Panics
    /// As [`Options::start`].
    #[must_use]
    pub fn start() -> Self {
        Options::default().start()
    }

    /// What one may ask for.
    #[must_use]
    pub fn options() -> Options {
        Options::default()
    }

    fn with(options: Options) -> Self {
        let programs = Programs::find().unwrap_or_else(|why| panic!("{why}"));
        let folder = RunFolder::make();
        let secret = Random::fresh().base62(24);
        certificates::write(folder.path());
        users::write_tokens(folder.path(), &secret);
        std::fs::write(folder.path().join("audit-policy.json"), AUDIT_POLICY).expect("a writable run folder");
        let (etcd, etcd_address) = start_etcd(&programs, &folder, &options);
        let mut cluster = Self {
            controllers: None,
            api_server: None,
            _etcd: etcd,
            folder,
            programs,
            options,
            api_address: free_address(),
            etcd_address,
            secret,
        };
        cluster.write_kubeconfigs();
        cluster.start_api_server();
        cluster.with_admin(|client| async move { install::install(&client).await });
        if cluster.options.controllers {
            // Not before our definitions are served: the garbage collector looks for new kinds only every 30 s.
            cluster.start_controllers();
        }
        cluster
    }

    fn write_kubeconfigs(&self) {
        for user in User::ALL {
            let ca = self.folder().join("ca.crt");
            let token = user.token(&self.secret);
            users::write_kubeconfig(&self.kubeconfig(user), &users::url(self.api_address), Some(&ca), &token, "default");
        }
    }

    /// The run folder: certificates, logs, data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the API server listens, by HTTPS.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.api_address
    }

    /// The kubeconfig file of a user.
    #[must_use]
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.folder().join(user.file())
    }

    /// The bearer token of a user.
    #[must_use]
    pub fn token(&self, user: User) -> String {
        user.token(&self.secret)
    }

    /// The program that kubectl is.
    #[must_use]
    pub fn kubectl_path(&self) -> &Path {
        &self.programs.kubectl
    }

    /// The process id of the API server, while it runs: what it has used is in /proc.
    #[must_use]
    pub fn api_server_pid(&self) -> Option<u32> {
        self.api_server.as_ref().map(|kept| kept.pid().as_raw_nonzero().get().cast_unsigned())
    }

    /// Makes a namespace with a random name that begins with `t-`, and returns the name.
    ///
    /// # Panics
    /// If the API server refuses.
    #[must_use]
    pub fn namespace(&self) -> String {
        self.namespace_with_labels(&[])
    }

    /// The same with labels.
    ///
    /// # Panics
    /// If the API server refuses.
    #[must_use]
    pub fn namespace_with_labels(&self, labels: &[(&str, &str)]) -> String {
        let name = format!("t-{}", Random::fresh().base62(10).to_ascii_lowercase());
        let mut namespace = v1::Namespace::default();
        namespace.metadata.name = Some(name.clone());
        namespace.metadata.labels = Some(labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect());
        self.with_admin(|client| async move {
            let api: Api<v1::Namespace> = Api::all(client);
            api.create(&PostParams::default(), &namespace).await.expect("a namespace");
        });
        name
    }

    /// Kills the API server, as a node's loss would. Its data stay.
    ///
    /// # Panics
    /// If it does not run.
    pub fn stop_api_server(&mut self) {
        drop(self.api_server.take().expect("the API server runs"));
    }

    /// Starts the API server again, on the same port, and waits until it is ready.
    ///
    /// # Panics
    /// With its log, if it does not become ready.
    pub fn start_api_server(&mut self) {
        let begun = Instant::now();
        let mut kept = self.spawn_api_server();
        loop {
            if self.is_ready() {
                break;
            }
            assert!(
                begun.elapsed() < START,
                "the API server is not ready within {START:?}:\n{}",
                kept.last_words()
            );
            if kept.has_ended() {
                // The port of a server that stood before may not be free yet.
                std::thread::sleep(Duration::from_millis(200));
                let words = kept.last_words();
                assert!(words.contains("address already in use"), "the API server ends:\n{words}");
                kept = self.spawn_api_server();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.api_server = Some(kept);
    }

    /// Stops the API server in its tracks (SIGSTOP): connections stay open and nobody answers.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause_api_server(&mut self) {
        self.api_server.as_ref().expect("the API server runs").signal(Signal::STOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn resume_api_server(&mut self) {
        self.api_server.as_ref().expect("the API server runs").signal(Signal::CONT);
    }

    /// Whether the API server is ready to serve.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let config = self.config(User::Admin);
        blocking(async move {
            let ask = async {
                let client = Client::try_from(config)?;
                let request = http::Request::get("/readyz").body(Vec::new()).map_err(kube::Error::HttpError)?;
                client.request_text(request).await
            };
            matches!(tokio::time::timeout(Duration::from_secs(2), ask).await, Ok(Ok(_)))
        })
    }

    fn spawn_api_server(&self) -> Kept {
        let mut command = Command::new(&self.programs.api_server);
        command.args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            // The Service `kubernetes` would point at this address, which no Service may.
            "--endpoint-reconciler-type=none",
            "--cert-dir=certificates",
            "--tls-cert-file=server.crt",
            "--tls-private-key-file=server.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=sa.pub",
            "--service-account-signing-key-file=sa.key",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=Node,RBAC",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--allow-privileged=true",
            "--profiling=false",
            "--audit-policy-file=audit-policy.json",
            "--audit-log-path=audit.log",
            // In MiB: never rotated.
            "--audit-log-maxsize=100000",
        ]);
        command.arg(format!("--etcd-servers=http://{}", self.etcd_address));
        command.arg(format!("--secure-port={}", self.api_address.port()));
        command.args(&self.options.api_server_args);
        Kept::spawn(self.folder(), "kube-apiserver", &command)
    }

    fn start_controllers(&mut self) {
        let mut command = Command::new(&self.programs.controller_manager);
        command.args([
            "--leader-elect=false",
            "--use-service-account-credentials",
            "--service-account-private-key-file=sa.key",
            "--root-ca-file=ca.crt",
            // Nobody asks it how it is.
            "--secure-port=0",
        ]);
        command.arg(format!("--controllers={CONTROLLERS}"));
        command.arg("--kubeconfig").arg(self.kubeconfig(User::ControllerManager));
        self.controllers = Some(Kept::spawn(self.folder(), "kube-controller-manager", &command));
    }

    /// Runs something with a client of the admin, from anywhere, and waits for it.
    fn with_admin<T, F>(&self, act: impl FnOnce(Client) -> F + Send) -> T
    where
        F: Future<Output = T> + Send,
        T: Send,
    {
        let config = self.config(User::Admin);
        blocking(async move { act(Client::try_from(config).expect("a client")).await })
    }
}

/// Starts etcd on a port of its own and waits until it answers.
fn start_etcd(programs: &Programs, folder: &RunFolder, options: &Options) -> (Kept, SocketAddr) {
    let mut last_words = String::new();
    // Between finding a free port and using it another process may take it.
    for _ in 0..5 {
        let (clients, peers) = (free_address(), free_address());
        let mut command = Command::new(&programs.etcd);
        command.args(["--data-dir=etcd", "--unsafe-no-fsync", "--logger=zap", "--log-level=warn"]);
        for name in ["listen", "advertise"] {
            command.arg(format!("--{name}-client-urls=http://{clients}"));
        }
        command.arg(format!("--listen-peer-urls=http://{peers}"));
        command.arg(format!("--initial-advertise-peer-urls=http://{peers}"));
        command.arg(format!("--initial-cluster=default=http://{peers}"));
        if let Some(bytes) = options.etcd_quota_bytes {
            command.arg(format!("--quota-backend-bytes={bytes}"));
        }
        let kept = Kept::spawn(folder.path(), "etcd", &command);
        let begun = Instant::now();
        while begun.elapsed() < START && !kept.has_ended() {
            if std::net::TcpStream::connect(clients).is_ok() {
                return (kept, clients);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        last_words = kept.last_words();
        drop(kept);
        let _ = std::fs::remove_dir_all(folder.path().join("etcd"));
    }
    panic!("etcd does not start:\n{last_words}");
}

/// An address that nobody listens on, below the ports that the kernel hands out by itself: nobody takes it by chance while a server is stopped.
fn free_address() -> SocketAddr {
    let mut random = Random::fresh();
    for _ in 0..1000 {
        let port = u16::try_from(12_000 + random.below(20_000)).expect("a port");
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr().expect("its address");
        }
    }
    panic!("no free port");
}

/// Runs a future on a thread and a runtime of its own, so that it may be called from anywhere.
fn blocking<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(future)
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

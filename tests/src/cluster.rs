//! A control plane of Kubernetes for tests: etcd, the API server and, on demand, Kubernetes' own controllers, with our definitions and users on it.
//! It refuses to know nodes: Pods are recorded and never run.
//!
//! `Cluster::shared()` is started once per test process; each test takes a namespace of its own in it. Who stops the API server starts its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use k8s_openapi::api::core::v1;
use kube::api::PostParams;
use kube::{Api, Client};

pub mod audit;
pub mod faults;
pub mod install;
pub mod kubectl;
pub mod load;
pub mod node;
pub mod port_forward;
pub mod programs;
pub mod rights;

mod certificates;
mod foreign;
mod keeper;
mod pods;
mod processes;
mod users;

pub use kubectl::Answer;
pub use users::{User, config_of};

use crate::random::Random;
use keeper::{Kept, RunFolder};
use processes::{free_address, start_etcd};
use programs::Programs;

/// What a control plane is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    controllers: bool,
    etcd_quota_bytes: Option<u64>,
    api_server_args: Vec<String>,
    network: Option<node::Network>,
    bare: bool,
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

    /// Leaves our definitions and the tests' rights away: for whoever installs them as people do.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Lets a node and its pods reach the API server, at the machine's own end of this network and as the Service `kubernetes`.
    #[must_use]
    fn with_network(mut self, network: node::Network) -> Self {
        self.network = Some(network);
        self.with_controllers()
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
    _etcd: Option<Kept>,
    folder: RunFolder,
    programs: Programs,
    options: Options,
    /// None on a foreign cluster.
    api_address: Option<SocketAddr>,
    etcd_address: Option<SocketAddr>,
    secret: String,
}

impl Cluster {
    /// The one that all tests of this process share, with Kubernetes' own controllers. It ends with the process. With USE_EXISTING_CLUSTER=true
    /// it is the cluster that KUBECONFIG leads to; without those words no test touches somebody's cluster.
    ///
    /// # Panics
    /// As [`Options::start`].
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| foreign::configured().map_or_else(|| Options::default().with_controllers().start(), |path| Self::foreign(&path)))
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
        let addresses = options.network.map(|network| [network.machine(), network.api_server()]);
        certificates::write(folder.path(), addresses.as_ref().map_or(&[], |addresses| addresses));
        users::write_tokens(folder.path(), &secret);
        processes::write_audit_policy(folder.path());
        let (etcd, etcd_address) = start_etcd(&programs, &folder, &options);
        let mut cluster = Self {
            controllers: None,
            api_server: None,
            _etcd: Some(etcd),
            folder,
            programs,
            options,
            api_address: Some(free_address()),
            etcd_address: Some(etcd_address),
            secret,
        };
        cluster.write_kubeconfigs();
        cluster.start_api_server();
        if !cluster.options.bare {
            cluster.with_admin(|client| async move { install::install(&client).await });
        }
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
            users::write_kubeconfig(&self.kubeconfig(user), &users::url(self.address()), Some(&ca), &token, "default");
        }
    }

    /// The run folder: certificates, logs, data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The same, for what only a control plane of ours allows.
    #[track_caller]
    fn own_folder(&self, purpose: &str) -> &Path {
        self.own_address(purpose);
        self.folder()
    }

    #[track_caller]
    fn own_address(&self, purpose: &str) -> SocketAddr {
        self.api_address
            .unwrap_or_else(|| panic!("this test {purpose}, which it cannot on the cluster of KUBECONFIG: unset USE_EXISTING_CLUSTER"))
    }

    /// Where the API server listens, by HTTPS.
    ///
    /// # Panics
    /// On a foreign cluster.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.own_address("asks for the API server's address")
    }

    /// Where etcd listens, by HTTP: for what no API server would do.
    ///
    /// # Panics
    /// On a foreign cluster, whose etcd is its own affair.
    #[must_use]
    pub fn etcd_address(&self) -> SocketAddr {
        self.etcd_address.expect("a control plane of the tests' own")
    }

    /// The kubeconfig file of a user.
    #[must_use]
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.folder().join(user.file())
    }

    /// The bearer token of a user.
    ///
    /// # Panics
    /// On a foreign cluster.
    #[must_use]
    pub fn token(&self, user: User) -> String {
        self.own_address("asks for a bearer token");
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
        let mark = (foreign::LABEL.to_owned(), String::new());
        namespace.metadata.labels = Some(
            labels
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .chain([mark])
                .collect(),
        );
        self.with_admin(|client| async move {
            let api: Api<v1::Namespace> = Api::all(client);
            api.create(&PostParams::default(), &namespace).await.expect("a namespace");
        });
        name
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

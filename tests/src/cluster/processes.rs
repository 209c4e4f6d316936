//! The processes of a control plane: how each is started, stopped, stalled and asked whether it is ready.
//! It refuses to know users, definitions and objects.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kube::Client;
use rustix::process::Signal;

use super::keeper::{Kept, RunFolder};
use super::programs::Programs;
use super::{Cluster, Options, User, blocking};
use crate::random::Random;

/// How long the API server may take to answer for the first time on a loaded machine.
const START: Duration = Duration::from_secs(120);

/// Kubernetes' own controllers that our objects need; the others would only make noise in the audit log.
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,deployment-controller,replicaset-controller,\
                           serviceaccount-controller,disruption-controller,endpointslice-controller,horizontal-pod-autoscaler-controller,\
                           pod-garbage-collector-controller";

/// Those that a node needs besides: its taints go, its pods know whom to trust, and Jobs run.
const NODE_CONTROLLERS: &str = "node-lifecycle-controller,root-ca-certificate-publisher-controller,job-controller,ttl-after-finished-controller";

/// What is written down: all but reads of the server's health.
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
    {"level": "None", "nonResourceURLs": ["/healthz*", "/readyz*", "/livez*"]},
    {"level": "Metadata"}
]}"#;

/// Writes what the API server is to write down.
///
/// # Panics
/// If the folder is not writable.
pub(super) fn write_audit_policy(folder: &Path) {
    std::fs::write(folder.join("audit-policy.json"), AUDIT_POLICY).expect("a writable run folder");
}

impl Cluster {
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
        match self.options.network {
            // The Service `kubernetes` would point at this address, which no Service may.
            None => command
                .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
                .args(["--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/16"]),
            Some(network) => command
                .args(["--bind-address=0.0.0.0", "--kubelet-preferred-address-types=InternalIP"])
                .arg(format!("--advertise-address={}", network.machine()))
                .arg(format!("--service-cluster-ip-range={}", network.services())),
        };
        command.args([
            "--cert-dir=certificates",
            "--tls-cert-file=server.crt",
            "--tls-private-key-file=server.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=sa.pub",
            "--service-account-signing-key-file=sa.key",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--profiling=false",
            "--audit-policy-file=audit-policy.json",
            "--audit-log-path=audit.log",
            // In MiB: never rotated.
            "--audit-log-maxsize=100000",
        ]);
        command.arg(format!("--etcd-servers=http://{}", self.etcd_address.expect("etcd runs")));
        command.arg(format!("--secure-port={}", self.address().port()));
        command.args(&self.options.api_server_args);
        Kept::spawn(self.folder(), "kube-apiserver", &command)
    }

    pub(super) fn start_controllers(&mut self) {
        let mut command = Command::new(&self.programs.controller_manager);
        command.args([
            "--leader-elect=false",
            "--use-service-account-credentials",
            "--service-account-private-key-file=sa.key",
            "--root-ca-file=ca.crt",
            // Nobody asks it how it is.
            "--secure-port=0",
        ]);
        match self.options.network {
            None => command.arg(format!("--controllers={CONTROLLERS}")),
            Some(_) => command.arg(format!("--controllers={CONTROLLERS},{NODE_CONTROLLERS}")),
        };
        command.arg("--kubeconfig").arg(self.kubeconfig(User::ControllerManager));
        self.controllers = Some(Kept::spawn(self.folder(), "kube-controller-manager", &command));
    }
}

/// Starts etcd on a port of its own and waits until it answers.
pub(super) fn start_etcd(programs: &Programs, folder: &RunFolder, options: &Options) -> (Kept, SocketAddr) {
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
pub(super) fn free_address() -> SocketAddr {
    let mut random = Random::fresh();
    for _ in 0..1000 {
        let port = u16::try_from(12_000 + random.below(20_000)).expect("a port");
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr().expect("its address");
        }
    }
    panic!("no free port");
}

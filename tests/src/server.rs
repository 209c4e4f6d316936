//! A real `llm-proxy server` process: started on a database, killed and started again as a test says.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{self, Request, Response};
use crate::{program, wait};

/// What /manage of the tests' servers is asked with.
pub const MANAGEMENT_TOKEN: &str = "management-token-of-the-tests";

/// 32 bytes in base64: the sealing key of the tests' databases.
pub const ENCRYPTION_KEY: &str = "dGhlIHNlYWxpbmcga2V5IG9mIHRoZSB0ZXN0cywgMzI=";

/// How a server is started. Clones share the scratch folder, which is the process's working directory and goes with the last clone.
#[derive(Clone, Debug)]
pub struct Setup {
    scratch: Arc<TempDir>,
    addr: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Setup {
    /// On the SQLite file of its default path, in a fresh folder.
    #[must_use]
    pub fn sqlite() -> Self {
        Self {
            scratch: Arc::new(tempfile::tempdir().expect("a temporary folder")),
            addr: "127.0.0.1:0".to_owned(),
            args: Vec::new(),
            env: vec![("MANAGEMENT_TOKEN".to_owned(), MANAGEMENT_TOKEN.to_owned())],
        }
    }

    /// On a PostgreSQL.
    #[must_use]
    pub fn postgres(url: &str) -> Self {
        Self::sqlite().env("DATABASE_URL", url).env("ENCRYPTION_KEY", ENCRYPTION_KEY)
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// One more environment variable; the last one of a name counts.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without this environment variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self
    }

    /// On a port that is free now and stays the same through restarts, and is known before the process is ready.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn on_a_known_port(mut self) -> Self {
        let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
        self.addr = probe.local_addr().expect("its number").to_string();
        self
    }

    /// The working directory.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.scratch.path().to_owned()
    }

    /// Starts a process without waiting for anything.
    ///
    /// # Panics
    /// If the program cannot be started.
    #[must_use]
    pub fn spawn(&self) -> Server {
        let logs = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(self.scratch.path())
            .expect("a folder for the logs")
            .keep();
        let (stdout, stderr) = (logs.join("stdout"), logs.join("stderr"));
        let mut command = program::command(&["server", "--addr", &self.addr, "--drain-grace", "5s"]);
        for name in ["MANAGEMENT_TOKEN", "DATABASE_URL", "DATABASE_PATH", "ENCRYPTION_KEY"] {
            command.env_remove(name);
        }
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.scratch.path())
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).expect("a file for its output"))
            .stderr(File::create(&stderr).expect("a file for its log"));
        Server {
            child: command.spawn().expect("llm-proxy starts"),
            addr: self.addr.parse().expect("an address"),
            stdout,
            stderr,
            _scratch: Arc::clone(&self.scratch),
        }
    }

    /// Starts a process and waits for its `ready` line.
    ///
    /// # Panics
    /// With its output, if it ends or stays silent.
    #[must_use]
    #[track_caller]
    pub fn start(&self) -> Server {
        let mut server = self.spawn();
        server.wait_until_ready();
        server
    }

    /// Runs a process that is expected to give up by itself: its exit code and what it printed to standard error.
    ///
    /// # Panics
    /// If it is still running after the usual deadline.
    #[must_use]
    #[track_caller]
    pub fn fails(&self) -> (Option<i32>, String) {
        let mut server = self.spawn();
        let status = server.wait(wait::SOON);
        (status.code(), server.stderr())
    }
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    addr: SocketAddr,
    stdout: PathBuf,
    stderr: PathBuf,
    /// Holds both, and the working directory.
    _scratch: Arc<TempDir>,
}

impl Server {
    /// Waits for the line `ready http://ADDR`.
    ///
    /// # Panics
    /// With its output, if it ends or stays silent.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + wait::SOON;
        loop {
            let ready = self.stdout().lines().find_map(|line| line.strip_prefix("ready http://")?.parse().ok());
            if let Some(addr) = ready {
                self.addr = addr;
                return;
            }
            let ended = self.child.try_wait().expect("the state of the process");
            assert!(
                ended.is_none(),
                "it ended with {ended:?} before it was ready:\n{}{}",
                self.stdout(),
                self.stderr()
            );
            assert!(
                Instant::now() < deadline,
                "not ready within {:?}:\n{}{}",
                wait::SOON,
                self.stdout(),
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The address that it serves on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one request over a connection of its own.
    ///
    /// # Panics
    /// If no complete head comes back.
    #[must_use]
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        client::send(self.addr, request).unwrap_or_else(|error| panic!("no answer: {error}\n{}", self.stderr()))
    }

    /// The status of /ready and what it says; `None` while nobody listens.
    #[must_use]
    pub fn readiness(&self) -> Option<(u16, String)> {
        let response = client::send(self.addr, &Request::get("/ready")).ok()?;
        Some((response.status, response.text()))
    }

    /// The value of a metric.
    ///
    /// # Panics
    /// If there is no such metric.
    #[must_use]
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.send(&Request::get("/metrics")).text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name} in:\n{text}"))
    }

    /// What it has printed so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// What it has logged so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Whether it still runs.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("the state of the process").is_none()
    }

    /// Kills it as `kill -9` does and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process ends");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// With its log, if it still runs after `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("the state of the process") {
                return status;
            }
            assert!(Instant::now() < deadline, "still running after {limit:?}:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM and a clean end.
    ///
    /// # Panics
    /// If it does not exit with 0.
    #[track_caller]
    pub fn stop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::TERM).expect("the process takes a signal");
        let status = self.wait(wait::SOON);
        assert_eq!(status.code(), Some(0), "{}", self.stderr());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- output of the process\n{}{}---", self.stdout(), self.stderr());
        }
    }
}

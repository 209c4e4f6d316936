//! A real `llm-proxy server` process: started on a database, killed and started again as a test says.

use std::net::TcpListener;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use tempfile::TempDir;

use crate::client::{self, Request};
use crate::process::Process;
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
        let mut command = program::command(&["server", "--addr", &self.addr, "--drain-grace", "5s"]);
        for name in ["MANAGEMENT_TOKEN", "DATABASE_URL", "DATABASE_PATH", "ENCRYPTION_KEY"] {
            command.env_remove(name);
        }
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.scratch.path())
            .stdin(Stdio::null());
        let addr = self.addr.parse().expect("an address");
        Server {
            process: Process::spawn(command, self.scratch.path(), addr, ""),
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
    process: Process,
    /// Holds its output and the working directory, until it is gone.
    _scratch: Arc<TempDir>,
}

impl Server {
    /// The status of /ready and what it says; `None` while nobody listens.
    #[must_use]
    pub fn readiness(&self) -> Option<(u16, String)> {
        let response = client::send(self.addr(), &Request::get("/ready")).ok()?;
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
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

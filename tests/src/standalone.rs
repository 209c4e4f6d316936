//! A real `llm-proxy standalone` process: started on a folder of manifests, watched through its files, killed as a test says.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{self, Request, Response};
use crate::status::Status;
use crate::{manifests, program, wait};

/// A data dir and how to start a process on it. Cloning shares data and manifests, which go with the last clone.
#[derive(Clone, Debug)]
pub struct Setup {
    scratch: Arc<TempDir>,
    _folder: manifests::Folder,
    data_dir: PathBuf,
    manifests: Vec<String>,
    listen: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Setup {
    /// A fresh data dir for these manifests, port 0.
    #[must_use]
    pub fn new(folder: &manifests::Folder) -> Self {
        let scratch = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let data_dir = scratch.path().join("data");
        let manifests = vec![folder.path().display().to_string()];
        Self {
            scratch,
            _folder: folder.clone(),
            data_dir,
            manifests,
            listen: "127.0.0.1:0".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    /// Another data dir.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = path.into();
        self
    }

    /// One more `-f PATH`.
    #[must_use]
    pub fn also_reading(mut self, path: &Path) -> Self {
        self.manifests.push(path.display().to_string());
        self
    }

    /// Another `--listen`.
    #[must_use]
    pub fn listen(mut self, addr: impl std::fmt::Display) -> Self {
        self.listen = addr.to_string();
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where the data is.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data_dir
    }

    /// What `llm-proxy status` says, process up or down.
    ///
    /// # Panics
    /// If it prints no JSON.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::read(&self.data_dir)
    }

    /// The .env of a token's Secret, as its variables; `None` if there is no such file.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<HashMap<String, String>> {
        let text = fs::read_to_string(self.secret_path(name)).ok()?;
        Some(
            text.lines()
                .filter_map(|line| line.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// Where that .env is.
    #[must_use]
    pub fn secret_path(&self, name: &str) -> PathBuf {
        self.data_dir.join("secrets").join(format!("{}.{name}.env", manifests::NAMESPACE))
    }

    /// Starts a process without waiting for anything.
    ///
    /// # Panics
    /// If the program cannot be started.
    #[must_use]
    pub fn spawn(&self) -> Standalone {
        let logs = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(self.scratch.path())
            .expect("a folder for the logs")
            .keep();
        let (stdout, stderr) = (logs.join("stdout"), logs.join("stderr"));
        let mut command = program::command(&["standalone"]);
        for path in &self.manifests {
            command.args(["-f", path]);
        }
        command
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--listen", &self.listen])
            .args(&self.args);
        command.envs(self.env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
            .stdout(File::create(&stdout).expect("a file for its output"))
            .stderr(File::create(&stderr).expect("a file for its log"));
        let child = command.spawn().expect("llm-proxy starts");
        Standalone {
            child,
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            stdout,
            stderr,
            setup: self.clone(),
        }
    }

    /// Starts a process and waits for its `ready` line.
    ///
    /// # Panics
    /// With its output, if it ends or stays silent.
    #[must_use]
    #[track_caller]
    pub fn start(&self) -> Standalone {
        let mut process = self.spawn();
        process.wait_until_ready();
        process
    }

    /// Runs a process that is expected to give up by itself: its exit code and what it printed to standard error.
    ///
    /// # Panics
    /// If it is still running after the usual deadline.
    #[must_use]
    #[track_caller]
    pub fn fails(&self) -> (Option<i32>, String) {
        let mut process = self.spawn();
        let status = process.wait(wait::SOON);
        (status.code(), process.stderr())
    }
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Standalone {
    child: Child,
    addr: SocketAddr,
    stdout: PathBuf,
    stderr: PathBuf,
    setup: Setup,
}

impl Standalone {
    /// Waits for the line `ready http://ADDR/v1`.
    ///
    /// # Panics
    /// With its output, if it ends or stays silent.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + wait::SOON;
        loop {
            let ready = self
                .stdout()
                .lines()
                .find_map(|line| line.strip_prefix("ready http://")?.strip_suffix("/v1")?.parse().ok());
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

    /// How it was started.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Waits for the .env of a token's Secret and gives its OPENAI_API_KEY.
    ///
    /// # Panics
    /// If none comes.
    #[must_use]
    #[track_caller]
    pub fn key(&self, secret: &str) -> String {
        wait::some(&format!("an OPENAI_API_KEY for {secret}"), wait::SOON, || {
            self.setup.secret(secret)?.remove("OPENAI_API_KEY")
        })
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

    /// The files that hold its output.
    #[must_use]
    pub fn output_files(&self) -> [&Path; 2] {
        [&self.stdout, &self.stderr]
    }

    /// Whether it still runs.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("the state of the process").is_none()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("the process takes a signal");
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
        self.terminate();
        let status = self.wait(wait::SOON);
        assert_eq!(status.code(), Some(0), "{}", self.stderr());
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- output of the process\n{}{}---", self.stdout(), self.stderr());
        }
    }
}

//! A process of ours with its output in files: watched, signalled, waited for, and killed with its value.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::{self, Request, Response};
use crate::wait;

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    addr: SocketAddr,
    /// What follows the address in its `ready` line.
    base_path: &'static str,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts it with its output in fresh files below `scratch`. Until its `ready` line is seen it is taken to serve on `addr`.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub(crate) fn spawn(mut command: Command, scratch: &Path, addr: SocketAddr, base_path: &'static str) -> Self {
        let logs = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(scratch)
            .expect("a folder for the logs")
            .keep();
        let (stdout, stderr) = (logs.join("stdout"), logs.join("stderr"));
        command
            .stdout(File::create(&stdout).expect("a file for its output"))
            .stderr(File::create(&stderr).expect("a file for its log"));
        Self {
            child: command.spawn().expect("llm-proxy starts"),
            addr,
            base_path,
            stdout,
            stderr,
        }
    }

    /// Waits for its `ready` line.
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
                .find_map(|line| line.strip_prefix("ready http://")?.strip_suffix(self.base_path)?.parse().ok());
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

    /// Stops it in its tracks (SIGSTOP): nothing of it runs, and it is not told.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
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

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- output of the process\n{}{}---", self.stdout(), self.stderr());
        }
    }
}

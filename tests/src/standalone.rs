//! A real `llm-proxy standalone` process: started on a folder of manifests, watched through its files, killed as a test says.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use tempfile::TempDir;

use crate::process::Process;
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
    wrapper: Vec<String>,
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
            wrapper: Vec::new(),
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

    /// Runs it by another program, given with its own arguments. That program must become the process (`exec`), as valgrind does.
    #[must_use]
    pub fn under(mut self, wrapper: &[String]) -> Self {
        self.wrapper = wrapper.to_vec();
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
        let mut command = program::command_under(&self.wrapper, &["standalone"]);
        for path in &self.manifests {
            command.args(["-f", path]);
        }
        command
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--listen", &self.listen])
            .args(&self.args);
        command.envs(self.env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Standalone {
            process: Process::spawn(command, self.scratch.path(), anywhere, "/v1"),
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
    process: Process,
    setup: Setup,
}

impl Standalone {
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
}

impl Deref for Standalone {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Standalone {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

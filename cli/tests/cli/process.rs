//! Runs the binary: once to its end, or as a server until the test is over.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up: far beyond what a busy machine needs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_llm-proxy");

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The binary with these arguments, deaf to the environment's settings.
pub(crate) fn llm_proxy<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args).stdin(Stdio::null());
    quiet_environment(&mut command);
    command
}

/// Takes away what the caller's shell may have set.
pub(crate) fn quiet_environment(command: &mut Command) {
    for name in [
        "DATABASE_PATH",
        "DATABASE_URL",
        "ENCRYPTION_KEY",
        "LISTEN_ADDR",
        "LOG_LEVEL",
        "LOG_FORMAT",
        "LOG_FILE",
        "LOG_MAX_SIZE_MB",
        "LOG_MAX_BACKUPS",
        "MANAGEMENT_API_BASE_URL",
        "MANAGEMENT_TOKEN",
        "OPENAI_API_KEY",
        "OPENAI_API_URL",
        "PROXY_TOKEN",
        "PROXY_URL",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "ALL_PROXY",
    ] {
        command.env_remove(name);
    }
}

/// What a command that has ended left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// Runs to the end.
pub(crate) fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Ended {
    llm_proxy(args).output().unwrap().into()
}

/// A folder of manifests and a data directory, gone with the test.
pub(crate) struct Place {
    root: tempfile::TempDir,
}

impl Place {
    /// An empty one.
    pub(crate) fn empty() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("manifests")).unwrap();
        Self { root }
    }

    /// With the quickstart's manifests.
    pub(crate) fn quickstart() -> Self {
        let place = Self::empty();
        for entry in fs::read_dir(repository().join("examples/quickstart")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, place.manifests().join(path.file_name().unwrap())).unwrap();
        }
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.root.path().join("manifests")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.manifests().join(name), text).unwrap();
    }

    /// `standalone` on this place and a free port.
    pub(crate) fn standalone(&self) -> Command {
        self.standalone_on("127.0.0.1:0")
    }

    /// The same on another address.
    pub(crate) fn standalone_on(&self, listen: &str) -> Command {
        let mut command = llm_proxy(["standalone", "--listen", listen, "-f"]);
        command.arg(self.manifests()).arg("--data-dir").arg(self.data());
        command
    }

    /// `status` on this place.
    pub(crate) fn status(&self, more: &[&str]) -> Ended {
        llm_proxy(["status", "--data-dir"]).arg(self.data()).args(more).output().unwrap().into()
    }
}

/// A running `standalone`, killed when dropped.
pub(crate) struct Server {
    child: Child,
    stdout: Receiver<String>,
    log: PathBuf,
    /// `http://ADDR/v1` of its first line.
    pub(crate) base_url: String,
}

impl Server {
    /// Starts it and waits for its `ready` line.
    pub(crate) fn start(place: &Place) -> Self {
        Self::of(place.standalone(), place)
    }

    /// The same for a command of the test's own.
    pub(crate) fn of(mut command: Command, place: &Place) -> Self {
        let log = place.path().join("log");
        let mut child = command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let (lines, stdout) = channel();
        let reader = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || reader.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let mut server = Self {
            child,
            stdout,
            log,
            base_url: String::new(),
        };
        let first = server.line();
        server.base_url = first
            .strip_prefix("ready ")
            .unwrap_or_else(|| panic!("{first:?} is no ready line\n{}", server.log()))
            .to_owned();
        server
    }

    /// The next line of standard output.
    pub(crate) fn line(&self) -> String {
        match self.stdout.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("nothing printed in {DEADLINE:?}\n{}", self.log()),
            Err(RecvTimeoutError::Disconnected) => panic!("it ended\n{}", self.log()),
        }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// `kill -NAME`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for its end; the exit code.
    pub(crate) fn wait(mut self) -> Option<i32> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "still running after {DEADLINE:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `look` finds something.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

//! Debian's nginx on the committed configuration, beside us.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use testkit::wait;

use crate::process;

/// A running nginx; dropping it stops master and workers.
pub(crate) struct Nginx {
    master: Child,
    addr: SocketAddr,
    workers: Vec<u32>,
    _dir: TempDir,
}

impl Nginx {
    /// Starts one with so many workers in front of `upstream`.
    pub(crate) fn start(upstream: SocketAddr, workers: usize) -> Self {
        Self::start_under(&[], upstream, workers)
    }

    /// The same, run by another program, which is given with its own arguments; then the one worker is the process itself.
    pub(crate) fn start_under(wrapper: &[String], upstream: SocketAddr, workers: usize) -> Self {
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/bench/nginx.conf");
        let template = fs::read_to_string(template).expect("e2e/bench/nginx.conf");
        let dir = tempfile::tempdir().expect("a temporary folder");
        // nginx takes no port 0; the one that the kernel offers now is free until somebody else asks for one.
        let addr = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port");
        let text = template
            .replace("@WORKERS@", &workers.to_string())
            .replace("@UPSTREAM@", &upstream.to_string())
            .replace("@LISTEN@", &addr.to_string())
            .replace("@DIR@", &dir.path().display().to_string());
        let path = dir.path().join("nginx.conf");
        fs::write(&path, text).expect("the configuration is written");
        let mut words = wrapper.iter().map(String::as_str).chain(["nginx"]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command
            .args(words)
            .env("PATH", "/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
            .arg("-p")
            .arg(dir.path())
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null());
        if !wrapper.is_empty() {
            command.args(["-g", "master_process off;"]);
        }
        let master = command
            .spawn()
            .unwrap_or_else(|error| panic!("nginx does not start ({error}): apt-get install nginx-light"));
        let mut nginx = Self {
            master,
            addr,
            workers: Vec::new(),
            _dir: dir,
        };
        wait::until("nginx answering", wait::SOON, || TcpStream::connect(addr).is_ok());
        if !wrapper.is_empty() {
            nginx.workers = vec![nginx.master.id()];
            return nginx;
        }
        nginx.workers = wait::some("its workers", wait::SOON, || {
            Some(process::children(nginx.master.id())).filter(|found| found.len() == workers)
        });
        nginx
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The processes that do the work.
    pub(crate) fn workers(&self) -> &[u32] {
        &self.workers
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // TERM, not KILL: the master takes its workers along.
        if let Some(pid) = i32::try_from(self.master.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.master.wait();
    }
}

/// What `nginx -v` says.
pub(crate) fn version() -> String {
    let output = Command::new("nginx")
        .env("PATH", "/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
        .arg("-v")
        .output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stderr).into_owned())
        .unwrap_or_default();
    text.trim().trim_start_matches("nginx version: ").to_owned()
}

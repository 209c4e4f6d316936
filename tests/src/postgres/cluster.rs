//! A throw-away PostgreSQL server: made, started, stopped at will, and removed, even if the process that started it is killed.
//!
//! A shell stands between: it waits for its standard input to end, which happens when its parent dies in whatever way, then stops the server
//! and removes the folder. What even that leaves behind (the machine was switched off) the next start removes.

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const PREFIX: &str = "llm-proxy-test-postgres-";

/// How long a server may take to answer for the first time.
const START: Duration = Duration::from_secs(60);

/// Runs the server, and ends it with its own standard input. `$1` is the folder.
const KEEPER: &str = r#"folder=$1; shift
trap '' INT TERM HUP
"$@" >"$folder/log" 2>&1 &
server=$!
cat >/dev/null
kill -QUIT $server 2>/dev/null
wait $server
[ -e "$folder/keep" ] || rm -rf "$folder""#;

/// A server that lives as long as this does.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    user: User,
    port: u16,
    settings: Vec<String>,
    keeper: Option<Child>,
}

impl Cluster {
    /// Makes and starts a server: trust, UTF-8, no fsync, pg_stat_statements where it is installed, a port of its own on 127.0.0.1.
    ///
    /// # Errors
    /// One line that says what is missing and how to get it.
    pub fn start() -> Result<Self, String> {
        Self::with_settings(&[])
    }

    /// The same with further settings (`name=value`), for instance `max_connections=20`.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn with_settings(settings: &[&str]) -> Result<Self, String> {
        Self::with_files(settings, &[])
    }

    /// The same with files that only the server may read, such as `server.key`; settings find them in `../`, beside the data.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn with_files(settings: &[&str], files: &[(&str, &str)]) -> Result<Self, String> {
        remove_leftovers();
        let programs = programs().ok_or("no PostgreSQL found (initdb): apt-get install postgresql, or set DATABASE_URL to a running server")?;
        let user = User::find()?;
        let folder = std::env::temp_dir().join(format!("{PREFIX}{}-{}", std::process::id(), unique()));
        let made = std::fs::create_dir(&folder).and_then(|()| user.give(&folder));
        made.map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut cluster = Self {
            folder,
            programs,
            user,
            port: 0,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            keeper: None,
        };
        for (name, content) in files {
            let path = cluster.folder.join(name);
            let written = std::fs::write(&path, content)
                .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)))
                .and_then(|()| user.give(&path));
            written.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        cluster.init()?;
        cluster.run()?;
        Ok(cluster)
    }

    /// The superuser's URL of the database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Stops it at once, as a crash would: sessions break, nothing is written back.
    ///
    /// # Panics
    /// If it does not end.
    pub fn stop(&mut self) {
        // Without the folder there would be nothing to start again.
        std::fs::write(self.folder.join("keep"), "").unwrap();
        self.end();
        std::fs::remove_file(self.folder.join("keep")).unwrap();
    }

    /// Starts it again, on the same port.
    ///
    /// # Errors
    /// What its log says.
    pub fn restart(&mut self) -> Result<(), String> {
        self.run()
    }

    /// Hands a folder to the server's user, for instance for a tablespace.
    ///
    /// # Panics
    /// If that is not allowed.
    pub fn give(&self, folder: &Path) {
        self.user.give(folder).unwrap();
    }

    /// Its folder: data, log and socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn init(&self) -> Result<(), String> {
        let mut initdb = self.user.command(&self.programs.join("initdb"));
        initdb.args([
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--pgdata",
        ]);
        let output = initdb.arg(self.data()).output().map_err(|error| format!("initdb: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("initdb: {}", String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ")))
    }

    fn run(&mut self) -> Result<(), String> {
        let fixed = self.port;
        // Between finding a free port and using it another process may take it.
        for _ in 0..5 {
            if fixed == 0 {
                self.port = free_port().map_err(|error| format!("no free port: {error}"))?;
            }
            self.keeper = Some(self.spawn().map_err(|error| format!("sh: {error}"))?);
            let begun = Instant::now();
            while begun.elapsed() < START {
                if super::answers(&self.url()) {
                    return Ok(());
                }
                if !self.data().join("postmaster.pid").exists() && begun.elapsed() > Duration::from_secs(2) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            std::fs::write(self.folder.join("keep"), "").unwrap();
            self.end();
            std::fs::remove_file(self.folder.join("keep")).unwrap();
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        Err(format!("PostgreSQL does not start: {}", log.lines().last().unwrap_or("its log is empty")))
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut keeper = self.user.command(Path::new("/bin/sh"));
        keeper
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.folder)
            .arg(self.programs.join("postgres"));
        keeper.arg("-D").arg(self.data()).arg("-k").arg(&self.folder);
        let mut settings = vec![
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".into(),
            "max_connections=300".into(),
            "fsync=off".into(),
            "full_page_writes=off".into(),
            "shared_buffers=64MB".into(),
        ];
        if has_pg_stat_statements(&self.programs) {
            settings.push("shared_preload_libraries=pg_stat_statements".into());
            settings.push("pg_stat_statements.track_utility=on".into());
        }
        settings.extend(self.settings.iter().cloned());
        for setting in settings {
            keeper.arg("-c").arg(setting);
        }
        // A group of its own: Ctrl-C must not stop the server under tests that are still cleaning up.
        let keeper = keeper
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        std::fs::write(self.folder.join("keeper.pid"), keeper.id().to_string())?;
        Ok(keeper)
    }

    fn end(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// PostgreSQL refuses to run as root, so root becomes somebody else.
#[derive(Clone, Copy, Debug)]
struct User(Option<(u32, u32)>);

impl User {
    fn find() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self(None));
        }
        let users = std::fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
        let ids = |name: &str| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        let ids = ids("postgres").or_else(|| ids("nobody"));
        ids.map(|ids| Self(Some(ids)))
            .ok_or_else(|| "PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody".into())
    }

    fn give(self, folder: &Path) -> io::Result<()> {
        match self.0 {
            Some((user, group)) => std::os::unix::fs::chown(folder, Some(user), Some(group)),
            None => Ok(()),
        }
    }

    fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env("LC_ALL", "C");
        if let Some((user, group)) = self.0 {
            command.uid(user).gid(group);
        }
        command
    }
}

/// The folder of initdb and postgres: on PATH, or where Debian keeps them; the newest version of several.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).collect::<Vec<_>>();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = debian
        .filter_map(|version| Some((version.file_name().to_str()?.parse().ok()?, version.path().join("bin"))))
        .collect();
    versions.sort_unstable();
    let debian = versions.into_iter().rev().map(|(_, folder)| folder);
    // Through links, to where the libraries lie beside the programs.
    let real = |folder: PathBuf| Some(std::fs::canonicalize(folder.join("initdb")).ok()?.parent()?.to_owned());
    on_path
        .into_iter()
        .chain(debian)
        .filter_map(real)
        .find(|folder| folder.join("postgres").is_file())
}

/// One of PostgreSQL's own programs, such as pg_dump.
///
/// # Panics
/// In one line that says what to install.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let folder = programs().expect("PostgreSQL's programs: apt-get install postgresql");
    folder.join(name)
}

fn has_pg_stat_statements(programs: &Path) -> bool {
    let folders = ["../lib", "../lib/postgresql"].map(|folder| programs.join(folder));
    folders.iter().any(|folder| folder.join("pg_stat_statements.so").is_file())
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn unique() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Ends and removes what was left behind by runs that nobody could clean up after: their keeper is gone.
fn remove_leftovers() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let folder = entry.path();
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let number = |file: &Path| std::fs::read_to_string(file).ok()?.lines().next()?.trim().parse::<i32>().ok();
        let old = entry
            .metadata()
            .and_then(|data| data.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > Duration::from_secs(120)));
        // One that is just being made has no keeper yet.
        if !ours || !old || number(&folder.join("keeper.pid")).is_some_and(|keeper| runs_in(keeper, &folder)) {
            continue;
        }
        if let Some(server) = number(&folder.join("data/postmaster.pid")).filter(|server| runs_in(*server, &folder))
            && let Some(pid) = Pid::from_raw(server)
        {
            let _ = kill_process(pid, Signal::QUIT);
            let begun = Instant::now();
            while test_kill_process(pid).is_ok() && begun.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = std::fs::remove_dir_all(&folder);
    }
}

/// Whether a process lives and names the folder on its command line: process ids are used again.
fn runs_in(process: i32, folder: &Path) -> bool {
    let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(&*folder.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_stopped_started_again_and_leaves_nothing() {
        let mut cluster = Cluster::start().unwrap();
        let (url, folder) = (cluster.url(), cluster.folder().to_owned());
        super::super::execute_on(&url, "CREATE TABLE t (a BIGINT)");
        cluster.stop();
        assert!(!super::super::answers(&url));
        cluster.restart().unwrap();
        super::super::execute_on(&url, "INSERT INTO t VALUES (1)");
        drop(cluster);
        assert!(!super::super::answers(&url) && !folder.exists());
    }
}

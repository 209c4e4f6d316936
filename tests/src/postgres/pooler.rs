//! A real PgBouncer in transaction mode, in front of the server that DATABASE_URL names.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::Database;

/// A pooler that lives as long as this does.
#[derive(Debug)]
pub struct Pooler {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Pooler {
    /// Starts one in front of a database's server, with so many connections to it.
    ///
    /// # Panics
    /// In one line that says how to get it, if pgbouncer is not installed.
    #[must_use]
    pub fn start(database: &Database, connections: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = database.server_address();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let settings = format!(
            "[databases]\n* = host={} port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n\
            pool_mode = transaction\ndefault_pool_size = {connections}\nmax_client_conn = 500\nunix_socket_dir =\n",
            server.ip(),
            server.port()
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, settings).unwrap();
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.is_file());
        let program = program.expect("this test needs pgbouncer: apt-get install pgbouncer");
        let mut command = Command::new(program);
        command.arg("-q").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            // It refuses to run as root.
            use std::os::unix::fs::{PermissionsExt as _, chown};
            use std::os::unix::process::CommandExt as _;
            const NOBODY: u32 = 65_534;
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        let child = command.spawn().expect("pgbouncer runs");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let pooler = Self {
            child,
            address,
            _folder: folder,
        };
        crate::wait::until("pgbouncer answers", crate::wait::SOON, || super::answers(&database.url_through(address)));
        pooler
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

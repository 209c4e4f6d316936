//! PostgreSQL for tests: a database of a test's own on the server that DATABASE_URL names, and what may happen to it.
//! A server of a test's own, to be stopped at will, is `postgres::cluster`; what stands between is `postgres::wire` and `postgres::pooler`.

use std::str::FromStr as _;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

pub mod cluster;
pub mod pooler;
pub mod wire;

/// Created empty; dropped, with all its sessions, when this is.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// A database on the server that DATABASE_URL names.
    ///
    /// # Panics
    /// In one line that says how to get a server, if DATABASE_URL names none; if the server refuses.
    #[must_use]
    pub fn create() -> Self {
        Self::create_on(&server_url())
    }

    /// A database on another server, for instance one of a [`cluster::Cluster`]. The URL is that of a superuser.
    ///
    /// # Panics
    /// If the server refuses.
    #[must_use]
    pub fn create_on(server: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
        let name = format!("test_{}_{}_{nanos}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        execute_on(server, &format!("CREATE DATABASE {name}"));
        Self {
            server: server.to_owned(),
            name,
        }
    }

    /// The URL for DATABASE_URL or `--db`.
    #[must_use]
    pub fn url(&self) -> String {
        with_database(&self.server, &self.name)
    }

    /// The same through another address, such as a [`wire::Wire`]'s or a [`pooler::Pooler`]'s.
    #[must_use]
    pub fn url_through(&self, address: std::net::SocketAddr) -> String {
        let url = self.url();
        let (scheme, rest) = url.split_once("://").unwrap();
        let (authority, path) = rest.split_once('/').unwrap();
        let user = authority.rsplit_once('@').map(|(user, _)| format!("{user}@")).unwrap_or_default();
        format!("{scheme}://{user}{address}/{path}")
    }

    /// Its name on the server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the server listens.
    #[must_use]
    pub fn server_address(&self) -> std::net::SocketAddr {
        address_of(&self.server)
    }

    /// Runs one or several statements as the superuser.
    ///
    /// # Panics
    /// If one of them fails.
    pub fn execute(&self, sql: &str) {
        execute_on(&self.url(), sql);
    }

    /// The one number that a text selects, as BIGINT.
    ///
    /// # Panics
    /// If it selects none.
    #[must_use]
    pub fn number(&self, sql: &str) -> i64 {
        let sql = format!("SELECT CAST(n AS BIGINT) FROM ({sql}) AS numbers(n)");
        self.rows(&sql)[0].get(0)
    }

    /// The rows that a text selects, each column as text; NULL is empty.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn texts(&self, sql: &str) -> Vec<Vec<String>> {
        let sql = format!("SELECT to_jsonb(r)::text FROM ({sql}) AS r");
        let rows = self.rows(&sql);
        let row = |row: &PgRow| {
            let object: serde_json::Value = serde_json::from_str(row.get(0)).unwrap();
            let text = |value: &serde_json::Value| match value {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Null => String::new(),
                other => other.to_string(),
            };
            object.as_object().unwrap().values().map(text).collect()
        };
        rows.iter().map(row).collect()
    }

    fn rows(&self, sql: &str) -> Vec<PgRow> {
        let (url, sql) = (self.url(), sql.to_owned());
        blocking(async move {
            let mut connection = connect(&url).await;
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            rows
        })
    }

    /// Everything that is in it, as pg_dump writes it.
    ///
    /// # Panics
    /// If pg_dump fails.
    #[must_use]
    pub fn dump(&self) -> Vec<u8> {
        let mut command = std::process::Command::new(cluster::program("pg_dump"));
        let output = command.arg("--inserts").arg(self.url()).output().expect("pg_dump runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// What a failover does: ends every session of this database.
    pub fn terminate_backends(&self) {
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid()",
            self.name
        );
        execute_on(&self.server, &end);
    }

    /// From now on every session of this database is read-only, or not any more. Sessions that stand are ended.
    pub fn set_read_only(&self, on: bool) {
        let name = &self.name;
        execute_on(&self.server, &format!("ALTER DATABASE {name} SET default_transaction_read_only = {on}"));
        self.terminate_backends();
    }

    /// Lets nobody in (superusers neither) and ends every session: as good as a server that is away, for this database alone.
    pub fn set_away(&self, away: bool) {
        let (name, allowed) = (&self.name, !away);
        execute_on(&self.server, &format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {allowed}"));
        self.terminate_backends();
    }

    /// Moves the database's clock forward by so many milliseconds, for as long as the database lives. The database must be migrated.
    pub fn move_clock(&self, ms: i64) {
        self.execute(&format!(
            "CREATE OR REPLACE VIEW clock AS
                SELECT CAST(FLOOR(EXTRACT(EPOCH FROM statement_timestamp()) * 1000) AS BIGINT) + {ms} AS now_ms"
        ));
    }

    /// Starts counting statements of this database afresh.
    ///
    /// # Panics
    /// If the server has no pg_stat_statements preloaded.
    pub fn reset_statement_counts(&self) {
        self.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
        self.execute(&format!(
            "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = '{}'), 0)",
            self.name
        ));
    }

    /// Statements since then, with how often each was called; BEGIN and COMMIT count like any other.
    #[must_use]
    pub fn statement_counts(&self) -> Vec<(String, i64)> {
        let text = format!(
            "SELECT s.query, s.calls FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
            WHERE d.datname = '{}' AND s.query NOT LIKE '%pg_stat_statements%' ORDER BY s.calls DESC",
            self.name
        );
        self.rows(&text).iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, drop) = (self.server.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        // A server that the test has stopped takes its databases along.
        let _ = std::thread::spawn(move || execute_on(&server, &drop)).join();
    }
}

/// The server's URL, as a superuser.
///
/// # Panics
/// In one line that says how to get one, if DATABASE_URL names none.
#[must_use]
pub fn server_url() -> String {
    std::env::var("DATABASE_URL")
        .ok()
        .filter(|url| !url.is_empty())
        .unwrap_or_else(|| panic!("DATABASE_URL names no PostgreSQL server: run `make test`, which starts one, or set it yourself"))
}

/// Runs one or several statements at a URL.
///
/// # Panics
/// If one of them fails.
pub fn execute_on(url: &str, sql: &str) {
    let (url, sql) = (url.to_owned(), sql.to_owned());
    blocking(async move {
        let mut connection = connect(&url).await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

/// Whether somebody answers at a URL.
#[must_use]
pub fn answers(url: &str) -> bool {
    let url = url.to_owned();
    blocking(async move {
        // Without the startup parameter that a pooler refuses.
        let connect = PgConnectOptions::from_str(&url)
            .unwrap()
            .extra_float_digits(None)
            .disable_statement_logging();
        let Ok(mut connection) = connect.connect().await else { return false };
        sqlx::raw_sql("SELECT 1").execute(&mut connection).await.is_ok()
    })
}

async fn connect(url: &str) -> PgConnection {
    let options = PgConnectOptions::from_str(url).unwrap().disable_statement_logging();
    options.connect().await.unwrap()
}

/// Runs a future on a thread and a runtime of its own, so that it may be called from anywhere.
fn blocking<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn with_database(server: &str, name: &str) -> String {
    let (base, query) = server
        .split_once('?')
        .map_or((server, String::new()), |(base, query)| (base, format!("?{query}")));
    let (scheme, rest) = base.split_once("://").unwrap();
    let authority = rest.split('/').next().unwrap();
    format!("{scheme}://{authority}/{name}{query}")
}

fn address_of(url: &str) -> std::net::SocketAddr {
    use std::net::ToSocketAddrs as _;
    let options = PgConnectOptions::from_str(url).unwrap();
    (options.get_host(), options.get_port()).to_socket_addrs().unwrap().next().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_made_read_moved_shut_and_dropped() {
        let database = Database::create();
        database.execute("CREATE TABLE t (a BIGINT, b TEXT); INSERT INTO t VALUES (1, NULL), (2, 'x')");
        assert_eq!(database.number("SELECT SUM(a) FROM t"), 3);
        assert_eq!(database.texts("SELECT a, b FROM t ORDER BY a"), [["1", ""], ["2", "x"]]);
        database.set_read_only(true);
        assert_eq!(database.texts("SELECT current_setting('transaction_read_only') AS ro"), [["on"]]);
        database.set_read_only(false);
        database.set_away(true);
        assert!(!answers(&database.url()));
        database.set_away(false);
        assert!(answers(&database.url()));
        let (url, other) = (database.url(), database.url_through("127.0.0.1:7".parse().unwrap()));
        assert!(other.contains("127.0.0.1:7/") && other.ends_with(database.name()));
        drop(database);
        assert!(!answers(&url));
    }
}

//! A PostgreSQL database of a test's own, on the server that DATABASE_URL names.

use std::path::PathBuf;
use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

/// Created empty; dropped with its connections when the test ends.
pub(crate) struct PgDatabase {
    name: String,
    url: String,
    dumps: tempfile::TempDir,
}

impl PgDatabase {
    pub(crate) async fn create() -> Self {
        let name = format!("llm_proxy_{}", store::FleetId::new().to_string().replace('-', ""));
        administer(&format!("CREATE DATABASE {name}")).await;
        let server = server();
        let (base, query) = server
            .split_once('?')
            .map_or((server.as_str(), None), |(base, query)| (base, Some(query)));
        let (scheme, rest) = base.split_once("://").unwrap();
        let authority = rest.split('/').next().unwrap();
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let url = format!("{scheme}://{authority}/{name}{query}");
        Self {
            name,
            url,
            dumps: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A connection as the server's superuser.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnectOptions::from_str(&self.url).unwrap().connect().await.unwrap()
    }

    /// Every row of every table as text, in a file.
    pub(crate) async fn dump(&self) -> PathBuf {
        let mut connection = self.connect().await;
        let tables = sqlx::query("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        assert!(!tables.is_empty());
        let mut text = String::new();
        for table in tables {
            let table: String = table.get(0);
            let rows = AssertSqlSafe(format!("SELECT COALESCE(string_agg(t::text, E'\n'), '') FROM {table} t"));
            text += &sqlx::query(rows).fetch_one(&mut connection).await.unwrap().get::<String, _>(0);
        }
        std::fs::write(self.dumps.path().join("rows"), text).unwrap();
        self.dumps.path().to_owned()
    }
}

impl Drop for PgDatabase {
    fn drop(&mut self) {
        let text = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A runtime of its own: this one may be waiting for us.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(administer(&text));
        });
        assert!(dropped.join().is_ok() || std::thread::panicking());
    }
}

/// The server's URL.
pub(crate) fn server() -> String {
    std::env::var("DATABASE_URL")
        .ok()
        .filter(|url| !url.is_empty())
        .unwrap_or_else(|| panic!("DATABASE_URL names no PostgreSQL server: run `make test`, which starts one, or set it yourself"))
}

/// Runs a text on the server, outside any test's database.
pub(crate) async fn administer(text: &str) {
    let mut connection = PgConnectOptions::from_str(&server()).unwrap().connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

//! A PostgreSQL database of a test's own, on the server that DATABASE_URL names, made by that server's own tools.

use std::process::Command;

/// Created empty; dropped with its connections when the test ends.
pub(crate) struct PgDatabase {
    name: String,
    server: String,
}

impl PgDatabase {
    pub(crate) fn create() -> Self {
        let server = std::env::var("DATABASE_URL")
            .ok()
            .filter(|url| !url.is_empty())
            .unwrap_or_else(|| panic!("DATABASE_URL names no PostgreSQL server: run `make test`, which starts one, or set it yourself"));
        let name = format!("llm_proxy_cli_{}", uuid::Uuid::new_v4().simple());
        administer(&server, &format!("CREATE DATABASE {name}"));
        Self { name, server }
    }

    pub(crate) fn url(&self) -> String {
        let (base, query) = self.server.split_once('?').unwrap_or((&self.server, ""));
        let (scheme, rest) = base.split_once("://").unwrap();
        let authority = rest.split('/').next().unwrap();
        format!("{scheme}://{authority}/{}?{query}", self.name).trim_end_matches('?').to_owned()
    }
}

impl Drop for PgDatabase {
    fn drop(&mut self) {
        administer(&self.server, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

fn administer(server: &str, text: &str) {
    let output = Command::new("psql")
        .args([server, "-q", "-v", "ON_ERROR_STOP=1", "-c", text])
        .output()
        .unwrap();
    assert!(output.status.success() || std::thread::panicking(), "{output:?}");
}

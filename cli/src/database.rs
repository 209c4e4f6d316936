//! Which database a classic process works on, as flags and environment say; the same for every command that touches one.
//! It refuses to know what is in it.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::dotenv::variable;
use crate::exit::Failure;

/// Where the SQLite file is if nobody says.
pub(crate) const DEFAULT: &str = "data/llm-proxy.db";

/// A database that was chosen; nothing is opened yet.
pub(crate) enum Choice {
    /// A file.
    Sqlite(PathBuf),
    /// A server, by its URL, which holds a password.
    Postgres(SecretString),
}

impl Choice {
    /// `--db`, else `DATABASE_URL`, else `DATABASE_PATH`, else the default: a flag always wins, so that nobody migrates a fleet's database
    /// who has named a file.
    ///
    /// # Errors
    /// If `DATABASE_URL` is no PostgreSQL URL. It is not repeated.
    pub(crate) fn of(flag: Option<&Path>) -> Result<Self, Failure> {
        if let Some(path) = flag {
            return Ok(Self::Sqlite(path.to_owned()));
        }
        if let Some(url) = variable("DATABASE_URL") {
            return postgres(url);
        }
        let path = std::env::var_os("DATABASE_PATH").filter(|path| !path.is_empty());
        Ok(Self::Sqlite(path.map_or_else(|| PathBuf::from(DEFAULT), PathBuf::from)))
    }
}

fn postgres(url: SecretString) -> Result<Choice, Failure> {
    let text = url.expose_secret();
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Ok(Choice::Postgres(url));
    }
    Err(Failure::new(
        "DATABASE_URL is no PostgreSQL URL: expected postgres://USER:PASSWORD@HOST/DATABASE; for SQLite leave it out and give --db",
    ))
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "SQLite {}", path.display()),
            Self::Postgres(_) => f.write_str("PostgreSQL of DATABASE_URL"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_another_database_is_refused_without_its_password() {
        let failure = postgres("mysql://u:canary@h/d".into()).err().unwrap();
        assert!(!failure.report().contains("canary"), "{}", failure.report());
        assert!(matches!(postgres("postgres://h/d".into()), Ok(Choice::Postgres(_))));
    }

    #[test]
    fn a_database_is_named_without_its_password() {
        assert_eq!(
            Choice::Postgres("postgres://u:canary@h/d".into()).to_string(),
            "PostgreSQL of DATABASE_URL"
        );
        assert_eq!(Choice::Sqlite("a/b.db".into()).to_string(), "SQLite a/b.db");
    }
}

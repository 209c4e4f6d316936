//! What can go wrong with the database, sorted by what the caller can do about it.

/// The result of a call to the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// An error of the store. None of its messages holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or is busy: try again.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// It answers, but refuses writes.
    #[error("the database is read-only: {0}")]
    ReadOnly(String),
    /// No space left for the database.
    #[error("no space left for the database: {0}")]
    Full(String),
    /// It belongs to another fleet.
    #[error("the database belongs to fleet {owner}, not to {claimant}: give each fleet a database of its own (standalone: another --data-dir)")]
    Conflict {
        /// Who claimed it first.
        owner: String,
        /// Who tried now.
        claimant: String,
    },
    /// The key-check value does not open: the key is wrong or lost.
    #[error("the encryption key {key_id} does not open this database: restore the key it was created with")]
    WrongKey {
        /// The key id that was tried.
        key_id: String,
    },
    /// The schema is outside what this binary reads and writes.
    #[error("the database's schema is version {found}, this binary knows up to {known}: upgrade llm-proxy")]
    SchemaTooNew {
        /// The database's version.
        found: i64,
        /// The newest version of this binary.
        known: i64,
    },
    /// The tables or the rows of the fleet are not there (any more): nothing read from it before may be trusted.
    #[error("the fleet is not in the database any more, which was emptied or created anew: {0}")]
    Gone(String),
    /// A newer leader has taken over.
    #[error("fenced: a newer operator leads this fleet")]
    Fenced,
    /// The row that was to be changed is not there (any more).
    #[error("{what} does not exist")]
    NotFound {
        /// Kind and name of what is missing.
        what: String,
    },
    /// A stored value cannot be understood.
    #[error("the database holds an unreadable {what}: {why}")]
    Corrupt {
        /// Table and column.
        what: &'static str,
        /// Why it cannot be read.
        why: String,
    },
    /// Any other answer of the database; a bug or a broken file.
    #[error("the database refused: {0}")]
    Refused(String),
}

impl StoreError {
    /// The same error with the path of the file that it is about.
    pub(crate) fn about(self, path: &std::path::Path) -> Self {
        self.at(&path.display().to_string())
    }

    /// The same error with the place that it is about: a file, or a server's address.
    pub(crate) fn at(self, place: &str) -> Self {
        match self {
            Self::Unavailable(why) => Self::Unavailable(format!("{place}: {why}")),
            Self::ReadOnly(why) => Self::ReadOnly(format!("{place}: {why}")),
            Self::Full(why) => Self::Full(format!("{place}: {why}")),
            Self::Refused(why) => Self::Refused(format!("{place}: {why}")),
            Self::Gone(why) => Self::Gone(format!("{place}: {why}")),
            other => other,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    /// Sorts by what the caller can do. Messages of SQLite and the primary messages of PostgreSQL name tables and columns, never bound
    /// values; PostgreSQL's DETAIL quotes rows, and is left out.
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match error {
            E::Database(error) => match error.try_downcast::<sqlx::sqlite::SqliteError>() {
                Ok(error) => from_sqlite(&error),
                Err(error) => match error.try_downcast::<sqlx::postgres::PgDatabaseError>() {
                    Ok(error) => from_postgres(error.code(), error.message()),
                    Err(error) => Self::Refused(error.to_string()),
                },
            },
            E::ColumnDecode { index, source } => Self::Corrupt {
                what: "column",
                why: format!("{index}: {source}"),
            },
            E::PoolTimedOut => Self::Unavailable("no connection came free in time".into()),
            E::Io(error) => from_io(&error),
            E::Tls(error) => Self::Refused(format!("TLS: {error}: check sslmode and sslrootcert of the database URL")),
            // A conversation that ended in the middle, or that was never PostgreSQL's.
            E::Protocol(why) => Self::Unavailable(format!("unexpected answer, is this PostgreSQL? {why}")),
            error @ (E::PoolClosed | E::WorkerCrashed | E::BeginFailed) => Self::Unavailable(error.to_string()),
            error => Self::Refused(error.to_string()),
        }
    }
}

fn from_io(error: &std::io::Error) -> StoreError {
    use std::io::ErrorKind as K;
    match error.kind() {
        K::PermissionDenied | K::ReadOnlyFilesystem => StoreError::ReadOnly(error.to_string()),
        K::StorageFull | K::QuotaExceeded => StoreError::Full(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// Primary result codes of SQLite (sqlite.org/rescode.html); an extended code holds its primary in the low byte.
fn from_sqlite(error: &sqlx::sqlite::SqliteError) -> StoreError {
    const READONLY_DBMOVED: i32 = 1032;
    let code: i32 = sqlx::error::DatabaseError::code(error).and_then(|code| code.parse().ok()).unwrap_or(1);
    let message = error.to_string();
    if code == READONLY_DBMOVED {
        return StoreError::Refused(format!("the file was moved or deleted while it was open, restart: {message}"));
    }
    match code & 0xff {
        5 | 6 | 7 | 9 | 10 | 14 => StoreError::Unavailable(message), // BUSY LOCKED NOMEM INTERRUPT IOERR CANTOPEN
        3 | 8 | 23 => StoreError::ReadOnly(message),                 // PERM READONLY AUTH
        13 => StoreError::Full(message),                             // FULL
        11 => StoreError::Refused(format!("the file is damaged, restore a copy: {message}")), // CORRUPT
        26 => StoreError::Refused(format!("the file is no SQLite database: {message}")), // NOTADB
        _ => StoreError::Refused(message),
    }
}

/// SQLSTATE codes (postgresql.org/docs/current/errcodes-appendix.html).
fn from_postgres(code: &str, message: &str) -> StoreError {
    let message = format!("{} (SQLSTATE {code})", message.replace('\n', " "));
    match code {
        // A server in recovery, or `default_transaction_read_only`.
        "25006" => StoreError::ReadOnly(format!("{message}: point the database URL at the primary")),
        "53100" => StoreError::Full(message),
        "42P01" => StoreError::Gone(message),
        "28P01" | "28000" => StoreError::Refused(format!("{message}: check user and password of the database URL, and pg_hba.conf")),
        "3D000" => StoreError::Refused(format!("{message}: create it first")),
        "3F000" => StoreError::Refused(format!("{message}: create the schema that search_path names first")),
        "42501" => StoreError::Refused(format!("{message}: grant it to the role of the database URL")),
        // Serialization, deadlock, a lock or a statement that took too long, an idle transaction that was ended, and a database that takes no
        // connections at this moment.
        "40001" | "40P01" | "55000" | "55P03" | "57014" | "25P03" | "58030" => StoreError::Unavailable(message),
        // Connections, resources (too many connections, out of memory), shutdown and recovery.
        _ if code.starts_with("08") || code.starts_with("53") || code.starts_with("57P") => StoreError::Unavailable(message),
        "XX001" | "XX002" => StoreError::Refused(format!("the database is damaged, restore a copy: {message}")),
        _ => StoreError::Refused(message),
    }
}

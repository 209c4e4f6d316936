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
        let path = path.display();
        match self {
            Self::Unavailable(why) => Self::Unavailable(format!("{path}: {why}")),
            Self::ReadOnly(why) => Self::ReadOnly(format!("{path}: {why}")),
            Self::Full(why) => Self::Full(format!("{path}: {why}")),
            Self::Refused(why) => Self::Refused(format!("{path}: {why}")),
            other => other,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    /// Sorts by what the caller can do. Messages of SQLite name tables and columns, never bound values.
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match error {
            E::Database(error) => match error.try_downcast::<sqlx::sqlite::SqliteError>() {
                Ok(error) => from_sqlite(&error),
                Err(error) => Self::Refused(error.to_string()),
            },
            E::ColumnDecode { index, source } => Self::Corrupt {
                what: "column",
                why: format!("{index}: {source}"),
            },
            E::PoolTimedOut => Self::Unavailable("no connection came free in time".into()),
            E::Io(error) => from_io(&error),
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

//! The data directory of one standalone process: its lock, and the two secrets that are made once and never again.
//! It refuses to know what the database and the issued secrets hold.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use store::SealingKey;
use zeroize::Zeroizing;

use crate::private_file::{Lock, LockError, read_secret, write_secret};

/// The database's file in `dir`.
pub(crate) fn database_path(dir: &Path) -> PathBuf {
    dir.join("llm-proxy.db")
}

/// A data directory that belongs to this process until it is dropped or the process dies.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: Lock,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    /// Another process holds the lock.
    #[error("data directory {dir} is in use by another llm-proxy{holder}: stop that one, or give --data-dir another directory")]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// ` (process 123)` where known.
        holder: String,
    },
    /// The file system refused.
    #[error("cannot {act} {path}: {error}: {}", remedy(error))]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// The database is there, the key that sealed it is not.
    #[error("{key} is missing, but {database} was sealed with it: restore the key file (a new key could not open the stored provider keys)")]
    KeyLost {
        /// The key file.
        key: PathBuf,
        /// The database.
        database: PathBuf,
    },
    /// The database's file is there, but everything that was in it is not.
    #[error("{database} is empty, though keys were issued from it: restore it, or begin anew with another --data-dir")]
    DatabaseEmpty {
        /// The database.
        database: PathBuf,
    },
    /// A secret's file does not hold what it should.
    #[error("{path} is not usable: {why}: restore the file")]
    BadSecret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without its content.
        why: &'static str,
    },
}

impl DataDir {
    /// Creates the directory if need be (0700) and locks it. Fails at once if another process holds it.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        let io = io_error;
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create", path))?;
        let lock_path = path.join("lock");
        let lock = Lock::take(&lock_path).map_err(|error| match error {
            LockError::Held(holder) => DataDirError::InUse {
                dir: path.to_owned(),
                holder,
            },
            LockError::Io(error) => io("lock", &lock_path)(error),
        })?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the disk takes no more: tried, because reserved blocks and quotas make every figure of free space a guess.
    pub(crate) fn is_full(&self) -> bool {
        let probe = self.path.join("probe.new");
        let written = std::fs::write(&probe, [1u8; 64 << 10].as_slice());
        drop(std::fs::remove_file(&probe));
        written.is_err_and(|error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// The key that seals provider keys: made at the first start, afterwards only read. Without it an existing database is refused.
    pub(crate) fn sealing_key(&self) -> Result<SealingKey, DataDirError> {
        let path = self.path.join("encryption.key");
        let database = database_path(&self.path);
        if let Some(text) = read(&path)? {
            self.check_not_emptied(&database)?;
            return SealingKey::from_base64(&text).map_err(|why| DataDirError::BadSecret { path, why });
        }
        if database.exists() {
            return Err(DataDirError::KeyLost { key: path, database });
        }
        let key = SealingKey::generate();
        write_secret(&path, &key.to_base64()).map_err(io_error("write", &path))?;
        Ok(key)
    }

    /// The file with the token that opens `/manage`.
    pub(crate) fn management_token(&self) -> PathBuf {
        self.path.join("management-token")
    }

    /// An empty file is what a killed first start leaves; behind a start that came as far as the folder of issued keys it was emptied.
    fn check_not_emptied(&self, database: &Path) -> Result<(), DataDirError> {
        let empty = std::fs::metadata(database).is_ok_and(|found| found.len() == 0);
        if empty && self.path.join("secrets").exists() {
            return Err(DataDirError::DatabaseEmpty {
                database: database.to_owned(),
            });
        }
        Ok(())
    }

    /// Makes the management token's file at the first start: 256 random bits, base64url.
    pub(crate) fn ensure_management_token(&self) -> Result<(), DataDirError> {
        let path = self.management_token();
        if let Some(text) = read(&path)? {
            let empty = text.trim().is_empty();
            return if empty {
                Err(DataDirError::BadSecret { path, why: "it is empty" })
            } else {
                Ok(())
            };
        }
        let mut random = Zeroizing::new([0u8; 32]);
        getrandom::fill(random.as_mut_slice()).map_err(|error| io_error("make", &path)(io::Error::other(error)))?;
        write_secret(&path, &SecretString::from(URL_SAFE_NO_PAD.encode(random.as_slice()))).map_err(io_error("write", &path))
    }
}

/// What to do about an error of the file system.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space, or give --data-dir a directory on another disk",
        _ => "give --data-dir a directory that this user can write",
    }
}

fn io_error(act: &'static str, path: &Path) -> impl Fn(io::Error) -> DataDirError + use<> {
    let path = path.to_owned();
    move |error| DataDirError::Io {
        act,
        path: path.clone(),
        error,
    }
}

fn read(path: &Path) -> Result<Option<Zeroizing<String>>, DataDirError> {
    read_secret(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => DataDirError::BadSecret {
            path: path.to_owned(),
            why: "it is not text",
        },
        _ => io_error("read", path)(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn secrets_are_made_once_and_only_their_owner_reads_them() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(&root.path().join("a/b")).unwrap();
        dir.sealing_key().unwrap();
        dir.ensure_management_token().unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let (key, token) = (read("encryption.key"), read("management-token"));
        dir.sealing_key().unwrap();
        dir.ensure_management_token().unwrap();
        assert_eq!((read("encryption.key"), read("management-token")), (key, token));
        assert_eq!(mode(&dir.path().join("encryption.key")), 0o600);
        assert_eq!(mode(&dir.path().join("management-token")), 0o600);
        assert_eq!(mode(dir.path()), 0o700);
    }

    #[test]
    fn a_half_written_key_of_a_killed_start_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("encryption.new"), "half").unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        dir.sealing_key().unwrap();
        assert!(!root.path().join("encryption.new").exists());
        dir.sealing_key().unwrap();
    }

    #[test]
    fn a_directory_has_one_process_and_the_second_learns_which() {
        let root = tempfile::tempdir().unwrap();
        let first = DataDir::open(root.path()).unwrap();
        let error = DataDir::open(root.path()).unwrap_err();
        assert!(
            matches!(&error, DataDirError::InUse { holder, .. } if holder.contains(&std::process::id().to_string())),
            "{error}"
        );
        drop(first);
        DataDir::open(root.path()).unwrap();
    }

    #[test]
    fn a_database_without_its_key_is_an_error_and_no_key_is_made() {
        let root = tempfile::tempdir().unwrap();
        fs::write(database_path(root.path()), "").unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        assert!(matches!(dir.sealing_key(), Err(DataDirError::KeyLost { .. })));
        assert!(!root.path().join("encryption.key").exists());
    }

    #[test]
    fn a_key_that_is_no_key_is_refused_without_showing_it() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("encryption.key"), "c2hvcnQ=\n").unwrap();
        let dir = DataDir::open(root.path()).unwrap();
        let error = dir.sealing_key().err().unwrap();
        assert!(
            matches!(error, DataDirError::BadSecret { .. }) && !error.to_string().contains("c2hvcnQ"),
            "{error}"
        );
    }
}

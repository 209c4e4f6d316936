//! The `.env` files under DIR/secrets: read, replaced and deleted, each only if it still is what was seen.
//! It refuses to know whose a file is and whether its token lives.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crds::SecretFormat;
use sha2::{Digest, Sha256};
use store::TokenValue;
use uuid::Uuid;

use crate::effect::{SecretVersion, SecretWrite};
use crate::observed::{SecretContent, SecretSeen};

const KEY: &str = "OPENAI_API_KEY";
const BASE_URL: &str = "OPENAI_BASE_URL";
/// What the file always holds, whatever `secret.formats` says.
pub(super) const FORMATS: [SecretFormat; 1] = [SecretFormat::OpenAI];
/// Files that a dead process left behind; the data directory is locked, so no other process is writing one.
const TEMPORARY: &str = ".writing-";
/// Larger than any file of ours.
const MAX_FILE: u64 = 64 * 1024;

/// The folder of the `.env` files.
#[derive(Clone, Debug)]
pub(super) struct EnvDir {
    dir: PathBuf,
}

impl EnvDir {
    /// Opens (and makes) DIR/secrets and clears what an interrupted write left there. Blocking.
    pub(super) fn open(data_dir: &Path) -> io::Result<Self> {
        let dir = data_dir.join("secrets");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { dir })
    }

    /// Where the Secret of a name lands. A namespace holds no dot, so no two Secrets meet.
    pub(super) fn path(&self, namespace: &str, name: &str) -> PathBuf {
        self.dir.join(format!("{namespace}.{name}.env"))
    }

    /// What stands there now. Blocking, and short.
    pub(super) fn read(&self, namespace: &str, name: &str) -> SecretSeen {
        match read(&self.path(namespace, name)) {
            Ok(Some(text)) => SecretSeen::Present(content(&text)),
            Ok(None) => SecretSeen::Absent,
            Err(error) => SecretSeen::Unreadable(error.to_string()),
        }
    }

    /// Replaces a file in one step, if it still is what was expected. Returns whether it was. Blocking until it is on the disk.
    pub(super) fn write(&self, namespace: &str, write: &SecretWrite) -> io::Result<bool> {
        let path = self.path(namespace, &write.name);
        let temporary = self.dir.join(format!("{TEMPORARY}{}", Uuid::new_v4()));
        let written = self.put(&temporary, &path, write);
        if !matches!(written, Ok(true)) {
            drop(fs::remove_file(&temporary));
        }
        written
    }

    fn put(&self, temporary: &Path, path: &Path, write: &SecretWrite) -> io::Result<bool> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        file.write_all(format!("{KEY}={}\n{BASE_URL}={}\n", write.value.expose(), write.base_url).as_bytes())?;
        file.sync_all()?;
        match &write.expect {
            // A link, unlike a rename, fails where something has come to stand.
            None => match fs::hard_link(temporary, path) {
                Ok(()) => fs::remove_file(temporary)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
                Err(error) => return Err(error),
            },
            Some(expected) => {
                if !stands(path, expected)? {
                    return Ok(false);
                }
                fs::rename(temporary, path)?;
            }
        }
        self.sync()?;
        Ok(true)
    }

    /// Deletes a file, if it still is what was expected. Returns whether it was. Blocking until it is off the disk.
    pub(super) fn delete(&self, namespace: &str, name: &str, expected: &SecretVersion) -> io::Result<bool> {
        let path = self.path(namespace, name);
        if !stands(&path, expected)? {
            return Ok(false);
        }
        fs::remove_file(&path)?;
        self.sync()?;
        Ok(true)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

fn stands(path: &Path, expected: &SecretVersion) -> io::Result<bool> {
    Ok(read(path)?.is_some_and(|text| version(&text) == *expected))
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "something else than a small regular file stands there; remove it",
        ));
    }
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn version(bytes: &[u8]) -> SecretVersion {
    SecretVersion(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The last line of a name counts, as a shell reads it. What is not a token of ours is none.
fn content(bytes: &[u8]) -> SecretContent {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let last = |name: &str| text.lines().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    SecretContent {
        version: version(bytes),
        formats: if last(KEY).is_some() { FORMATS.to_vec() } else { Vec::new() },
        value: last(KEY).and_then(|value| TokenValue::parse(value).ok()),
        base_url: last(BASE_URL).map(str::to_owned),
        owned: None,
        is_ours: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn write(value: &TokenValue, expect: Option<SecretVersion>) -> SecretWrite {
        SecretWrite {
            name: "web".to_owned(),
            value: value.clone(),
            base_url: "http://127.0.0.1:1/v1".to_owned(),
            formats: FORMATS.to_vec(),
            owned: true,
            repair: false,
            expect,
        }
    }

    fn seen(dir: &EnvDir) -> SecretContent {
        match dir.read("default", "web") {
            SecretSeen::Present(content) => content,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_is_two_lines_for_its_owner_only_and_reads_back() {
        let data = tempfile::tempdir().unwrap();
        let dir = EnvDir::open(data.path()).unwrap();
        let value = TokenValue::mint();
        assert!(dir.write("default", &write(&value, None)).unwrap());
        let path = data.path().join("secrets/default.web.env");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            format!("OPENAI_API_KEY={}\nOPENAI_BASE_URL=http://127.0.0.1:1/v1\n", value.expose())
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(data.path().join("secrets")).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(seen(&dir).value == Some(value));
        assert_eq!(seen(&dir).base_url.as_deref(), Some("http://127.0.0.1:1/v1"));
    }

    #[test]
    fn what_changed_since_it_was_seen_is_neither_replaced_nor_deleted() {
        let data = tempfile::tempdir().unwrap();
        let dir = EnvDir::open(data.path()).unwrap();
        let value = TokenValue::mint();
        assert!(dir.write("default", &write(&value, None)).unwrap());
        assert!(!dir.write("default", &write(&TokenValue::mint(), None)).unwrap(), "it exists now");
        let before = seen(&dir).version;
        fs::write(data.path().join("secrets/default.web.env"), "MINE=1\n").unwrap();
        assert!(!dir.write("default", &write(&value, Some(before.clone()))).unwrap());
        assert!(!dir.delete("default", "web", &before).unwrap());
        let now = seen(&dir);
        assert!(now.value.is_none() && now.base_url.is_none());
        assert!(dir.write("default", &write(&value, Some(now.version))).unwrap());
        assert!(dir.delete("default", "web", &seen(&dir).version).unwrap());
        assert!(matches!(dir.read("default", "web"), SecretSeen::Absent));
        assert_eq!(fs::read_dir(data.path().join("secrets")).unwrap().count(), 0, "no temporary file is left");
    }

    #[test]
    fn what_is_no_small_regular_file_is_not_followed() {
        let data = tempfile::tempdir().unwrap();
        let dir = EnvDir::open(data.path()).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", data.path().join("secrets/default.web.env")).unwrap();
        assert!(matches!(dir.read("default", "web"), SecretSeen::Unreadable(_)));
    }

    #[test]
    fn an_interrupted_write_leaves_nothing_for_the_next_process() {
        let data = tempfile::tempdir().unwrap();
        EnvDir::open(data.path()).unwrap();
        fs::write(data.path().join("secrets/.writing-x"), "half").unwrap();
        let dir = EnvDir::open(data.path()).unwrap();
        assert!(!data.path().join("secrets/.writing-x").exists());
        assert!(matches!(dir.read("default", "web"), SecretSeen::Absent));
    }

    #[test]
    fn the_last_line_of_a_name_counts() {
        let (first, second) = (TokenValue::mint(), TokenValue::mint());
        let text = format!("# mine\nOPENAI_API_KEY={}\nOPENAI_API_KEY={}\n", first.expose(), second.expose());
        assert!(content(text.as_bytes()).value == Some(second));
        assert!(content(b"OPENAI_API_KEY=\xff").value.is_none());
    }
}
